package nodestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/mysqllock"
	"github.com/sojourn-go/sojourn/leader/pglock"
	"github.com/sojourn-go/sojourn/session"
)

func TestPruneTakesWhatHasExpiredInBatches(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		ctx, clock := t.Context(), newTestClock(frozen)
		opts := created(quietly)
		opts.PruneBatch = 7
		s := openOn(t, db, l, opts, clock.now)
		for i := range 45 {
			ttl := time.Minute
			if i%3 == 0 {
				ttl = time.Hour
			}
			if err := s.Set(ctx, fmt.Sprint("id", i), doc(frozen, ""), TTL(ttl)); err != nil {
				t.Fatal(err)
			}
		}
		clock.add(30 * time.Minute)
		if n, err := s.Prune(ctx); n != 30 || err != nil {
			t.Errorf("pruned %d (%v), want 30", n, err)
		}
		if n, err := s.Prune(ctx); n != 0 || err != nil {
			t.Errorf("pruned %d (%v) again", n, err)
		}
		if n, err := s.Len(ctx); n != 15 || err != nil {
			t.Errorf("%d are left (%v), want 15", n, err)
		}
		if n, err := s.Clear(ctx); n != 15 || err != nil {
			t.Errorf("cleared %d (%v), want 15", n, err)
		}
	})
}

// Between finding and removing it, a session may have been set anew.
func TestPruningLooksAgainBeforeItRemoves(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		opts := created(quietly)
		opts.PruneBatch = 2
		s := openOn(t, db, l, opts, newTestClock(frozen).now)
		mustCreate(t, s, "live", doc(frozen, ""))
		insertRow(t, db, l, l.IDPrefix+"dead", "{}", strings.Replace(inAnHour(l), "1893459600", "1", 1))
		if l.Expires.isDate() {
			run(t, db, "UPDATE "+qualified(l)+" SET "+l.Columns.Expires+" = '2000-01-01 00:00:00' WHERE "+l.Columns.ID+" = 'dead'")
		}
		v := s.mineNow()
		v[nth("id", 0)], v[nth("id", 1)] = l.IDPrefix+"live", l.IDPrefix+"dead"
		if n, err := s.exec(t.Context(), nil, s.q.removeExpired, v); n != 1 || err != nil {
			t.Errorf("removed %d (%v), want 1", n, err)
		}
		if _, err := s.Get(t.Context(), "live"); err != nil {
			t.Error(err)
		}
	})
}

func TestListingsGoOverSeveralPages(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		s := openOn(t, db, l, created(quietly), newTestClock(frozen).now)
		const sessions = 2*entriesPerPage + 5
		for i := range sessions {
			if err := s.Set(t.Context(), fmt.Sprint("Id-", i), doc(frozen, "")); err != nil {
				t.Fatal(err)
			}
		}
		seen := map[string]bool{}
		for e, err := range s.All(t.Context()) {
			if err != nil || seen[e.ID] {
				t.Fatalf("%q (%v), seen: %v", e.ID, err, seen[e.ID])
			}
			seen[e.ID] = true
		}
		if len(seen) != sessions {
			t.Errorf("listed %d, want %d", len(seen), sessions)
		}
		n := 0
		for range s.All(t.Context()) {
			if n++; n == 3 {
				break
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		for _, err := range s.All(ctx) {
			last = err
			cancel()
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("the listing ended with %v", last)
		}
	})
}

// passes counts the waits for a pass.
type passes struct {
	n    atomic.Int64
	next time.Duration
}

func (p *passes) wait(time.Duration) time.Duration { p.n.Add(1); return p.next }

func TestPruningRunsFromStartToStop(t *testing.T) {
	t.Parallel()
	db, clock := sqliteDB(t), newTestClock(frozen)
	p := &passes{next: time.Millisecond}
	opts := created(Options{NextPrune: p.wait})
	s := openOn(t, db, ConnectSQLite(), opts, clock.now)
	mustCreate(t, s, "a", doc(frozen, ""))
	left := func() int64 {
		var n int64
		if err := db.QueryRowContext(context.Background(), "SELECT count(*) FROM sessions").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	dbtest.Eventually(t, "three passes", func() bool { return p.n.Load() >= 3 })
	if left() != 1 {
		t.Fatal("a live session is gone")
	}
	clock.add(day)
	dbtest.Eventually(t, "the row is pruned", func() bool { return left() == 0 })
	for range 2 {
		if err := s.StopPruning(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	done := p.n.Load()
	s.StartPruning()
	s.StartPruning()
	dbtest.Eventually(t, "another pass", func() bool { return p.n.Load() > done })
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "stop after close", s.StopPruning(t.Context()), session.ErrClosed)
	s.StartPruning() // does nothing
}

func TestAFailureOfPruningIsReported(t *testing.T) {
	t.Parallel()
	db := sqliteDB(t)
	told := make(chan error, 1)
	opts := created(Options{PruneInterval: -1, NextPrune: func(time.Duration) time.Duration { return time.Millisecond }, OnError: func(err error) {
		select {
		case told <- err:
		default:
		}
	}})
	s := openOn(t, db, ConnectSQLite(), opts, time.Now)
	run(t, db, "ALTER TABLE sessions RENAME TO elsewhere")
	s.StartPruning()
	if err := <-told; err == nil {
		t.Error("no error")
	}
	// It goes on when the table is back.
	run(t, db, "ALTER TABLE elsewhere RENAME TO sessions")
	insertRow(t, db, ConnectSQLite(), "sess:a", "{}", "1000")
	dbtest.Eventually(t, "the row is pruned", func() bool {
		var n int
		err := db.QueryRowContext(context.Background(), "SELECT count(*) FROM sessions").Scan(&n)
		return err == nil && n == 0
	})
}

func TestOneOfTwoProcessesPrunes(t *testing.T) {
	t.Parallel()
	elect := leader.Options{Poll: 10 * time.Millisecond, Timeout: time.Minute} // on a slow machine too
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		conn := dbtest.Conn(t, dbtest.Postgres(t).Database(t))
		locker := pglock.New(conn.Config(), leader.Key("nodestore", t.Name()), "pruner")
		oneOfTwoPrunes(t, postgresDB(t, "UTC"), ConnectPGSimple(), leader.Alone(locker, elect))
	})
	t.Run("mysql", func(t *testing.T) {
		dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
			cfg, err := mysql.ParseDSN(s.DSN("mysql"))
			if err != nil {
				t.Fatal(err)
			}
			locker := mysqllock.New(cfg, leader.Key("nodestore", t.Name()), "pruner")
			oneOfTwoPrunes(t, mysqlDB(t, s, nil), ExpressMySQLSession(), leader.Alone(locker, elect))
		})
	})
}

func oneOfTwoPrunes(t *testing.T, db *sql.DB, l Layout, elect func(context.Context, func(context.Context) error) error) {
	var stores []*Store
	var passed []*passes
	for range 2 {
		p := &passes{next: time.Millisecond}
		stores = append(stores, openOn(t, db, l, created(Options{NextPrune: p.wait, Leader: elect}), time.Now))
		passed = append(passed, p)
	}
	dbtest.Eventually(t, "somebody prunes", func() bool { return passed[0].n.Load() > 5 || passed[1].n.Load() > 5 })
	first := 0
	if passed[1].n.Load() > 0 {
		first = 1
	}
	if n := passed[1-first].n.Load(); n != 0 {
		t.Errorf("the other one did %d passes", n)
	}
	if err := stores[first].Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, "the other one takes over", func() bool { return passed[1-first].n.Load() > 0 })
}

func TestAnElectionThatFailsIsReportedAndTriedAgain(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var tried atomic.Int64
	told := make(chan error, 100)
	s := openOn(t, sqliteDB(t), ConnectSQLite(), created(Options{
		NextPrune: func(time.Duration) time.Duration { return time.Millisecond },
		OnError: func(err error) {
			select {
			case told <- err:
			default:
			}
		},
		Leader: func(context.Context, func(context.Context) error) error { tried.Add(1); return broken },
	}), time.Now)
	if err := <-told; !errors.Is(err, broken) {
		t.Errorf("told %v", err)
	}
	dbtest.Eventually(t, "a second try", func() bool { return tried.Load() > 1 })
	if err := s.StopPruning(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTouchesAreThrottled(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		ctx, clock := t.Context(), newTestClock(frozen)
		opts := created(quietly)
		opts.TouchEvery = time.Minute
		s := openOn(t, db, l, opts, clock.now)
		opts.DisableTouch = true
		never := openOn(t, db, l, opts, clock.now)
		e := mustCreate(t, s, "a", doc(frozen, ""))
		touch := func(s *Store, by time.Duration, writes bool) {
			t.Helper()
			before, err := s.Get(ctx, "a")
			if err != nil {
				t.Fatal(err)
			}
			to := e.Expires.Add(by)
			if due := s.TouchDue(before, to); due != writes {
				t.Errorf("by %v: due is %v", by, due)
			}
			if found, err := s.Touch(ctx, "a", to); !found || err != nil {
				t.Errorf("by %v: %v %v", by, found, err)
			}
			after, err := s.Get(ctx, "a")
			if err != nil || before.Expires.Equal(after.Expires) == writes {
				t.Errorf("by %v: it expired %v, now %v (%v)", by, before.Expires, after.Expires, err)
			}
		}
		touch(s, 58*time.Second, false)
		touch(s, 62*time.Second, true)
		touch(s, 64*time.Second, false)
		touch(s, -time.Minute, true)
		touch(never, time.Hour, false)
		clock.add(2 * day)
		for _, s := range []*Store{s, never} {
			if found, err := s.Touch(ctx, "a", clock.now().Add(day)); found || err != nil {
				t.Errorf("touch of what has expired: %v %v", found, err)
			}
		}
	})
}
