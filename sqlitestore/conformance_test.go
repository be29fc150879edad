package sqlitestore

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

func TestConformance(t *testing.T) { sessiontest.Run(t, newHarness().harness()) }

func TestHTTP(t *testing.T) { sessiontest.RunHTTP(t, newHarness().harness()) }

// In memory, reads and writes wait for each other, and a node has no peer.
func TestConformanceInMemory(t *testing.T) {
	h := newHarness().harness()
	h.New = func(t testing.TB) session.Store {
		s, err := Open(t.Context(), ":memory:", quiet)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	h.Peer, h.Hold, h.Waiting, h.Narrow, h.Remains = nil, nil, nil, nil, nil
	h.Expire = func(t testing.TB, s session.Store, key session.Key) { expire(t, s.(*Store).owned, s, key) }
	h.Vanish = func(t testing.TB, s session.Store, key session.Key) { vanish(t, s.(*Store).owned, key) }
	h.Age = func(t testing.TB, s session.Store, d time.Duration) { grow(t, s.(*Store).owned, s, d) }
	sessiontest.Run(t, h)
}

func BenchmarkStore(b *testing.B) {
	h := newHarness().harness()
	h.New = func(t testing.TB) session.Store {
		s, err := Open(t.Context(), newPath(t), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	sessiontest.Benchmark(b, h)
}

// files is the harness's memory of which store is on which file.
type files struct {
	mu sync.Mutex
	of map[session.Store]*file
}

type file struct {
	path   string
	admin  *sql.DB // the test's
	stores []*Store
}

func newHarness() *files { return &files{of: map[session.Store]*file{}} }

func (f *files) find(s session.Store) *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.of[s]
}

// open makes a store with a pool of its own.
func (f *files) open(t testing.TB, at *file, opts Options) session.Store {
	s, err := New(t.Context(), openDB(t, DSN(at.path)), opts)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at.stores = append(at.stores, s)
	f.of[s] = at
	return s
}

func (f *files) harness() sessiontest.Harness {
	return sessiontest.Harness{
		New: func(t testing.TB) session.Store {
			path := newPath(t)
			return f.open(t, &file{path: path, admin: migratedDB(t, path)}, quiet)
		},
		Peer: func(t testing.TB, s session.Store) session.Store { return f.open(t, f.find(s), quiet) },
		Narrow: func(t testing.TB, s session.Store) session.Store {
			narrow := quiet
			narrow.Longest, narrow.MaxData, narrow.MaxUser = time.Second, 10, 1
			if _, err := migrations.SetSettings(t.Context(), f.find(s).admin, migrations.Config{}, migrations.Settings{RetireGrace: time.Minute}); err != nil {
				t.Fatal(err)
			}
			return f.open(t, f.find(s), narrow)
		},
		Expire: func(t testing.TB, s session.Store, key session.Key) { expire(t, f.find(s).admin, s, key) },
		Vanish: func(t testing.TB, s session.Store, key session.Key) { vanish(t, f.find(s).admin, key) },
		Remains: func(t testing.TB, s session.Store, key session.Key) (remains bool) {
			err := f.find(s).admin.QueryRowContext(t.Context(), `
SELECT count(*) > 0 FROM sojourn_sessions WHERE key = ?1 AND (user_id IS NOT NULL OR data IS NOT NULL)`, key.Hash[:]).Scan(&remains)
			if err != nil {
				t.Error(err)
			}
			return remains
		},
		Age: func(t testing.TB, s session.Store, d time.Duration) { grow(t, f.find(s).admin, s, d) },
		Hold: func(t testing.TB, s session.Store, key session.Key) func(bool) {
			conn, err := f.find(s).admin.Conn(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			sqlExec(t, conn, `BEGIN IMMEDIATE`)
			return func(expired bool) {
				if expired {
					expire(t, conn, s, key)
				}
				sqlExec(t, conn, `COMMIT`)
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			}
		},
		Waiting: func(_ testing.TB, s session.Store) (n int) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, s := range f.of[s].stores {
				n += s.writer.waiting()
			}
			return n
		},
		Queues:    true,
		Precision: time.Microsecond,
		Require: []sessiontest.Ability{
			sessiontest.Clock, sessiontest.Putter, sessiontest.Lister, sessiontest.Clearer,
			sessiontest.UserIndex, sessiontest.Pruner, sessiontest.Explainer, sessiontest.Statser,
		},
	}
}

func expire(t testing.TB, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, s session.Store, key session.Key) {
	now := storekit.Micros(storekit.Expiry(s.(*Store).Now()))
	n := sqlExec(t, db, `UPDATE sojourn_sessions SET expires_at = ?2 WHERE key = ?1 AND ended_at IS NULL AND expires_at > ?2`, key.Hash[:], now)
	if n != 1 {
		t.Errorf("the session to expire is not live: %d rows", n)
	}
}

// grow makes all that is stored older.
func grow(t testing.TB, db *sql.DB, s session.Store, d time.Duration) {
	sqlExec(t, db, `
UPDATE sojourn_sessions SET bucket = bucket - ?2, kept_to = kept_to - ?2, expires_at = expires_at - ?1, deadline = deadline - ?1,
  created_at = created_at - ?1, ended_at = ended_at - ?1, grace_until = grace_until - ?1`, d.Microseconds(), int64(d/time.Hour))
	if _, err := s.(*Store).PruneNow(t.Context()); err != nil {
		t.Error(err)
	}
}

func vanish(t testing.TB, db *sql.DB, key session.Key) {
	sqlExec(t, db, `DELETE FROM sojourn_sessions WHERE key = ?1`, key.Hash[:])
}
