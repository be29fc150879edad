package sqlitestore

import (
	"database/sql"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/testrig/await"
	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
	"github.com/sojourn-go/sojourn/session"
)

// age moves a session's times into the past, as if that long had gone by.
func age(t testing.TB, s *Store, path string, by time.Duration, keys ...session.Key) {
	t.Helper()
	db := openDB(t, DSN(path))
	sqlExec(t, db, `PRAGMA ignore_check_constraints = 1`)
	for _, key := range keys {
		micros := by.Microseconds()
		n := sqlExec(t, db, `UPDATE sojourn_sessions SET expires_at = expires_at - ?2, deadline = deadline - ?2, ended_at = ended_at - ?2,
			bucket = (deadline - ?2 + 3599999999) / 3600000000, kept_to = (deadline - ?2 + 3599999999) / 3600000000 WHERE key = ?1`, key.Hash[:], micros)
		if n != 1 {
			t.Fatalf("%d rows", n)
		}
	}
}

func rowsOf(t testing.TB, s *Store) int64 {
	t.Helper()
	var n int64
	err := s.scan(t.Context(), func(c *conn) error {
		return c.sql.QueryRowContext(t.Context(), `SELECT count(*) FROM sojourn_sessions`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPruningDeletesWhatIsLongDead(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	keep := create(t, s, newSession(s, "live"))
	var past, idle, foreign []session.Key
	for i := range 1300 { // more than a batch
		rec := newSession(s, "data")
		switch i % 2 {
		case 0:
			rec = create(t, s, rec)
			past = append(past, rec.Key)
			if i%4 == 0 {
				if _, err := s.Destroy(t.Context(), rec.Key); err != nil {
					t.Fatal(err)
				}
			}
		case 1:
			if i%10 == 1 {
				rec.Key = session.ForeignKey("prune", rec.Key.String())
				foreign = append(foreign, rec.Key)
			} else {
				idle = append(idle, rec.Key)
			}
			create(t, s, rec)
		}
	}
	last := create(t, s, newSession(s, "last"))
	age(t, s, path, 28*time.Hour, past...) // deadline, grace and bucket
	db := openDB(t, DSN(path))
	for _, key := range slices.Concat(idle, foreign) {
		sqlExec(t, db, `UPDATE sojourn_sessions SET expires_at = ?2 WHERE key = ?1`, key.Hash[:], storekit.Micros(s.Now().Add(-25*time.Hour)))
	}
	p, err := s.PruneNow(t.Context())
	if err != nil || p.Rows != int64(len(past)) || p.Emptied != int64(len(idle)+len(foreign)) {
		t.Errorf("PruneNow = %+v, %v; want %d rows, %d emptied", p, err, len(past), len(idle)+len(foreign))
	}
	if got, want := rowsOf(t, s), int64(len(idle)+len(foreign)+2); got != want {
		t.Errorf("%d rows are left; want %d", got, want)
	}
	for _, rec := range []session.Record{keep, last} {
		if _, err := s.Get(t.Context(), rec.Key); err != nil {
			t.Errorf("Get of a live session: %v", err)
		}
	}
	for _, key := range slices.Concat(idle, foreign) {
		if fate, err := s.Fate(t.Context(), key); fate != session.FateExpired || err != nil {
			t.Errorf("Fate of a session that was swept = %v, %v", fate, err)
		}
		if _, err := s.Put(t.Context(), session.Record{Key: key}); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Put to a session that was swept: %v", err)
		}
	}
	if again, err := s.PruneNow(t.Context()); err != nil || again != (session.Pruned{}) {
		t.Errorf("PruneNow again = %+v, %v", again, err)
	}
	if st := s.Stats(); st.Pruned != p || st.Maintained.IsZero() || st.MaintainedBy == "" {
		t.Errorf("Stats: %+v", st)
	}
}

// The hour in which the retire grace ends is over before its keys are forgotten.
func TestAKeyIsRememberedForAllOfItsLastHour(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	db := openDB(t, DSN(path))
	sqlExec(t, db, `PRAGMA ignore_check_constraints = 1`)
	oldest := func() int32 { return session.BucketOf(s.Now().Add(-24 * time.Hour)) }
	for again := true; again; {
		rec := create(t, s, newSession(s, ""))
		create(t, s, newSession(s, "with the highest ID"))
		if _, err := s.Destroy(t.Context(), rec.Key); err != nil {
			t.Fatal(err)
		}
		last := oldest()
		sqlExec(t, db, `UPDATE sojourn_sessions SET bucket = ?2, kept_to = ?2 WHERE key = ?1`, rec.Key.Hash[:], last)
		p, err := s.PruneNow(t.Context())
		if again = oldest() != last; again {
			continue // an hour has just ended
		}
		if p.Rows != 0 || err != nil {
			t.Errorf("PruneNow = %+v, %v; want no rows", p, err)
		}
	}
}

// Dead sessions go in transactions of a bounded number, between which others
// can write, while somebody reads the whole time.
func TestPruningIsDoneInBatches(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	const dead = 2*pruneRows + 1
	db := openDB(t, DSN(path))
	n := sqlExec(t, db, `
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
INSERT INTO sojourn_sessions (key, bucket, kept_to, version, expires_at, deadline, created_at)
SELECT randomblob(32), 1, 1, 1, 1, 1, 0 FROM n`, dead)
	live := create(t, s, newSession(s, "live"))
	reader, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	seen := func() (rows int64) {
		if err := reader.QueryRowContext(t.Context(), `SELECT count(*) FROM sojourn_sessions`).Scan(&rows); err != nil {
			t.Error(err)
		}
		return rows
	}
	before := seen()
	flushes := s.Stats().Flushes
	if p, err := s.PruneNow(t.Context()); err != nil || p.Rows != n {
		t.Errorf("PruneNow = %+v, %v; want %d rows", p, err, n)
	}
	if got := s.Stats().Flushes - flushes; got < 4 { // three for the rows, and one that says so
		t.Errorf("it took %d transactions", got)
	}
	if after := seen(); before != dead+1 || after != before {
		t.Errorf("who read all the time saw %d rows, then %d", before, after)
	}
	if err := reader.Rollback(); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), live.Key); err != nil {
		t.Errorf("Get of a live session: %v", err)
	}
}

// Neither goes before its time: the ended until its bucket and the grace have
// passed, the idle until the grace has.
func TestPruningKeepsWhatMayBeAskedFor(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	var keys []session.Key
	for range 3 {
		keys = append(keys, create(t, s, newSession(s, "data")).Key)
	}
	create(t, s, newSession(s, "the highest"))
	if _, err := s.Destroy(t.Context(), keys[0]); err != nil {
		t.Fatal(err)
	}
	age(t, s, path, 25*time.Hour, keys[0], keys[1])
	sqlExec(t, openDB(t, DSN(path)), `UPDATE sojourn_sessions SET expires_at = ?2 WHERE key = ?1`, keys[2].Hash[:], storekit.Micros(s.Now().Add(-23*time.Hour)))
	if p, err := s.PruneNow(t.Context()); err != nil || p.Rows != 0 {
		t.Errorf("PruneNow = %+v, %v", p, err)
	}
	if n := rowsOf(t, s); n != 4 {
		t.Errorf("%d rows are left; want 4", n)
	}
}

// A shorter grace takes nothing away that the former one keeps.
func TestAShorterRetireGraceWaitsForTheFormer(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	db := openDB(t, DSN(path))
	made := func() {
		key := create(t, s, newSession(s, "data")).Key
		create(t, s, newSession(s, "the highest"))
		age(t, s, path, 10*time.Hour, key)
	}
	set := func(grace time.Duration) {
		t.Helper()
		got, err := migrations.SetSettings(t.Context(), db, migrations.Config{}, migrations.Settings{RetireGrace: grace})
		if err != nil || got.RetireGrace != grace {
			t.Errorf("SetSettings = %v, %v; want %v", got.RetireGrace, err, grace)
		}
	}
	changed := func(ago time.Duration) {
		sqlExec(t, db, `UPDATE sojourn_sessions_meta SET retire_grace_changed_at = ?1`, s.Now().Add(-ago).UnixMicro())
	}
	deleted := func(want int64) {
		t.Helper()
		if done, err := s.PruneNow(t.Context()); done.Rows != want || err != nil {
			t.Errorf("PruneNow = %+v, %v; want %d rows", done, err, want)
		}
	}
	made()
	deleted(0) // for a day
	set(2 * time.Hour)
	deleted(0)
	set(time.Hour) // the longest of all that may still keep something
	deleted(0)
	changed(23 * time.Hour)
	deleted(0)
	changed(25 * time.Hour)
	deleted(1)
	made()
	set(12 * time.Hour) // a longer one counts at once
	deleted(0)

	if _, err := New(t.Context(), db, Options{RetireGrace: 2 * time.Hour}); !errors.Is(err, ErrSettings) {
		t.Errorf("New with another grace: %v", err)
	}
	openStore(t, path, Options{RetireGrace: 12 * time.Hour, PruneInterval: -1})
	fresh := newPath(t)
	openStore(t, fresh, Options{RetireGrace: 3 * time.Hour, PruneInterval: -1})
	if got, err := migrations.LoadSettings(t.Context(), openDB(t, DSN(fresh)), migrations.Config{}); got.RetireGrace != 3*time.Hour || err != nil {
		t.Errorf("Open made the database with %+v, %v", got, err)
	}
}

// Listings and Clear walk along the ids, so none may be used twice.
func TestTheHighestIDStays(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	var keys []session.Key
	for range 3 {
		keys = append(keys, create(t, s, newSession(s, "data")).Key)
	}
	age(t, s, path, 28*time.Hour, keys...)
	if p, err := s.PruneNow(t.Context()); err != nil || p.Rows != 2 {
		t.Errorf("PruneNow = %+v, %v; want 2 rows", p, err)
	}
	var id int64
	rec := create(t, s, newSession(s, "next"))
	err := openDB(t, DSN(path)).QueryRowContext(t.Context(), `SELECT id FROM sojourn_sessions WHERE key = ?1`, rec.Key.Hash[:]).Scan(&id)
	if err != nil || id != 4 {
		t.Errorf("the next id is %d, %v; want 4", id, err)
	}
}

func TestAStorePrunesAtItsStart(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	key := create(t, s, newSession(s, "data")).Key
	create(t, s, newSession(s, "the highest"))
	age(t, s, path, 28*time.Hour, key)
	node := openStore(t, path, Options{PruneInterval: time.Hour, NodeName: "the one"})
	await.True(t, "it has pruned", func() bool { return node.Stats().Pruned.Rows == 1 })
	await.True(t, "it says so", func() bool { return node.Stats().MaintainedBy == "the one" })
}

func TestProcessesTakeTurns(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	first := openStore(t, path, Options{PruneInterval: time.Hour, NodeName: "first"})
	await.True(t, "the first one has pruned", func() bool { return !first.Stats().Maintained.IsZero() })
	second := openStore(t, path, Options{PruneInterval: time.Hour, NodeName: "second"})
	await.True(t, "the second one sees it", func() bool { return second.Stats().MaintainedBy == "first" })
	if ours, err := second.takeTurn(t.Context(), time.Hour/2); ours || err != nil {
		t.Errorf("the second one's turn, too early: %v, %v", ours, err)
	}
	if _, err := second.PruneNow(t.Context()); err != nil {
		t.Error(err)
	}
	if by := second.Stats().MaintainedBy; by != "second" {
		t.Errorf("after its PruneNow, MaintainedBy is %q", by)
	}
}

// Passes in the background look through the table bit by bit.
func TestSweepingGoesRoundTheTable(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, Options{NextPrune: func() time.Duration { return time.Millisecond }, PruneInterval: time.Nanosecond})
	var keys []session.Key
	for range 100 {
		keys = append(keys, create(t, s, newSession(s, "data")).Key)
	}
	create(t, s, newSession(s, "the highest"))
	db := openDB(t, DSN(path))
	for round := range 3 {
		for i, key := range keys {
			if i%3 == round {
				sqlExec(t, db, `UPDATE sojourn_sessions SET expires_at = ?2 WHERE key = ?1`, key.Hash[:], storekit.Micros(s.Now().Add(-25*time.Hour)))
			}
		}
		want := uint64(0)
		for i := range keys {
			if i%3 <= round {
				want++
			}
		}
		await.True(t, "they are swept", func() bool { return uint64(s.Stats().Pruned.Emptied) == want })
	}
}
