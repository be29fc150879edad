package leader_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/pglock"
)

type pgTerm = leader.Term[*pgx.Conn]

// quick makes elections short. Nothing is timed with it.
var quick = leader.Options{Poll: 20 * time.Millisecond, Verify: 20 * time.Millisecond, Timeout: 20 * time.Second}

// election is a Run in the background.
type election struct {
	stop func() // ends it, waits for it, checks its answer; may be repeated
}

func contend[C any](t testing.TB, locker leader.Locker[C], opts leader.Options, work func(context.Context, *leader.Term[C]) error) election {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- leader.Run(ctx, locker, opts, work) }()
	stop := sync.OnceFunc(func() {
		cancel()
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run returned %v", err)
			}
		case <-timer.C:
			t.Error("Run does not return")
		}
	})
	t.Cleanup(stop)
	return election{stop: stop}
}

// lead is a work that ends with its term.
func lead[C any](leading context.Context, _ *leader.Term[C]) error {
	<-leading.Done()
	return nil
}

// telling is a work that tells each term and then does next.
func telling[C any](terms chan<- *leader.Term[C], next func(context.Context, *leader.Term[C]) error) func(context.Context, *leader.Term[C]) error {
	return func(leading context.Context, term *leader.Term[C]) error {
		select {
		case terms <- term:
		case <-leading.Done():
		}
		return next(leading, term)
	}
}

func receive[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-within(t).Done():
		t.Fatal("never came: " + what)
		panic("unreachable")
	}
}

// sql is a statement for Term.Do.
func sql(stmt string, args ...any) func(context.Context, *pgx.Conn) error {
	return func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, stmt, args...)
		return err
	}
}

func TestTermsNeverInterleaveWhateverHappensToTheLeaders(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	if _, err := db.Exec(within(t), `CREATE TABLE beats (seq bigserial PRIMARY KEY, node int, term bigint)`); err != nil {
		t.Fatal(err)
	}
	key := leader.Key(t.Name())
	opts := quick
	opts.Verify = time.Second // a work that is not fenced would go on for as long
	var beats atomic.Int64
	for node := range 5 {
		contend(t, pglock.New(config(t, dsn), key, ""), opts, func(leading context.Context, term *pgTerm) error {
			for {
				err := term.Do(leading, patience, sql(`INSERT INTO beats (node, term) VALUES ($1, $2)`, node, term.Number))
				if err != nil {
					return err
				}
				if beats.Add(1)%500 == 0 {
					return nil // resign from time to time
				}
			}
		})
	}
	for kills := 0; kills < 15; {
		before := beats.Load()
		dbtest.Eventually(t, "a leader works", func() bool { return beats.Load() > before+5 })
		info, err := pglock.Holder(within(t), db, key)
		if errors.Is(err, leader.ErrNoLeader) {
			continue // between two terms
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(within(t), `SELECT pg_terminate_backend($1)`, info.PID); err != nil {
			t.Fatal(err)
		}
		kills++
	}

	// A term whose beats have those of another one between them has overlapped it.
	var terms, stretches int
	err := db.QueryRow(within(t), `
		SELECT count(DISTINCT (node, term)), count(*) FILTER (WHERE changed)
		  FROM (SELECT node, term, lag((node, term)) OVER (ORDER BY seq) IS DISTINCT FROM (node, term) AS changed FROM beats) AS b`).
		Scan(&terms, &stretches)
	if err != nil {
		t.Fatal(err)
	}
	if terms < 10 || stretches != terms {
		t.Errorf("%d terms in %d stretches, want as many stretches as terms, and at least 10", terms, stretches)
	}
}

func TestWorksDoNotOverlapWhenLeadersResign(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	key := leader.Key(t.Name())
	var leaders, terms atomic.Int64
	work := func(leading context.Context, term *pgTerm) error {
		if n := leaders.Add(1); n != 1 {
			t.Errorf("%d work functions run at the same time", n)
		}
		defer leaders.Add(-1)
		switch terms.Add(1) % 3 {
		case 0:
			return errors.New("some failure")
		case 1:
			return term.Do(leading, patience, sql(`SELECT pg_sleep(0.02)`))
		default:
			return nil
		}
	}
	opts := quick
	opts.MaxBackoff = opts.Poll
	var nodes []election
	for range 6 {
		nodes = append(nodes, contend(t, pglock.New(config(t, dsn), key, "resigner"), opts, work))
	}
	for _, node := range nodes {
		before := terms.Load()
		dbtest.Eventually(t, "ten more terms", func() bool { return terms.Load() >= before+10 })
		node.stop()
	}
	db := dbtest.Conn(t, dsn)
	dbtest.Eventually(t, "all connections are gone", func() bool { return sessions(t, db, "resigner") == 0 })
}

// sessions counts the server's sessions of that name, leading or not.
func sessions(t testing.TB, db pglock.QueryRower, name string) (n int) {
	t.Helper()
	err := db.QueryRow(within(t), `SELECT count(*) FROM pg_stat_activity
		WHERE application_name IN ($1, $1 || ' (leader)') AND datname = current_database()`, name).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAnotherTakesOverWhenTheLeadersConnectionIsTerminated(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	key := leader.Key(t.Name())
	locker := pglock.New(config(t, dsn), key, "")
	ends := make(chan error, 100)
	terms := make(chan *pgTerm)
	contend(t, locker, quick, telling(terms, func(leading context.Context, _ *pgTerm) error {
		<-leading.Done()
		ends <- context.Cause(leading)
		return nil
	}))
	receive(t, "the first term", terms)
	info, err := pglock.Holder(within(t), db, key)
	if err != nil {
		t.Fatal(err)
	}
	others := make(chan *pgTerm)
	other := contend(t, locker, quick, telling(others, lead))
	if _, err := db.Exec(within(t), `SELECT pg_terminate_backend($1)`, info.PID); err != nil {
		t.Fatal(err)
	}
	if cause := receive(t, "the end of the term", ends); !errors.Is(cause, leader.ErrLost) {
		t.Errorf("leading ended with %v, want ErrLost", cause)
	}
	select { // either may be the first to try
	case <-others:
	case term := <-terms:
		if term.Number != 2 {
			t.Errorf("got term %d, want a new one", term.Number)
		}
	case <-within(t).Done():
		t.Fatal("nobody leads")
	}
	other.stop()
}

func TestALongStatementIsNotALostLock(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	terms := make(chan *pgTerm)
	results := make(chan error)
	opts := quick
	opts.Timeout = time.Second
	contend(t, pglock.New(config(t, dsn), 1, ""), opts, telling(terms, func(leading context.Context, term *pgTerm) error {
		results <- term.Do(leading, patience, sql(`SELECT pg_sleep(2)`))
		return lead(leading, term)
	}))
	receive(t, "the term", terms)
	if err := receive(t, "the result", results); err != nil {
		t.Errorf("Do returned %v", err)
	}
}

func TestAStatementOverItsLimitIsStoppedOnTheServer(t *testing.T) {
	t.Parallel()
	for name, listens := range map[string]bool{"listens to its context": true, "does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t).Database(t)
			results := make(chan error, 1)
			second := make(chan int64, 100)
			// Only a request to stop, not the loss of the connection, may end it.
			locker := pglock.FromPool(dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
				c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
					return sql(`SET client_connection_check_interval = 0`)(ctx, conn)
				}
			}), 1, "sleeper")
			contend(t, locker, quick, func(leading context.Context, term *pgTerm) error {
				if term.Number > 1 {
					second <- term.Number
					return lead(leading, term)
				}
				err := term.Do(leading, 50*time.Millisecond, func(ctx context.Context, conn *pgx.Conn) error {
					if !listens {
						ctx = context.Background()
					}
					return sql(`SELECT pg_sleep(600)`)(ctx, conn)
				})
				results <- err
				return err
			})
			if err := receive(t, "the result", results); !errors.Is(err, leader.ErrLost) {
				t.Errorf("Do returned %v, want ErrLost", err)
			}
			receive(t, "the second term", second)
			db := dbtest.Conn(t, dsn)
			dbtest.Eventually(t, "only its session is left", func() bool { return sessions(t, db, "sleeper") == 1 })
		})
	}
}

func TestWorkThatLosesTheLockItselfIsNoticed(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	for i, stmt := range []string{
		`SELECT pg_advisory_unlock(%d)`,
		`SELECT pg_advisory_unlock_all()`,
		`DISCARD ALL`,
		`BEGIN; CREATE TABLE t%d (n int)`, // a transaction left open
		`SET default_transaction_read_only = on`,
		`SELECT pg_terminate_backend(pg_backend_pid())`,
	} {
		key := int64(i)
		ends := make(chan error, 100)
		e := contend(t, pglock.New(config(t, dsn), key, ""), quick, func(leading context.Context, term *pgTerm) error {
			if term.Number > 1 {
				return lead(leading, term)
			}
			text := stmt
			if i == 0 || i == 3 {
				text = fmt.Sprintf(stmt, key)
			}
			err := term.Do(leading, patience, sql(text))
			ends <- errors.Join(err, context.Cause(leading))
			return err
		})
		if err := receive(t, "the end of the term", ends); !errors.Is(err, leader.ErrLost) {
			t.Errorf("%s: Do returned %v, want ErrLost", stmt, err)
		}
		e.stop()
	}
	var left int
	err := dbtest.Conn(t, dsn).QueryRow(within(t), `SELECT count(*) FROM pg_class WHERE relname = 't3'`).Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("%d tables, %v: the open transaction was not rolled back", left, err)
	}
}

func TestTheLifetimeOfPoolConnectionsDoesNotEndTerms(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	pool := dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
		c.MaxConnLifetime = time.Second
		c.HealthCheckPeriod = 50 * time.Millisecond
		c.MinConns = 2
		c.MaxConns = 2
	})
	terms := make(chan *pgTerm, 100)
	pid := make(chan uint32, 1)
	e := contend(t, pglock.FromPool(pool, 1, ""), quick, telling(terms, func(leading context.Context, term *pgTerm) error {
		err := term.Do(leading, patience, func(_ context.Context, conn *pgx.Conn) error {
			pid <- conn.PgConn().PID()
			return nil
		})
		<-leading.Done()
		return err
	}))
	first := receive(t, "the leader", pid)
	dbtest.Eventually(t, "the pool has replaced its connections", func() bool {
		return pool.Stat().MaxLifetimeDestroyCount() >= 4
	})
	info, err := pglock.Holder(within(t), pool, 1)
	if err != nil || uint32(info.PID) != first || len(terms) != 1 {
		t.Errorf("%+v leads, %v, after %d terms; want process %d in its first", info, err, len(terms), first)
	}
	e.stop()
	dbtest.Eventually(t, "no connection of the pool is in use", func() bool { return pool.Stat().AcquiredConns() == 0 })
}
