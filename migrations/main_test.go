package migrations

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// childDSN makes the test binary a process that calls Up once.
const childDSN = "SOJOURN_TEST_MIGRATE"

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childDSN); dsn != "" {
		os.Exit(child(dsn))
	}
	dbtest.Main(m)
}

func child(dsn string) int {
	ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
	defer cancel()
	config, err := pgx.ParseConfig(dsn)
	if err == nil {
		err = Up(ctx, config, Config{})
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// strangeNames are names that break what quotes, cuts or splits them carelessly.
var strangeNames = []struct{ schema, table string }{
	{"sojourn", "sessions"},
	{"My App", "User.Sessions"},
	{`we"ird'`, `ta"b'le\`},
	{"{{.schema}}", "{{template `x`}}"},
	{"$$ $1 $sojourn_", "%s%I%%"},
	{"schéma", "セッション"},
	{"\n---- tern: disable-tx ----\n", "a\n---- create above / drop below ----\nb"},
	{strings.Repeat("s", 63), strings.Repeat("t", 63)},
	{strings.Repeat("漢", 21), strings.Repeat("字", 21)},
	{strings.Repeat(`"`, 63), strings.Repeat(`'`, 63)},
	{"-- ; DROP TABLE x", "/* :name :'name'"},
}

// fewPartitions is for tests that many partitions tell nothing: they are most of
// what Up takes.
var fewPartitions = Settings{PartitionWidth: 15 * 24 * time.Hour}

func parse(t testing.TB, dsn string) *pgx.ConnConfig {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// as returns the configuration with another role to log in.
func as(t testing.TB, dsn, role string) *pgx.ConnConfig {
	t.Helper()
	config := parse(t, dsn)
	config.User, config.Password = role, ""
	return config
}

func connectAs(t testing.TB, dsn, role string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), as(t, dsn, role))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

func mustUp(t testing.TB, dsn string, cfg Config) {
	t.Helper()
	if err := Up(t.Context(), parse(t, dsn), cfg); err != nil {
		t.Fatal(err)
	}
}

func mustNames(t testing.TB, cfg Config) Names {
	t.Helper()
	n, err := cfg.names()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func mustExec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func queryOne[T any](t testing.TB, db Querier, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := db.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func code(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// roleNames returns unused names for roles of the shared server, where roles
// belong to all databases. Call it before Database: the roles are dropped
// after the databases that use them.
func roleNames(t testing.TB, s *dbtest.Server, prefixes ...string) []string {
	t.Helper()
	var names []string
	for _, prefix := range prefixes {
		name := prefix + strings.ToLower(rand.Text()[:8])
		names = append(names, name)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
		defer cancel()
		conn, err := pgx.Connect(ctx, s.DSN("postgres"))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(ctx)
		for _, name := range slices.Backward(names) { // those that granted something first, so last
			if _, err := conn.Exec(ctx, "DROP ROLE IF EXISTS "+quoted(name)); err != nil {
				t.Error(err)
			}
		}
	})
	return names
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// noMigrationConnections waits until the server has ended all connections of
// Up, and with them their locks.
func noMigrationConnections(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	dbtest.Eventually(t, "all connections of Up are closed", func() bool {
		return queryOne[int](t, conn, `SELECT count(*)::int FROM pg_stat_activity
			WHERE application_name = 'sojourn migrations' AND datname = current_database()`) == 0
	})
}
