package dbtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Patience is how long a test waits for what has to happen: so long that only a
// failure takes longer, on a slow and busy machine too.
const Patience = 5 * time.Minute

const interval = 5 * time.Millisecond

// Pool opens a pool; mod, if not nil, changes its configuration first. The pool
// is closed when the test ends, which fails if a connection was not released.
func Pool(t testing.TB, dsn string, mod func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal("dbtest:", err)
	}
	if mod != nil {
		mod(cfg)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal("dbtest:", err)
	}
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() { defer close(closed); pool.Close() }()
		timer := time.NewTimer(Patience)
		defer timer.Stop()
		select {
		case <-closed:
		case <-timer.C:
			t.Errorf("dbtest: %d connections of a pool were never released", pool.Stat().AcquiredConns())
		}
	})
	return pool
}

// Conn opens a connection, closed when the test ends.
func Conn(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal("dbtest:", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		_ = conn.Close(ctx) // the test may have broken it on purpose
	})
	return conn
}

// Eventually waits until cond holds, which is tried every few milliseconds by
// the calling goroutine, and ends the test when it does not within Patience.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", Patience, what)
		}
	}
}
