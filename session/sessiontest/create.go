package sessiontest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

func createCases() []testCase {
	return []testCase{
		{name: "create keeps what it is given", run: createKeeps},
		{name: "create ignores version and creation time", run: createIgnores},
		{name: "times are UTC", run: createUTC},
		{name: "a deadline just after the hour keeps its bucket", run: createJustAfterTheHour},
		{name: "create refuses deadlines and expiries out of range", run: createOutOfRange},
		{name: "the longest lifetime counts from the store's clock", needs: Clock, run: createLongest},
		{name: "a key is used once", run: createTwice},
		{name: "of concurrent creates one wins", run: createConcurrently},
		{name: "data and users have limits", run: limits},
		{name: "the caller's data stays the caller's", run: dataNotShared},
		{name: "destroy ends sessions and counts them once", run: destroyCounts},
		{name: "destroy takes thousands of keys", run: destroyMany},
	}
}

func createKeeps(e *env) {
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	for name, change := range map[string]func(*session.Record){
		"as it is":                  func(*session.Record) {},
		"nil data":                  func(r *session.Record) { r.Data = nil },
		"empty data":                func(r *session.Record) { r.Data = []byte{} },
		"data that is not UTF-8":    func(r *session.Record) { r.Data = everyByte },
		"the longest data":          func(r *session.Record) { r.Data = slices.Repeat([]byte{0xfe}, e.h.MaxData) },
		"data that compresses":      func(r *session.Record) { r.Data = make([]byte, min(e.h.MaxData, 100_000)) },
		"a user":                    func(r *session.Record) { r.User = e.unique("user") },
		"a user with odd letters":   func(r *session.Record) { r.User = "Ünïcødé \u202e\t\n'\"\\ %s $1 👤" },
		"the longest user":          func(r *session.Record) { r.User = strings.Repeat("u", e.h.MaxUser) },
		"an expiry":                 func(r *session.Record) { r.Expires = r.Deadline.Add(-time.Hour) },
		"an expiry at the deadline": func(r *session.Record) { r.Expires = r.Deadline },
	} {
		e.Run(name, func(t *testing.T) {
			e := newEnv(t, e.h, e.s, e.other)
			rec := e.record()
			change(&rec)
			before := e.now()
			created := e.create(rec)
			after := e.now()

			want := rec
			want.Version = e.newer("Create", created, 0)
			if rec.Expires.IsZero() {
				want.Expires = rec.Deadline
			}
			e.same("Create", created, want)
			// A node knows the store's time only about.
			if created.Created.Before(before.Add(-time.Minute)) || created.Created.After(after.Add(time.Minute)) {
				e.Errorf("Created is %v; want about %v", created.Created, before)
			}
			want.Created = created.Created
			e.same("Get", e.live(rec.Key), want)
			got, err := e.peer().Get(e.ctx, rec.Key)
			if err != nil {
				e.Fatalf("Get by the other node: %v", err)
			}
			e.same("Get by the other node", got, want)
		})
	}
}

func createIgnores(e *env) {
	rec := e.record()
	rec.Version, rec.Created = 17, e.now().Add(-100*time.Hour)
	got := e.create(rec)
	if got.Version == rec.Version {
		e.Error("Version is taken from the caller")
	}
	if got.Created.Before(e.now().Add(-time.Hour)) {
		e.Errorf("Created is %v: taken from the caller", got.Created)
	}
	e.same("Get", e.live(rec.Key), got)
}

func createUTC(e *env) {
	zone := time.FixedZone("half past", 5*3600+1800)
	rec := e.record()
	rec.Deadline = rec.Deadline.In(zone)
	rec.Expires = rec.Deadline.Add(-time.Minute)
	got := e.create(rec)
	rec.Version = e.newer("Create", got, 0)
	e.same("Create", got, rec)
	e.sameTime("Created", got.Created, got.Created)
	e.same("Get", e.live(rec.Key), got)
	expires, err := e.s.Touch(e.ctx, rec.Key, rec.Deadline)
	if err != nil {
		e.Fatalf("Touch: %v", err)
	}
	e.sameTime("Touch", expires, rec.Deadline)
}

func createJustAfterTheHour(e *env) {
	for _, d := range []time.Duration{0, 1, 999, time.Microsecond, time.Hour - 1} {
		hour := e.now().Truncate(time.Hour).Add(2 * time.Hour)
		rec := e.create(e.recordUntil(hour.Add(d)))
		got := e.live(rec.Key)
		if session.BucketOf(got.Deadline) != got.Key.Bucket {
			e.Errorf("hour + %v: the deadline became %v, outside its bucket", d, got.Deadline)
		}
		if got.Expires.After(got.Deadline) {
			e.Errorf("hour + %v: it expires at %v, after the deadline %v", d, got.Expires, got.Deadline)
		}
		e.same("Get", got, rec)
	}
}

func createOutOfRange(e *env) {
	now := e.now()
	for name, rec := range map[string]session.Record{
		"no deadline":                  e.recordUntil(time.Time{}),
		"a deadline an hour ago":       e.recordUntil(now.Add(-time.Hour)),
		"a deadline a year ago":        e.recordUntil(now.Add(-365 * 24 * time.Hour)),
		"a deadline before 1970":       e.recordUntil(time.Unix(-1e9, 0)),
		"a deadline too far ahead":     e.recordUntil(now.Add(e.h.Longest + 2*time.Hour)),
		"a deadline in the year 9999":  e.recordUntil(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)),
		"a deadline beyond all years":  e.recordUntil(time.Unix(1<<60, 0)),
		"an expiry in the past":        {Expires: now.Add(-time.Minute)},
		"an expiry after the deadline": {Expires: now.Add(3 * time.Hour)},
	} {
		if rec.Key.IsZero() {
			expires := rec.Expires
			rec = e.record()
			rec.Expires = expires
		}
		_, err := e.s.Create(e.ctx, rec)
		e.refused(name+": Create", err, session.ErrDeadline)
		e.gone(rec.Key)

		old := e.create(e.record())
		rec.Version = old.Version
		_, err = e.s.Renew(e.ctx, old.Key, rec, time.Minute)
		e.refused(name+": Renew", err, session.ErrDeadline)
		e.gone(rec.Key)
		e.same(name+": after the refused Renew", e.live(old.Key), old)
	}
}

func createLongest(e *env) {
	clock := e.s.(session.Clock)
	if got := clock.Longest(); got != e.h.Longest {
		e.Errorf("Longest is %v; want %v", got, e.h.Longest)
	}
	if clock.Now().Location() != time.UTC {
		e.Error("the clock is not in UTC")
	}
	rec := e.create(e.recordUntil(clock.Now().Add(e.h.Longest)))
	e.same("Get", e.live(rec.Key), rec)
}

func createTwice(e *env) {
	for _, rec := range []session.Record{e.record(), e.foreign()} {
		first := e.create(rec)
		again := rec
		again.Data, again.User = []byte("other"), "other"
		_, err := e.s.Create(e.ctx, again)
		e.refused("Create", err, session.ErrExists)
		_, err = e.peer().Create(e.ctx, again)
		e.refused("Create by the other node", err, session.ErrExists)
		e.same("Get", e.live(rec.Key), first)
	}
}

func createConcurrently(e *env) {
	const rivals = 8
	for round := range rounds.Of(20) {
		rec := e.record()
		if round%2 == 1 {
			rec = e.foreign()
		}
		var wg sync.WaitGroup
		errs := make([]error, rivals)
		for i := range rivals {
			store := e.node(i)
			mine := rec
			mine.Data = fmt.Append(nil, i)
			if rec.Key.Bucket == 0 {
				// Another deadline puts the row somewhere else.
				mine.Deadline = rec.Deadline.Add(time.Duration(i) * time.Hour)
			}
			wg.Go(func() { _, errs[i] = store.Create(e.ctx, mine) })
		}
		wg.Wait()
		winner := e.onlyWinner("Create", errs, session.ErrExists)
		if got := e.live(rec.Key); string(got.Data) != fmt.Sprint(winner) {
			e.Errorf("the session has the data of %s; %d was told that it created it", got.Data, winner)
		}
		e.destroy(1, rec.Key)
		e.gone(rec.Key)
	}
}

func limits(e *env) {
	if l, ok := e.s.(session.DataLimiter); ok && l.MaxData() != e.h.MaxData {
		e.Errorf("MaxData = %d; want %d", l.MaxData(), e.h.MaxData)
	}
	tooLong := strings.Repeat("u", e.h.MaxUser+1)
	for _, c := range []struct {
		name  string
		user  string
		data  int
		want  error
		field string
		limit int
	}{
		{"data over the limit", "", e.h.MaxData + 1, session.ErrTooLarge, "data", e.h.MaxData},
		{"data far over the limit", "", 3*e.h.MaxData + 1, session.ErrTooLarge, "data", e.h.MaxData},
		{"a user over the limit", tooLong, 0, session.ErrTooLarge, "user", e.h.MaxUser},
		{"a user that is not UTF-8", "u\xff", 0, session.ErrInvalid, "user", 0},
		{"a user with a NUL", "u\x00", 0, session.ErrInvalid, "user", 0},
	} {
		check := func(what string, err error, or ...error) {
			e.Helper()
			what = c.name + ": " + what
			e.refused(what, err, append(or, c.want)...)
			if err == nil || isAny(err, or...) {
				return
			}
			if !strings.Contains(strings.ToLower(err.Error()), c.field) {
				e.Errorf("%s: the error does not name %s: %v", what, c.field, err)
			}
			if c.limit > 0 && !strings.Contains(err.Error(), fmt.Sprint(c.limit)) {
				e.Errorf("%s: the error does not name the limit %d: %v", what, c.limit, err)
			}
		}
		bad := e.recordOf(c.user)
		bad.Data = slices.Repeat([]byte("x"), c.data)

		_, err := e.s.Create(e.ctx, bad)
		check("Create", err)
		e.gone(bad.Key)

		old := e.create(e.record())
		bad.Version = old.Version
		_, err = e.s.Renew(e.ctx, old.Key, bad, time.Minute)
		check("Renew", err)
		e.gone(bad.Key)

		save := bad
		save.Key = old.Key
		_, err = e.s.Save(e.ctx, save)
		check("Save", err, session.ErrUserChanged)
		if p, ok := e.s.(session.Putter); ok {
			_, err = p.Put(e.ctx, bad)
			check("Put", err)
			e.gone(bad.Key)
			_, err = p.Put(e.ctx, save)
			check("Put to a live session", err, session.ErrUserChanged)
		}
		e.same(c.name+": Get", e.live(old.Key), old)

		u, ok := e.s.(session.UserIndex)
		if !ok || c.user == "" {
			continue
		}
		if c.user != tooLong { // which another limit may have allowed
			_, err = u.ListUser(e.ctx, c.user, session.Record{}, 1000)
			check("ListUser", err)
			_, err = u.CountUser(e.ctx, c.user)
			check("CountUser", err)
			_, err = u.DestroyUser(e.ctx, c.user)
			check("DestroyUser", err)
		}
		_, _, err = u.CreateLimited(e.ctx, bad, session.UserLimit{Max: 1})
		check("CreateLimited", err)
		_, _, err = u.RenewLimited(e.ctx, old.Key, bad, 0, session.UserLimit{Max: 1})
		check("RenewLimited", err)
	}
}

func dataNotShared(e *env) {
	scribble := func(b []byte) {
		for i := range b {
			b[i] = '!'
		}
	}
	input := e.record()
	want := string(input.Data)
	created := e.create(input)
	scribble(input.Data)
	first := e.live(created.Key)
	if string(first.Data) != want {
		e.Fatalf("after the caller changed its slice the store has %q; want %q", first.Data, want)
	}

	change := first
	change.Data = append(slices.Clone(first.Data), " and more"...)
	saved := e.save(change)
	scribble(change.Data)
	second := e.live(created.Key)
	if got := want + " and more"; string(second.Data) != got {
		e.Errorf("after the caller changed what it had saved the store has %q; want %q", second.Data, got)
	}
	// Neither a longer nor a shorter Save changes what was read before.
	shorter := saved
	shorter.Data = []byte("short")
	saved = e.save(shorter)
	if string(first.Data) != want {
		e.Errorf("a later Save changed what Get had returned to %q", first.Data)
	}
	if got := want + " and more"; string(second.Data) != got {
		e.Errorf("a later Save changed what Get had returned to %q", second.Data)
	}

	next := e.successor(saved)
	next.Data = []byte("renewed")
	renewed, err := e.s.Renew(e.ctx, saved.Key, next, 0)
	if err != nil {
		e.Fatalf("Renew: %v", err)
	}
	scribble(next.Data)
	if got := e.live(renewed.Key); string(got.Data) != "renewed" {
		e.Errorf("after the caller changed what it had renewed with the store has %q", got.Data)
	}

	if p, ok := e.s.(session.Putter); ok {
		put := e.foreign()
		put.Data = []byte("put")
		for range 2 { // creates, then replaces
			if _, err := p.Put(e.ctx, put); err != nil {
				e.Fatalf("Put: %v", err)
			}
			scribble(put.Data)
			if got := e.live(put.Key); string(got.Data) != "put" {
				e.Errorf("after the caller changed what it had put the store has %q", got.Data)
			}
			put.Data = []byte("put")
		}
	}
}

func destroyCounts(e *env) {
	a, b, c := e.create(e.record()).Key, e.create(e.foreign()).Key, e.create(e.record()).Key
	unknown := e.record().Key

	e.destroy(0)
	e.destroy(0, unknown)
	e.destroy(0, session.ForeignKey("sessiontest", e.unique(private)))
	e.destroy(2, a, unknown, a, b, b, a)
	e.gone(a)
	e.gone(b)
	e.live(c)
	e.destroy(1, a, b, c)
	e.gone(c)
	e.destroy(0, a, b, c)
	if n, err := e.peer().Destroy(e.ctx, a, b, c, unknown); n != 0 || err != nil {
		e.Errorf("Destroy by the other node = %d, %v; want 0, nil", n, err)
	}
}

func destroyMany(e *env) {
	const live, unknown = 60, 1500
	var keys []session.Key
	for i := range live {
		rec := e.record()
		if i%10 == 0 {
			rec = e.foreign()
		}
		keys = append(keys, e.create(rec).Key)
	}
	for i := range unknown {
		keys = append(keys, e.recordUntil(e.now().Add(time.Duration(i)*time.Minute)).Key)
	}
	keys = append(keys, keys[:live]...)
	slices.SortFunc(keys, func(a, b session.Key) int { return -a.Compare(b) })
	e.destroy(live, keys...)
	for _, key := range keys {
		if _, err := e.s.Get(e.ctx, key); !isAny(err, session.ErrNotFound) {
			e.Fatalf("Get: %v; want %v", err, session.ErrNotFound)
		}
	}
}
