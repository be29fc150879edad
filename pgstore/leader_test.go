package pgstore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// nodes opens stores that all take part in the maintenance.
func nodes(t testing.TB, p place, n int) (stores []*Store) {
	t.Helper()
	for i := range n {
		stores = append(stores, p.open(t, Options{
			NodeName:  fmt.Sprint("node ", i),
			NextPrune: func() time.Duration { return 10 * time.Millisecond },
		}))
	}
	return stores
}

// leaderOf waits until one of the stores leads, and returns its number.
func leaderOf(t testing.TB, stores []*Store) (leader int) {
	t.Helper()
	dbtest.Eventually(t, "one of the nodes leads", func() bool {
		n := 0
		for i, s := range stores {
			if s.Stats().Leading {
				leader = i
				n++
			}
		}
		return n == 1
	})
	return leader
}

// holder returns who holds the lock, by the server's word: there is no more
// than one.
func (p place) holder(t testing.TB) (pid int32, name string) {
	t.Helper()
	const sql = `
SELECT l.pid, a.application_name FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database() AND a.application_name LIKE '%(leader)'
GROUP BY 1, 2`
	dbtest.Eventually(t, "somebody holds the lock", func() bool {
		rows, err := p.pool.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for rows.Next() {
			if err := rows.Scan(&pid, &name); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n > 1 {
			t.Errorf("%d sessions call themselves the leader", n)
		}
		return n == 1
	})
	return pid, name
}

// works waits until the maintenance goes on.
func works(t testing.TB, s *Store) {
	t.Helper()
	since := s.Stats().Maintained
	dbtest.Eventually(t, "a pass is done", func() bool { return s.Stats().Maintained.After(since) })
}

func TestOneNodeLeadsAndAnotherTakesOver(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	stores := nodes(t, p, 3)
	first := leaderOf(t, stores)
	pid, name := p.holder(t)
	if want := fmt.Sprintf("sojourn node %d (leader)", first); name != want {
		t.Errorf("the server shows %q, want %q", name, want)
	}
	works(t, stores[first])
	if by := stores[first].Stats().MaintainedBy; by != fmt.Sprint("node ", first) {
		t.Errorf("MaintainedBy is %q", by)
	}

	// Its connection breaks.
	terms := func() (sum uint64) {
		for _, s := range stores {
			sum += s.Stats().Term
		}
		return sum
	}
	before := terms()
	p.exec(t, `SELECT pg_terminate_backend($1)`, pid)
	dbtest.Eventually(t, "a new term begins", func() bool { return terms() > before })
	second := leaderOf(t, stores)
	if again, _ := p.holder(t); again == pid {
		t.Error("the connection is still the same")
	}
	works(t, stores[second])

	// It is closed.
	closeStore(t, stores[second])
	stores = append(stores[:second:second], stores[second+1:]...)
	third := leaderOf(t, stores)
	works(t, stores[third])
	p.holder(t)

	// It stops taking part.
	if err := stores[third].StopPruning(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stores[third].Stats().Leading {
		t.Error("it leads after StopPruning")
	}
	fourth := leaderOf(t, stores)
	if fourth == third {
		t.Error("the node that stopped leads again")
	}
	if err := stores[fourth].StopPruning(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, p, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'sojourn node%'`); n != 0 {
		t.Errorf("%d connections are left though nobody takes part", n)
	}
	stores[third].StartPruning()
	stores[third].StartPruning()
	if got := leaderOf(t, stores); got != third {
		t.Errorf("node %d leads, want the one that was started", got)
	}
	works(t, stores[third])
	everything(t, stores[fourth])
}

func TestPruningIsStoppedAndStartedInAnyOrder(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	stop := func() {
		t.Helper()
		if err := s.StopPruning(t.Context()); err != nil {
			t.Error(err)
		}
	}
	stop()
	for range 3 {
		s.StartPruning()
		stop()
		stop()
		s.StartPruning()
		s.StartPruning()
		dbtest.Eventually(t, "it leads", func() bool { return s.Stats().Leading })
		stop()
		if s.Stats().Leading {
			t.Error("it leads though it was stopped")
		}
	}
	s.StartPruning()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.StopPruning(cancelled) // whatever it says, the next waits for the same end
	stop()
	s.StartPruning()
	closeStore(t, s)
	s.StartPruning() // of no effect
	if err := s.StopPruning(t.Context()); err == nil {
		t.Error("StopPruning of a closed store says nothing")
	}
}

// A pool that retires its connections does not retire the leader.
func TestALeaderOutlivesTheConnectionsOfThePool(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	short := p.by(t, p.dsn, func(c *pgxpool.Config) {
		c.MaxConnLifetime = time.Second
		c.HealthCheckPeriod = 20 * time.Millisecond
		c.MinConns = 1
	})
	stores := nodes(t, short, 2)
	first := leaderOf(t, stores)
	pid, _ := p.holder(t)
	dbtest.Eventually(t, "the pool has retired connections", func() bool { return short.pool.Stat().MaxLifetimeDestroyCount() >= 2 })
	works(t, stores[first])
	if now, _ := p.holder(t); now != pid {
		t.Errorf("process %d leads, want %d", now, pid)
	}
	if st := stores[first].Stats(); !st.Leading || st.Term != 1 {
		t.Errorf("Leading %v in term %d, want the first", st.Leading, st.Term)
	}
	if errs := stores[first].Stats().BackgroundErrors; errs != 0 {
		t.Errorf("%d errors", errs)
	}
}

// Without anybody who leads sessions work all the same.
func TestSessionsWorkWithoutALeader(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	rec := everything(t, s)
	p.exec(t, `UPDATE `+s.names.Sessions+` SET expires_at = clock_timestamp() WHERE key = $1`, rec.Key.Hash[:])
	if _, err := s.Get(t.Context(), rec.Key); !isNotFound(err) {
		t.Errorf("Get of an expired session: %v, want %v", err, session.ErrNotFound)
	}
	if st := s.Stats(); st.Leading || st.Term != 0 {
		t.Errorf("Leading %v, term %d of a node that takes no part", st.Leading, st.Term)
	}
}
