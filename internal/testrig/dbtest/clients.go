package dbtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/await"
)

// Patience is await.Patience.
const Patience = await.Patience

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

// Eventually is await.True.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	await.True(t, what, cond)
}
