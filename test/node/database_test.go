package node

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// database is an empty one of the test's own, as Node and Go reach it.
type database struct {
	Dialect string `json:"dialect"`
	URL     string `json:"url,omitempty"`
	Path    string `json:"path,omitempty"`

	driver, dsn string
}

func (db database) open(t testing.TB) *sql.DB {
	t.Helper()
	pool, err := sql.Open(db.driver, db.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return pool
}

func postgres(t testing.TB) database {
	dsn := dbtest.Postgres(t).Database(t)
	return database{Dialect: "postgres", URL: dsn, driver: "pgx", dsn: dsn}
}

// postgresInNewYork is a database where columns without a time zone hold the
// time of New York.
func postgresInNewYork(t testing.TB) database {
	t.Helper()
	db := postgres(t)
	u, err := url.Parse(db.dsn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.open(t).ExecContext(t.Context(), "ALTER DATABASE "+strings.TrimPrefix(u.Path, "/")+" SET timezone = 'America/New_York'"); err != nil {
		t.Fatal(err)
	}
	return db
}

// prepared makes databases where a statement has run.
func prepared(empty func(testing.TB) database, stmt string) func(testing.TB) database {
	return func(t testing.TB) database {
		t.Helper()
		db := empty(t)
		if _, err := db.open(t).ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
		return db
	}
}

// farWest makes MariaDB and MySQL as far off UTC as Postgres.
const farWest = "SET GLOBAL time_zone = '-05:00'"

func mariadb(t testing.TB) database { t.Helper(); return mysqlDatabase(t, dbtest.MariaDB(t)) }

func mysql9(t testing.TB) database { t.Helper(); return mysqlDatabase(t, dbtest.MySQL(t)) }

func mysqlDatabase(t testing.TB, s *dbtest.MySQLServer) database {
	t.Helper()
	dsn := s.Database(t)
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	admin := dbtest.DB(t, dsn, nil)
	// The columns of some packages take the database's collation.
	for _, stmt := range []string{farWest, "ALTER DATABASE " + cfg.DBName + " CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"} {
		if _, err := admin.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	u := url.URL{Scheme: "mysql", User: url.UserPassword(cfg.User, cfg.Passwd), Host: cfg.Addr, Path: "/" + cfg.DBName}
	return database{Dialect: "mysql", URL: u.String(), driver: "mysql", dsn: dsn}
}

func sqlite(t testing.TB) database {
	needNative(t)
	path := filepath.Join(t.TempDir(), "sessions.db")
	return database{Dialect: "sqlite", Path: path, driver: "sqlite", dsn: "file:" + path + "?_pragma=busy_timeout(30000)"}
}
