package mysqlstore

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader/mysqllock"
	"github.com/sojourn-go/sojourn/session"
)

// age moves a session into the past, as if it had been created long ago.
func (p place) age(t testing.TB, rec session.Record, by time.Duration) {
	t.Helper()
	deadline := storekit.Deadline(rec.Deadline.Add(-by))
	n := sqlExec(t, p.db, `
UPDATE sojourn_sessions SET deadline = ?, bucket = ?, kept_to = bucket, expires_at = LEAST(expires_at, ?) - 1, created_at = created_at - ? WHERE hash = UNHEX(?)`,
		deadline.UnixMicro(), session.BucketOf(deadline), deadline.UnixMicro(), by.Microseconds(), hexOf(rec.Key))
	if n != 1 {
		t.Fatalf("%d rows were aged", n)
	}
}

func (p place) idleSince(t testing.TB, rec session.Record, since time.Time) {
	t.Helper()
	if n := sqlExec(t, p.db, `UPDATE sojourn_sessions SET expires_at = ? WHERE hash = UNHEX(?)`, since.UnixMicro(), hexOf(rec.Key)); n != 1 {
		t.Fatalf("%d rows were changed", n)
	}
}

func (p place) rows(t testing.TB) (n int64) {
	t.Helper()
	if err := p.db.QueryRow(`SELECT COUNT(*) FROM sojourn_sessions`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// fillDead adds rows whose bucket has long passed.
func (p place) fillDead(t testing.TB, n int) {
	t.Helper()
	sqlExec(t, p.db, `
INSERT INTO sojourn_sessions (hash, bucket, kept_to, version, expires_at, deadline, created_at, data)
SELECT UNHEX(SHA2(CONCAT('dead', UUID(), a.n, '.', b.n), 256)), 1, 1, 1, 1, 1000000, 0, REPEAT('x', 600)
FROM (WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 1000) SELECT n FROM i) AS a
JOIN (WITH RECURSIVE j (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM j WHERE n < 1000) SELECT n FROM j) AS b
LIMIT `+fmt.Sprint(n))
}

func TestPruningDeletesWhatIsForgottenAndNothingElse(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, quiet)
		made := func() session.Record { return create(t, s, newSessionOf(s, "ada")) }
		old, oldEnded, ended, expired, idle, live := made(), made(), made(), made(), made(), made()
		foreign := newSessionOf(s, "ada")
		foreign.Key = session.ForeignKey("test", unique(""))
		foreign = create(t, s, foreign)
		if _, err := s.Destroy(t.Context(), oldEnded.Key, ended.Key); err != nil {
			t.Fatal(err)
		}
		day := 24 * time.Hour
		p.age(t, old, day+4*time.Hour)
		p.age(t, oldEnded, day+4*time.Hour)
		p.idleSince(t, expired, s.Now().Add(-time.Hour))
		p.idleSince(t, idle, s.Now().Add(-day-time.Minute))
		p.idleSince(t, foreign, s.Now().Add(-day-time.Minute))
		p.fillDead(t, 2*pruneRows+10)
		done, err := s.PruneNow(t.Context())
		if want := int64(2*pruneRows + 10 + 2); err != nil || done.Rows != want || done.Emptied != 2 {
			t.Errorf("PruneNow = %+v, %v; want %d rows, and 2 emptied", done, err, want)
		}
		if n := p.rows(t); n != 5 { // ended, expired, live, and two tombstones
			t.Errorf("%d rows are left; want 5", n)
		}
		for key, want := range map[session.Key]session.Fate{
			old.Key: session.FateUnknown, oldEnded.Key: session.FateUnknown, idle.Key: session.FateExpired,
			ended.Key: session.FateEnded, expired.Key: session.FateExpired, live.Key: session.FateLive, foreign.Key: session.FateExpired,
		} {
			if fate, err := s.Fate(t.Context(), key); fate != want || err != nil {
				t.Errorf("Fate = %v, %v; want %v", fate, err, want)
			}
		}
		for _, rec := range []session.Record{foreign, idle} {
			if _, err := s.Put(t.Context(), rec); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("Put of a session that was swept: %v", err)
			}
		}
		st := s.Stats()
		if st.Pruned != done || st.Maintained.IsZero() || st.MaintainedBy != s.opts.NodeName {
			t.Errorf("Stats = %+v", st)
		}
	})
}

// In the background, the table is looked through part by part.
func TestBackgroundPassesComeThroughTheWholeTable(t *testing.T) {
	t.Parallel()
	p := migrated(t, dbtest.MariaDB(t))
	s := openStore(t, p, quiet)
	var results []<-chan error
	for range 300 {
		results = append(results, async(func() error { _, err := s.Create(t.Context(), newSession(s, "data")); return err }))
	}
	for _, r := range results {
		if err := <-r; err != nil {
			t.Fatal(err)
		}
	}
	sqlExec(t, p.db, `UPDATE sojourn_sessions SET expires_at = 1 WHERE id % 2 = 0`)
	// Far apart: more than one pass looks at.
	sqlExec(t, p.db, `UPDATE sojourn_sessions SET id = id + 100 * 20 * `+fmt.Sprint(pruneRows)+` WHERE id % 2 = 0 ORDER BY id DESC LIMIT 50`)
	eagerly := openStore(t, p, Options{NextPrune: eager})
	dbtest.Eventually(t, "all that is idle is empty", func() bool {
		var n int
		if err := p.db.QueryRow(`SELECT COUNT(*) FROM sojourn_sessions WHERE ended_at = expires_at AND data IS NULL`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 150
	})
	dbtest.Eventually(t, "it says that it leads", func() bool { st := eagerly.Stats(); return st.Leading && st.Term == 1 })
	if n, err := s.Len(t.Context()); n != 150 || err != nil {
		t.Errorf("Len = %d, %v", n, err)
	}
	if err := eagerly.StopPruning(t.Context()); err != nil {
		t.Error(err)
	}
	if eagerly.Stats().Leading {
		t.Error("it leads after StopPruning")
	}
	if n := eagerly.Stats().BackgroundErrors; n != 0 {
		t.Errorf("%d background errors", n)
	}
}

// Of two processes one prunes. When it is killed, the other one does.
func TestAnotherNodePrunesWhenTheOneThatDidIsKilled(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		kill := startChild(t, p.dsn)
		watch := openStore(t, p, quiet)
		by := func() string {
			if err := watch.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			return watch.Stats().MaintainedBy
		}
		dbtest.Eventually(t, "the child prunes", func() bool { return by() == "child" })
		heir := openStore(t, p, Options{NextPrune: eager, NodeName: "heir"})
		for range 5 {
			p.fillDead(t, 100)
			dbtest.Eventually(t, "the dead rows are gone", func() bool { return p.rows(t) == 0 })
		}
		if st := heir.Stats(); st.Leading || st.Pruned.Rows != 0 || by() != "child" {
			t.Errorf("the other node pruned as well: %+v", st)
		}
		if _, err := mysqllock.Holder(t.Context(), p.db, watch.lockKey("leader")); err != nil {
			t.Errorf("Holder: %v", err)
		}
		kill()
		p.fillDead(t, 100)
		dbtest.Eventually(t, "the heir prunes", func() bool { return p.rows(t) == 0 })
		dbtest.Eventually(t, "the heir says so", func() bool { st := heir.Stats(); return st.Leading && st.Pruned.Rows == 100 && by() == "heir" })
	})
}

func TestPassesOfSeveralNodesTakeTurns(t *testing.T) {
	t.Parallel()
	p := migrated(t, dbtest.MariaDB(t))
	p.fillDead(t, 5*pruneRows)
	nodes := []*Store{openStore(t, p, quiet), openStore(t, p, quiet), openStore(t, p, Options{NextPrune: eager})}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var total int64
	for range 3 {
		for _, s := range nodes[:2] {
			wg.Go(func() {
				done, err := s.PruneNow(t.Context())
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				total += done.Rows
			})
		}
	}
	wg.Wait()
	if err := nodes[2].StopPruning(t.Context()); err != nil {
		t.Error(err)
	}
	if total += nodes[2].Stats().Pruned.Rows; total != 5*pruneRows || p.rows(t) != 0 {
		t.Errorf("%d rows were deleted and %d are left; there were %d", total, p.rows(t), 5*pruneRows)
	}
}

func TestBackgroundFailuresAreReported(t *testing.T) {
	t.Parallel()
	p := migrated(t, dbtest.MariaDB(t))
	sqlExec(t, p.db, `CREATE TRIGGER no BEFORE UPDATE ON sojourn_sessions_meta FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not now'`)
	failed := make(chan error, 1000)
	s := openStore(t, p, Options{NextPrune: eager, OnError: func(err error) {
		select {
		case failed <- err:
		default:
		}
	}})
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "not now") || mysqlError(err) != "1644" {
		t.Errorf("OnError was told %v", err)
	}
	if s.Stats().BackgroundErrors == 0 {
		t.Error("it was not counted")
	}
	sqlExec(t, p.db, `DROP TRIGGER no`)
	dbtest.Eventually(t, "it prunes all the same", func() bool { return !s.Stats().Maintained.IsZero() })
}
