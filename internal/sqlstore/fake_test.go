package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	noon    = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	errLost = errors.New("the answer was lost")
	errDisk = errors.New("the disk is gone")
)

// answer is what comes of a transaction that was to be committed.
type answer int

const (
	told       answer = iota
	lostDone          // it was committed, and nobody says so
	lostUndone        // it was not, and nobody says so
)

// fake is a database of one table. Transactions run one after another.
type fake struct {
	t      *testing.T
	rows   map[[32]byte]*sqlrow.Row
	lastID int64
	now    time.Time

	did []string // by the transactions

	mu      sync.Mutex
	closing []string // what Close did; guarded by mu

	works []Work

	answers []answer // of the next transactions
	fails   error    // of each statement
	// before is called before a transaction's statement of that name.
	before map[string]func()
	// held are rows that others have locked.
	held map[[32]byte]bool
	// again has each read done twice.
	again bool
	given map[string]int // rows to Page, keys to Keys, sessions to Sessions: the sizes
}

func newFake(t *testing.T) (*Engine, *fake) {
	db := &fake{t: t, now: noon, rows: map[[32]byte]*sqlrow.Row{}, before: map[string]func(){}, held: map[[32]byte]bool{}, given: map[string]int{}}
	limits := storekit.Limits{MaxData: 100, MaxUser: 100, MostUser: 100, Longest: 24 * time.Hour}
	return &Engine{
		Database: db,
		Limits:   func() storekit.Limits { return limits },
		Now:      func() time.Time { return db.now },
		Wrap:     wrapFake,
		Log:      zap.NewNop(),
	}, db
}

func wrapFake(call string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("fake: %s: %w", call, err)
}

func (db *fake) copyRows() map[[32]byte]*sqlrow.Row {
	rows := maps.Clone(db.rows)
	for hash, r := range rows {
		other := *r
		rows[hash] = &other
	}
	return rows
}

// Write runs f until the answer to its commit is told. What is refused must have
// changed nothing, since some databases do not roll back for it.
func (db *fake) Write(ctx context.Context, w Work, f func(Tx) error) error {
	db.works = append(db.works, w)
	if w.Data != nil {
		*w.Data = slices.Clone(*w.Data)
	}
	for tx := (&fakeTx{fake: db, waits: w.Waits}); ; {
		before := db.copyRows()
		err := f(tx)
		if err != nil {
			if storekit.IsRefusal(err) && !reflect.DeepEqual(before, db.rows) {
				db.t.Errorf("%s was refused, and has changed something: %v", w.What, err)
			}
			db.rows = before
			return err
		}
		next := told
		if len(db.answers) > 0 {
			next, db.answers = db.answers[0], db.answers[1:]
		}
		switch next {
		case told:
			return nil
		case lostUndone:
			db.rows = before
		}
		tx.lost = errLost
	}
}

func (db *fake) Read(ctx context.Context, f func(Reader) error) error {
	if db.again {
		_ = f(fakeReader{db})
	}
	return f(fakeReader{db})
}

func (db *fake) Scan(ctx context.Context, f func(Reader) error) error { return db.Read(ctx, f) }

func (db *fake) Refuse()        { db.closes("refuse") }
func (db *fake) Drain()         { db.closes("drain") }
func (db *fake) Release() error { db.closes("release"); return nil }
func (db *fake) GiveUp()        { db.closes("give up") }

func (db *fake) closes(what string) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.closing = append(db.closing, what)
}

// closed is what Close has done so far.
func (db *fake) closed() []string {
	db.mu.Lock()
	defer db.mu.Unlock()
	return slices.Clone(db.closing)
}

// add puts a live session of a user into the table, as another node might.
func (db *fake) add(user string) *sqlrow.Row {
	db.lastID++
	deadline := db.now.Add(2 * time.Hour)
	rec := session.Record{
		Key: session.NewID(deadline).Key(), Version: 7, User: user, Created: noon.Add(time.Duration(db.lastID) * time.Microsecond),
		Expires: deadline.Add(-time.Hour), Deadline: deadline,
	}
	r := &sqlrow.Row{ID: db.lastID, Rec: rec, KeptTo: rec.Key.Bucket}
	db.rows[rec.Key.Hash] = r
	return r
}

func (db *fake) end(r *sqlrow.Row) {
	r.Ended, r.Rec.User, r.Rec.Data = db.now, "", nil
}

// renew makes r lead to a new session of the same user.
func (db *fake) renew(r *sqlrow.Row, grace time.Duration) *sqlrow.Row {
	next := db.add(r.Rec.User)
	db.end(r)
	r.Next, r.GraceUntil = next.Rec.Key.Hash[:], db.now.Add(grace)
	return next
}

func (db *fake) sorted(which func(*sqlrow.Row) bool, by func(a, b *sqlrow.Row) int) (rows []*sqlrow.Row) {
	for _, r := range db.rows {
		if which(r) {
			rows = append(rows, db.seen(r))
		}
	}
	slices.SortFunc(rows, by)
	return rows
}

func byID(a, b *sqlrow.Row) int      { return cmp.Compare(a.ID, b.ID) }
func byCreated(a, b *sqlrow.Row) int { return a.Rec.Created.Compare(b.Rec.Created) }

// seen is a row as it is at this time, or nil.
func (db *fake) seen(r *sqlrow.Row) *sqlrow.Row {
	if r == nil {
		return nil
	}
	out := *r
	out.Now = db.now
	return &out
}

type fakeTx struct {
	*fake
	lost  error
	waits bool
}

func (tx *fakeTx) do(what string, args ...any) error {
	if f := tx.before[what]; f != nil {
		f()
	}
	if len(args) > 0 {
		what += fmt.Sprint(append([]any{" "}, args...)...)
	}
	tx.did = append(tx.did, what)
	return tx.fails
}

func (tx *fakeTx) Lost() error { return tx.lost }

func (tx *fakeTx) Now() (time.Time, error) { return tx.now, tx.do("now") }

func (tx *fakeTx) Admit(user string, alone bool) (time.Time, error) {
	if alone {
		user += " alone"
	}
	err := tx.do("admit", user)
	return tx.now, err
}

func (tx *fakeTx) Lock(hash [32]byte) (*sqlrow.Row, error) {
	err := tx.do("lock")
	if tx.held[hash] && !tx.waits {
		tx.t.Error("a transaction that should not wait for others does")
	}
	return tx.seen(tx.rows[hash]), err
}

func (tx *fakeTx) Find(key session.Key) (*sqlrow.Row, error) {
	row := tx.seen(tx.rows[key.Hash])
	if row == nil || !row.Is(key) {
		return nil, tx.fails
	}
	return row, tx.fails
}

func (tx *fakeTx) LockAll(rows []*sqlrow.Row) (locked []*sqlrow.Row, err error) {
	err = tx.do("lock all", len(rows))
	for _, r := range rows {
		if now := tx.seen(tx.rows[r.Rec.Key.Hash]); now != nil {
			locked = append(locked, now)
		}
	}
	return locked, err
}

func (tx *fakeTx) OfUser(user string) ([]*sqlrow.Row, error) {
	err := tx.do("list", user)
	return tx.sorted(func(r *sqlrow.Row) bool { return r.Rec.User == user }, byCreated), err
}

func (tx *fakeTx) Page(user string, after int64, most int) (page Page, err error) {
	tx.given["Page"] = most
	found := tx.sorted(func(r *sqlrow.Row) bool { return r.ID > after && (user == "" || r.Rec.User == user) }, byID)
	page.Full = len(found) >= most
	found = found[:min(most, len(found))]
	err = tx.do("page", after)
	for _, r := range found {
		page.Last = r.ID
		switch now := tx.seen(tx.rows[r.Rec.Key.Hash]); {
		case !r.Ended.IsZero():
		case tx.held[r.Rec.Key.Hash]:
			page.Held = &r.Rec.Key.Hash
		default:
			page.Rows = append(page.Rows, now)
		}
	}
	return page, err
}

func (tx *fakeTx) Insert(rec session.Record, keptTo int32) error {
	if err := tx.do("insert"); err != nil {
		return err
	}
	if tx.rows[rec.Key.Hash] != nil {
		return session.ErrExists
	}
	tx.lastID++
	tx.rows[rec.Key.Hash] = &sqlrow.Row{ID: tx.lastID, Rec: rec, KeptTo: max(keptTo, session.BucketOf(rec.Deadline))}
	return nil
}

func (tx *fakeTx) Save(r *sqlrow.Row, rec session.Record) error {
	to := tx.rows[r.Rec.Key.Hash]
	to.Rec.Data, to.Rec.Version, to.Rec.Expires = rec.Data, rec.Version, rec.Expires
	return tx.do("save")
}

func (tx *fakeTx) Touch(r *sqlrow.Row, expires time.Time) error {
	tx.rows[r.Rec.Key.Hash].Rec.Expires = expires
	return tx.do("touch")
}

func (tx *fakeTx) End(rows ...*sqlrow.Row) error {
	for _, r := range rows {
		tx.end(tx.rows[r.Rec.Key.Hash])
	}
	return tx.do("end", len(rows))
}

func (tx *fakeTx) Renew(r *sqlrow.Row, to session.Key, until time.Time) error {
	old := tx.rows[r.Rec.Key.Hash]
	tx.end(old)
	old.Next, old.GraceUntil = to.Hash[:], until
	return tx.do("renew")
}

type fakeReader struct{ *fake }

func (r fakeReader) Find(_ context.Context, key session.Key) (*sqlrow.Row, error) {
	row := r.seen(r.rows[key.Hash])
	if row == nil || !row.Is(key) {
		return nil, r.fails
	}
	return row, r.fails
}

func (r fakeReader) live(user string) func(*sqlrow.Row) bool {
	return func(row *sqlrow.Row) bool {
		return r.seen(row).Live() && (user == "" || row.Rec.User == user)
	}
}

func (r fakeReader) Count(_ context.Context, user string) (int64, error) {
	return int64(len(r.sorted(r.live(user), byID))), r.fails
}

func (r fakeReader) OfUser(_ context.Context, user string, after session.Record, most int, visit func(*sqlrow.Row)) error {
	r.given["OfUser"] = most
	for _, row := range r.sorted(r.live(user), byCreated) {
		if row.Rec.Created.After(after.Created) && most > 0 {
			visit(row)
			most--
		}
	}
	return r.fails
}

func (r fakeReader) Keys(ctx context.Context, after int64, most int, visit func(int64, session.Key)) error {
	r.given["Keys"] = most
	return r.Sessions(ctx, after, most, func(row *sqlrow.Row) { visit(row.ID, row.Rec.Key) })
}

func (r fakeReader) Sessions(_ context.Context, after int64, most int, visit func(*sqlrow.Row)) error {
	for _, row := range r.sorted(r.live(""), byID) {
		if row.ID > after && most > 0 {
			visit(row)
			most--
		}
	}
	return r.fails
}

// newOf is a session to be created.
func newOf(user string) session.Record {
	deadline := noon.Add(3 * time.Hour)
	return session.Record{Key: session.NewID(deadline).Key(), User: user, Data: []byte("new"), Deadline: deadline}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// wantDead checks that rows, and no others, have ended.
func (db *fake) wantDead(t *testing.T, what string, dead ...*sqlrow.Row) {
	t.Helper()
	for _, r := range db.rows {
		want := slices.ContainsFunc(dead, func(d *sqlrow.Row) bool { return d.ID == r.ID })
		if got := !r.Ended.IsZero(); got != want {
			t.Errorf("%s: row %d has ended: %t, want %t", what, r.ID, got, want)
		}
	}
}
