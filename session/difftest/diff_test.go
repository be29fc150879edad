package difftest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

func TestStoresDoTheSame(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) store{
		"sqlite":           openSQLite,
		"postgres":         func(t testing.TB) store { return openPostgres(t, false) },
		"postgres, cached": func(t testing.TB) store { return openPostgres(t, true) },
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); compare(t, open) })
	}
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		compare(t, func(t testing.TB) store { return openMySQL(t, srv) })
	})
}

// steps is how many calls a sequence has. A failure prints the last ones.
const steps, shown = 150, 25

func compare(t *testing.T, open func(testing.TB) store) {
	for range rounds.Of(16) {
		seed := rand.Uint64()
		right, other := &side{s: openMemory(t)}, &side{s: open(t)}
		c := newChooser(seed, right)
		var told []string
		for range steps {
			call := c.next()
			a, b := right.do(t.Context(), call), other.do(t.Context(), call)
			told = append(told, fmt.Sprintf("%s\n    %s", call, a))
			if a == b {
				continue
			}
			t.Errorf("seed %d: memstore and the other differ in the last of these:\n%s\n    %s", seed, strings.Join(told[max(0, len(told)-shown):], "\n"), b)
			break
		}
	}
}

// call is what both sides do.
type call struct {
	what       string
	slot, from int // of sessions; -1 is one of which there never was a session
	more       []int
	rec        session.Record // without a key where the slot's counts
	stale      bool           // whether the version is another one
	grace      time.Duration
	limit      session.UserLimit
	user       string
}

func (c call) String() string {
	return fmt.Sprintf("%s %d from %d with %d: key %s of hour %d, user %q, data %d, expires %v, deadline %v, stale %t, grace %v, limit %+v",
		c.what, c.slot, c.from, c.more, c.rec.Key, c.rec.Key.Bucket, c.rec.User, len(c.rec.Data), c.rec.Expires, c.rec.Deadline, c.stale, c.grace, c.limit)
}

// chooser chooses calls. At most one thing is wrong with each, as of several errors
// a store may tell any.
type chooser struct {
	*rand.Rand
	right *side
	base  time.Time
	keys  []session.Key // by slot
}

func newChooser(seed uint64, right *side) *chooser {
	return &chooser{Rand: rand.New(rand.NewPCG(seed, 1)), right: right, base: right.s.Now().Truncate(time.Second)}
}

var users = []string{"", "ada", "bob"}

func pick[T any](c *chooser, of ...T) T { return of[c.IntN(len(of))] }

// known is a slot, or -1.
func (c *chooser) known() int {
	if len(c.keys) == 0 || c.IntN(20) == 0 {
		return -1
	}
	return len(c.keys) - 1 - min(c.IntN(len(c.keys)), c.IntN(len(c.keys))) // rather a new one
}

// fresh makes a session to be, in a slot of its own.
func (c *chooser) fresh() (slot int, rec session.Record) {
	rec.Deadline = c.base.Add(pick(c, 2*time.Hour, 3*time.Hour, 48*time.Hour, 300*time.Hour))
	rec.User, rec.Data = pick(c, users...), pick(c, nil, []byte("a"), []byte("bb"))
	if c.IntN(2) == 0 {
		rec.Expires = c.base.Add(90 * time.Minute)
	}
	if c.IntN(3) == 0 {
		rec.Key = session.ForeignKey("difftest", fmt.Sprint(c.Uint64()))
	} else {
		rec.Key = session.NewID(rec.Deadline).Key()
	}
	c.keys = append(c.keys, rec.Key)
	return len(c.keys) - 1, rec
}

// spoil makes one thing wrong with a session to be.
func (c *chooser) spoil(rec session.Record) session.Record {
	if c.IntN(4) > 0 {
		return rec
	}
	switch c.IntN(9) {
	case 0:
		rec.User = "a\xff"
	case 1:
		rec.User = "a\x00"
	case 2:
		rec.User = strings.Repeat("u", 300)
	case 3:
		rec.Data = make([]byte, 3<<20)
	case 4:
		rec.Key = session.Key{}
	case 5:
		rec.Key.Bucket += int32(pick(c, 1, -1))
		if rec.Key.Bucket <= 1 { // a foreign one
			rec.Key.Bucket = 7
		}
	case 6:
		if rec.Key.Bucket != 0 { // else it depends on when it is put
			rec.Deadline, rec.Expires = time.Time{}, time.Time{}
		}
	case 7:
		rec.Deadline = c.base.Add(pick(c, -time.Hour, 40*24*time.Hour))
		rec.Expires = time.Time{}
		if rec.Key.Bucket != 0 {
			rec.Key = session.NewID(rec.Deadline).Key()
		}
	case 8:
		rec.Expires = pick(c, c.base.Add(-time.Minute), rec.Deadline.Add(time.Hour))
	}
	c.keys[len(c.keys)-1] = rec.Key
	return rec
}

func (c *chooser) next() call {
	switch kind := c.IntN(100); {
	case kind < 20 || len(c.keys) == 0:
		slot, rec := c.fresh()
		one := call{what: pick(c, "create", "create", "put", "create limited"), slot: slot, from: -1, rec: c.spoil(rec)}
		if one.what == "create limited" {
			one.limit = session.UserLimit{Max: pick(c, 0, 1, 2, 3), Evict: c.IntN(2) == 0}
			if one.rec.User == "" {
				one.limit = session.UserLimit{}
			}
		}
		return one
	case kind < 40: // of a session that is there
		one := call{what: pick(c, "save", "put"), slot: c.known(), from: -1}
		one.rec = c.right.last(one.slot)
		one.rec.Data = pick(c, nil, []byte("ccc"), []byte("dddd"))
		one.rec.Expires = pick(c, time.Time{}, c.base.Add(time.Hour), c.base.Add(400*time.Hour), c.base.Add(-time.Minute))
		if one.rec.Deadline.IsZero() {
			one.rec.Deadline = c.base.Add(2 * time.Hour)
		}
		if c.right.live(one.slot) {
			switch c.IntN(8) {
			case 0:
				one.stale = one.what == "save"
			case 1:
				one.rec.User = pick(c, "eve", "", "ada")
			}
		}
		return one
	case kind < 50:
		return call{what: "touch", slot: c.known(), from: -1, rec: session.Record{
			Expires: pick(c, c.base.Add(-time.Hour), c.base.Add(100*time.Minute), c.base.Add(1000*time.Hour), time.Time{})}}
	case kind < 65:
		from := c.known()
		slot, rec := c.fresh()
		one := call{what: pick(c, "renew", "renew limited"), slot: slot, from: from, rec: rec, grace: pick(c, 0, time.Minute, session.MaxGrace)}
		if one.what == "renew limited" && rec.User != "" && c.right.live(from) {
			one.limit = session.UserLimit{Max: pick(c, 1, 2, 3), Evict: c.IntN(2) == 0}
		}
		wrong := c.IntN(8)
		if wrong < 4 {
			one.limit = session.UserLimit{}
		}
		switch wrong {
		case 0:
			one.stale = c.right.live(from)
		case 1:
			one.grace = pick(c, -1, session.MaxGrace+1)
		case 2:
			if c.right.live(from) {
				c.keys, one.slot = c.keys[:slot], from
				one.rec.Key, one.rec.Deadline, one.rec.Expires = c.right.last(from).Key, c.right.last(from).Deadline, time.Time{}
			}
		case 3:
			if c.right.live(from) {
				one.rec = c.spoil(rec)
			}
		}
		return one
	case kind < 72:
		return call{what: "destroy", slot: c.known(), from: -1, more: []int{c.known(), c.known()}[:c.IntN(3)]}
	case kind < 76:
		return call{what: "destroy user", slot: -1, from: -1, more: []int{c.known(), c.known()}[:c.IntN(3)], user: pick(c, "ada", "bob", "", "a\xff")}
	case kind < 77:
		return call{what: "clear", slot: -1, from: -1}
	case kind < 85:
		return call{what: pick(c, "list user", "count user", "len", "keys", "all"), slot: -1, from: -1, user: pick(c, "ada", "bob", "", "a\x00", strings.Repeat("u", 300))}
	case kind < 92:
		return call{what: "fate", slot: c.known(), from: -1}
	default:
		return call{what: "get", slot: c.known(), from: -1}
	}
}

// side is a store, with what it has told.
type side struct {
	s    store
	recs []session.Record // by slot, as it was told last
}

func (d *side) last(slot int) session.Record {
	if slot < 0 || slot >= len(d.recs) {
		return session.Record{Key: unknown}
	}
	return d.recs[slot]
}

// live reports whether a session is live, and still of the version that was told.
func (d *side) live(slot int) bool {
	if slot < 0 {
		return false
	}
	last := d.last(slot)
	now, err := d.s.Get(context.Background(), last.Key)
	return err == nil && now.Key.Hash == last.Key.Hash && now.Version == last.Version
}

// unknown is a key of which there never was a session.
var unknown = session.ForeignKey("difftest", "unknown")

func (d *side) key(slot int) session.Key { return d.last(slot).Key }

func (d *side) keysOf(slots []int) (keys []session.Key) {
	for _, slot := range slots {
		keys = append(keys, d.key(slot))
	}
	return keys
}

// do does c and says what came of it, in words that are the same for all stores.
func (d *side) do(ctx context.Context, c call) string {
	rec := c.rec
	for len(d.recs) <= c.slot {
		d.recs = append(d.recs, session.Record{})
	}
	if c.slot >= 0 && d.recs[c.slot].Key.IsZero() {
		d.recs[c.slot].Key = rec.Key
	}
	version := d.last(c.slot).Version
	if c.from >= 0 || c.what == "renew" || c.what == "renew limited" {
		version = d.last(c.from).Version
	}
	if rec.Version = version; c.stale {
		rec.Version++
	}
	became := func(got session.Record, err error) string {
		if err != nil {
			return d.failed(err)
		}
		changed := got.Version != version
		if c.slot >= 0 {
			if c.what != "get" {
				d.recs[c.slot] = got
			} else if got.Key.Hash == d.recs[c.slot].Key.Hash {
				d.recs[c.slot] = got
			}
		}
		return fmt.Sprintf("version changed %t, %s", changed, d.tell(got))
	}
	switch c.what {
	case "create":
		return became(d.s.Create(ctx, rec))
	case "put":
		return became(d.s.Put(ctx, rec))
	case "save":
		return became(d.s.Save(ctx, rec))
	case "get":
		return became(d.s.Get(ctx, d.key(c.slot)))
	case "create limited":
		got, ended, err := d.s.CreateLimited(ctx, rec, c.limit)
		return fmt.Sprint(became(got, err), d.names(ended))
	case "renew":
		return became(d.s.Renew(ctx, d.key(c.from), rec, c.grace))
	case "renew limited":
		got, ended, err := d.s.RenewLimited(ctx, d.key(c.from), rec, c.grace, c.limit)
		return fmt.Sprint(became(got, err), d.names(ended))
	case "touch":
		expires, err := d.s.Touch(ctx, d.key(c.slot), rec.Expires)
		return fmt.Sprint(expires.UTC(), d.failed(err))
	case "destroy":
		n, err := d.s.Destroy(ctx, d.keysOf(append([]int{c.slot}, c.more...))...)
		return fmt.Sprint(n, d.failed(err))
	case "destroy user":
		n, err := d.s.DestroyUser(ctx, c.user, d.keysOf(c.more)...)
		return fmt.Sprint(n, d.failed(err))
	case "clear":
		n, err := d.s.Clear(ctx)
		return fmt.Sprint(n, d.failed(err))
	case "list user":
		recs, err := d.s.ListUser(ctx, c.user, session.Record{}, 100)
		var all []string
		for _, rec := range recs {
			all = append(all, d.tell(rec))
		}
		slices.Sort(all) // the times of creation may be the same
		return fmt.Sprint(all, d.failed(err))
	case "count user":
		n, err := d.s.CountUser(ctx, c.user)
		return fmt.Sprint(n, d.failed(err))
	case "len":
		n, err := d.s.Len(ctx)
		return fmt.Sprint(n, d.failed(err))
	case "keys":
		var keys []session.Key
		for key, err := range d.s.Keys(ctx) {
			if err != nil {
				return d.failed(err)
			}
			keys = append(keys, key)
		}
		return d.names(keys)
	case "all":
		var all []string
		for rec, err := range d.s.All(ctx) {
			if err != nil {
				return d.failed(err)
			}
			all = append(all, d.tell(rec))
		}
		slices.Sort(all)
		return fmt.Sprint(all)
	case "fate":
		fate, err := d.s.Fate(ctx, d.key(c.slot))
		return fmt.Sprint(fate, d.failed(err))
	}
	return "no such call"
}

func (d *side) tell(rec session.Record) string {
	return fmt.Sprintf("%s of %q with %q, expires %v, deadline %v, created %t", rec.Key, rec.User, rec.Data,
		rec.Expires.UTC(), rec.Deadline.UTC(), !rec.Created.IsZero())
}

// names are keys without their buckets, in any order.
func (d *side) names(keys []session.Key) string {
	var names []string
	for _, key := range keys {
		names = append(names, key.String())
	}
	slices.Sort(names)
	return fmt.Sprint(names)
}

var sentinels = []error{
	session.ErrNotFound, session.ErrExists, session.ErrConflict, session.ErrUserChanged, session.ErrUserLimit, session.ErrDeadline,
	session.ErrTooLarge, session.ErrInvalid, session.ErrUnknown, session.ErrClosed, session.ErrNoPartition,
}

// failed is the sentinel of an error; empty if there is none.
func (d *side) failed(err error) string {
	if err == nil {
		return ""
	}
	for _, one := range sentinels {
		if errors.Is(err, one) {
			return " " + one.Error()
		}
	}
	return " " + err.Error()
}
