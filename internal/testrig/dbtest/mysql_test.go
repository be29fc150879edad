package dbtest_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

func run(t *testing.T, db *sql.DB, stmt string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), stmt); err != nil {
		t.Fatalf("%s: %v", stmt, err)
	}
}

func TestMySQLDatabasesAreSeparateAndDroppedWithTheirTest(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		var dsn string
		t.Run("inner", func(t *testing.T) {
			dsn = s.Database(t)
			run(t, dbtest.DB(t, s.Database(t), nil), "CREATE TABLE t (n int)")
			db := dbtest.DB(t, dsn, nil)
			run(t, db, "CREATE TABLE t (n int)")
			// A connection that holds a lock does not keep it.
			open, err := mysql.ParseDSN(dsn)
			if err != nil {
				t.Fatal(err)
			}
			connector, err := mysql.NewConnector(open)
			if err != nil {
				t.Fatal(err)
			}
			other := sql.OpenDB(connector)
			tx, err := other.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(t.Context(), "INSERT INTO t VALUES (1)"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = other.Close() })
		})
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if err := dbtest.DB(t, s.DSN("mysql"), nil).QueryRowContext(t.Context(),
			"SELECT count(*) FROM information_schema.schemata WHERE schema_name = ?", cfg.DBName).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d databases (%v), want none", n, err)
		}
	})
}

func TestOwnMySQLCanBeStoppedKilledAndRestarted(t *testing.T) {
	t.Parallel()
	s := dbtest.StartMariaDB(t, dbtest.MySQLConfig{Settings: map[string]string{"max_allowed_packet": "2M"}})
	dsn := s.Database(t)
	run(t, dbtest.DB(t, dsn, nil), "CREATE TABLE x (n int)")
	for _, end := range []func(){s.Stop, s.Kill} {
		end()
		if err := dbtest.DB(t, dsn, nil).PingContext(t.Context()); err == nil {
			t.Fatal("it still runs")
		}
		s.Restart(t)
		run(t, dbtest.DB(t, dsn, nil), "INSERT INTO x VALUES (1)")
	}
	if n := strings.Count(s.Log(), ": ready for connections"); n != 3 {
		t.Errorf("the log tells of %d starts, want 3", n)
	}
}
