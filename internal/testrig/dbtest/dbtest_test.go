package dbtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func exec(t *testing.T, conn *pgx.Conn, stmt string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), stmt); err != nil {
		t.Fatalf("%s: %v", stmt, err)
	}
}

func TestSchemaHasAnEmptySearchPath(t *testing.T) {
	t.Parallel()
	dsn, schema := dbtest.Postgres(t).Schema(t)
	conn := dbtest.Conn(t, dsn)
	var pgErr *pgconn.PgError
	if _, err := conn.Exec(t.Context(), "CREATE TABLE forgotten (n int)"); !errors.As(err, &pgErr) || pgErr.Code != "3F000" {
		t.Fatalf("a statement without a schema name: %v, want 3F000", err)
	}
	exec(t, conn, "CREATE TABLE "+pgx.Identifier{schema, "named"}.Sanitize()+" (n int)")
}

func TestSchemasAndDatabasesAreDroppedWithTheirTest(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	var database, dsn, schema string
	t.Run("inner", func(t *testing.T) {
		database = s.Database(t)
		dsn, schema = s.Schema(t)
		// Neither an open connection nor content keeps them.
		exec(t, dbtest.Conn(t, dsn), "CREATE TABLE "+schema+".t (n int)")
		conn, err := pgx.Connect(t.Context(), database)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
	})
	if conn, err := pgx.Connect(t.Context(), database); err == nil {
		conn.Close(t.Context())
		t.Error("the database is still there")
	}
	var n int
	if err := dbtest.Conn(t, dsn).QueryRow(t.Context(), "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1", schema).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d schemas (%v), want none", n, err)
	}
}

func TestDatabasesAreSeparate(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	for _, dsn := range []string{s.Database(t), s.Database(t)} {
		exec(t, dbtest.Conn(t, dsn), "CREATE TABLE x (n int)")
	}
}

func TestOwnServerCanBeStoppedKilledAndRestarted(t *testing.T) {
	t.Parallel()
	s := dbtest.Start(t, dbtest.Config{Settings: map[string]string{"application_name": "mine"}})
	dsn := s.Database(t)
	exec(t, dbtest.Conn(t, dsn), "CREATE TABLE x (n int)")
	for _, end := range []func(){s.Stop, s.Kill} {
		end()
		if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
			conn.Close(t.Context())
			t.Fatal("it still runs")
		}
		s.Restart(t)
		exec(t, dbtest.Conn(t, dsn), "INSERT INTO x VALUES (1)")
	}
	if n := strings.Count(s.Log(), "ready to accept connections"); n != 3 {
		t.Errorf("the log tells of %d starts, want 3", n)
	}
}

func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	primary := dbtest.Start(t, dbtest.Config{})
	dsn := primary.Database(t)
	standby := dbtest.Standby(t, primary)
	primary.Kill()
	standby.Promote(t)
	exec(t, dbtest.Conn(t, strings.Replace(dsn, fmt.Sprint(primary.Port()), fmt.Sprint(standby.Port()), 1)), "CREATE TABLE x (n int)")
}

func TestBouncerServesASchema(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	dsn, schema := s.Schema(t)
	pooled := dbtest.Bouncer(t, s, dsn, map[string]string{"default_pool_size": "2"})
	pool := dbtest.Pool(t, pooled, func(c *pgxpool.Config) {
		c.MaxConns = 8
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	})
	for i := range 20 {
		if _, err := pool.Exec(t.Context(), fmt.Sprintf("CREATE TABLE %s.t%d (n int)", schema, i)); err != nil {
			t.Fatal(err)
		}
	}
}

// What one test holds up another one's DROP DATABASE by, it may give back only when it
// has got a database.
func TestADropThatWaitsHoldsUpNoOtherTest(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	holder := dbtest.Conn(t, s.DSN("postgres"))
	exec(t, holder, "BEGIN")
	exec(t, holder, "LOCK TABLE pg_catalog.pg_subscription IN SHARE MODE") // where a DROP looks
	var ended sync.WaitGroup
	ended.Go(func() { t.Run("a test that ends", func(t *testing.T) { s.Database(t) }) })
	dbtest.Eventually(t, "the DROP waits", func() bool {
		var waits bool
		err := holder.QueryRow(t.Context(), `
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE NOT granted AND relation = 'pg_catalog.pg_subscription'::regclass)`).Scan(&waits)
		return err == nil && waits
	})
	s.Database(t)
	exec(t, holder, "COMMIT")
	ended.Wait()
}
