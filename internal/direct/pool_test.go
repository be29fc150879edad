package direct_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// pgx would keep the place of a connection that was lost for 15 s.
func TestAHardenedPoolReplacesWhatFellSilent(t *testing.T) {
	t.Parallel()
	proxy, dsn := dbtest.Proxy(t, dbtest.Postgres(t).Database(t))
	var before, after, closed int
	pool := dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
		c.MaxConns = 1
		c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { before++; return nil }
		c.ConnConfig.AfterConnect = func(context.Context, *pgconn.PgConn) error { after++; return nil }
		c.BeforeClose = func(*pgx.Conn) { closed++ }
		direct.Harden(c)
	})
	if err := pool.Ping(within(t)); err != nil {
		t.Fatal(err)
	}
	proxy.ForgetAll()
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := pool.Exec(short, `SELECT 1`); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a query on a silent connection: %v", err)
	}
	enough, cancel := context.WithTimeout(t.Context(), 13*time.Second)
	defer cancel()
	if _, err := pool.Exec(enough, `SELECT 1`); err != nil {
		t.Errorf("a query after that: %v", err)
	}
	if before != 2 || after != 2 || closed != 1 {
		t.Errorf("hooks were called %d, %d and %d times; want 2, 2 and 1", before, after, closed)
	}
}
