package nodestore

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// quietly does nothing in the background.
var quietly = Options{PruneInterval: -1}

// frozen is the clock of the golden file.
var frozen = time.Date(2030, 1, 1, 0, 0, 0, 123e6, time.UTC)

// testClock is a clock that only a test moves.
type testClock struct{ ns atomic.Int64 }

func newTestClock(at time.Time) *testClock {
	c := &testClock{}
	c.ns.Store(at.UnixNano())
	return c
}

func (c *testClock) now() time.Time      { return time.Unix(0, c.ns.Load()) }
func (c *testClock) add(d time.Duration) { c.ns.Add(int64(d)) }

// postgresDB is a schema of the test's own, in which connections with that
// TimeZone find their tables.
func postgresDB(t testing.TB, timeZone string) *sql.DB {
	t.Helper()
	dsn, schema := dbtest.Postgres(t).Schema(t)
	return postgresPool(t, dsn, map[string]string{"search_path": schema, "timezone": timeZone, "deadlock_timeout": "10ms"})
}

// ownPostgresDB is a database of the test's own with that TimeZone.
func ownPostgresDB(t testing.TB, timeZone string) *sql.DB {
	t.Helper()
	dsn := dbtest.Postgres(t).Database(t)
	conn := dbtest.Conn(t, dsn)
	set := fmt.Sprintf("ALTER DATABASE %s SET timezone = '%s'", pgx.Identifier{conn.Config().Database}.Sanitize(), timeZone)
	if _, err := conn.Exec(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	return postgresPool(t, dsn, nil)
}

func postgresPool(t testing.TB, dsn string, settings map[string]string) *sql.DB {
	t.Helper()
	db := stdlib.OpenDBFromPool(dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
		c.MaxConns = 16
		maps.Copy(c.ConnConfig.RuntimeParams, settings)
	}))
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func mysqlDB(t testing.TB, s *dbtest.MySQLServer, mod func(*mysql.Config)) *sql.DB {
	t.Helper()
	dsn := s.Database(t)
	db := dbtest.DB(t, dsn, mod)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	run(t, db, "ALTER DATABASE "+cfg.DBName+" CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
	return db
}

func sqliteDB(t testing.TB) *sql.DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.db")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxIdleConns(16) // or they would be opened again and again
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func run(t testing.TB, db *sql.DB, text string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// openOn opens a store that ends with the test.
func openOn(t testing.TB, db *sql.DB, l Layout, opts Options, now func() time.Time) *Store {
	t.Helper()
	s, err := newStore(t.Context(), db, l, opts, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// created makes the table as well.
func created(o Options) Options {
	o.CreateTable = true
	return o
}

// onEach runs a test on every layout in every database that it may be in.
func onEach(t *testing.T, test func(t *testing.T, db *sql.DB, l Layout)) {
	for _, l := range []Layout{ConnectPGSimple(), ConnectPostgresSimple(), ConnectSessionSequelize(Postgres), KoaGenericSessionSequelize(Postgres), ConnectSessionKnex(Postgres)} {
		t.Run(l.Package+" on postgres", func(t *testing.T) {
			t.Parallel()
			test(t, postgresDB(t, "Asia/Kathmandu"), l)
		})
	}
	for _, l := range []Layout{ConnectSessionSequelize(MySQL), KoaGenericSessionSequelize(MySQL), ExpressMySQLSession(), knexWithText()} {
		t.Run(l.Package+" on", func(t *testing.T) {
			dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) { test(t, mysqlDB(t, s, nil), l) })
		})
	}
	for _, l := range []Layout{
		ConnectSessionSequelize(SQLite), KoaGenericSessionSequelize(SQLite), ConnectSQLite(),
		ConnectSessionKnex(SQLite), BetterSQLite3SessionStore(),
	} {
		t.Run(l.Package+" on sqlite", func(t *testing.T) {
			t.Parallel()
			test(t, sqliteDB(t), l)
		})
	}
}

// knexWithText is a table that was made before MySQL had JSON. A column of that
// prints documents anew, which test/node looks at.
func knexWithText() Layout {
	l := ConnectSessionKnex(MySQL)
	l.DDL = []string{strings.Replace(l.DDL[0], "{data} json", "{data} longtext", 1)}
	return l
}

// asText is a row as texts, by its columns; NULL is "NULL".
func asText(t testing.TB, db *sql.DB, l Layout, key string, columns ...string) map[string]string {
	t.Helper()
	d := l.Dialect.dialect()
	cast := map[Dialect]string{Postgres: "CAST(%s AS text)", MySQL: "CAST(%s AS CHAR)", SQLite: "CAST(%s AS TEXT)"}[l.Dialect]
	var list []string
	into, found := make([]sql.NullString, len(columns)), make([]any, len(columns))
	c := newCompiler(l, table{}, nil)
	for i, name := range columns {
		c.names[nth("wanted", i)] = d.quoted(name)
		list = append(list, fmt.Sprintf(cast, "{"+nth("wanted", i)+"}"))
		found[i] = &into[i]
	}
	q := c.compile("SELECT " + strings.Join(list, ", ") + " FROM {table} WHERE {id} = {:id}")
	rows, err := db.QueryContext(context.Background(), q.text, key)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return nil
	}
	if err := rows.Scan(found...); err != nil {
		t.Fatal(err)
	}
	row := map[string]string{}
	for i, name := range columns {
		row[name] = into[i].String
		if !into[i].Valid {
			row[name] = "NULL"
		}
	}
	return row
}
