package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/internal/testrig/mysqlproc"
	"github.com/sojourn-go/sojourn/internal/testrig/mysqlserver"
)

// MySQLConfig says what kind of server to start. The zero value is a fast one.
type MySQLConfig struct {
	Settings map[string]string // server variables
	Durable  bool              // flush commits to disk
}

// MySQLServer is a running MariaDB or MySQL, as seen by one test.
type MySQLServer struct {
	Control
	*mysqld
}

// mysqld is what all views of a server have in common.
type mysqld struct {
	my     *mysqlserver.Server
	number atomic.Int64
}

// Close is for a shared server.
func (m *mysqld) Close() error { return m.my.Close() }

func sharedMySQL(t testing.TB, f mysqlserver.Flavour) *MySQLServer {
	t.Helper()
	m, err := Shared(t, string(f), func() (*mysqld, error) {
		my, err := mysqlserver.Start(t.Context(), f, mysqlserver.Config{})
		return &mysqld{my: my}, err
	})
	if err != nil {
		missingMySQL(t, f, err)
	}
	return &MySQLServer{Control{t: t, server: m.my.Server, shared: true}, m}
}

// missingMySQL ends the test. MySQL comes from a place where it is not always
// to be had: its tests are skipped without it even where CI=true is set.
func missingMySQL(t testing.TB, f mysqlserver.Flavour, err error) {
	t.Helper()
	if f == mysqlserver.MySQL && errors.Is(err, mysqlserver.ErrNotInstalled) {
		t.Skipf("%v; run: %s", err, mysqlserver.InstallHint(f))
	}
	missing(t, err, mysqlserver.ErrNotInstalled, mysqlserver.InstallHint(f))
}

// NeedMariaDB ends a test that starts its servers by other means than this
// package if MariaDB is not installed.
func NeedMariaDB(t testing.TB) {
	t.Helper()
	if _, err := mysqlserver.Find(t.Context(), mysqlserver.MariaDB); err != nil {
		missingMySQL(t, mysqlserver.MariaDB, err)
	}
}

// MariaDB returns the shared MariaDB of this test binary. It does not flush
// commits and cannot be stopped, killed, paused or restarted by a test.
func MariaDB(t testing.TB) *MySQLServer {
	t.Helper()
	return sharedMySQL(t, mysqlserver.MariaDB)
}

// MySQL returns the shared MySQL of this test binary, as MariaDB does.
func MySQL(t testing.TB) *MySQLServer {
	t.Helper()
	return sharedMySQL(t, mysqlserver.MySQL)
}

// StartMariaDB starts a MariaDB that belongs to the test, which may stop, kill
// and pause it. It is deleted when the test ends.
func StartMariaDB(t testing.TB, cfg MySQLConfig) *MySQLServer {
	t.Helper()
	return startMySQL(t, mysqlserver.MariaDB, cfg)
}

// StartMySQL starts a MySQL that belongs to the test, as StartMariaDB does.
func StartMySQL(t testing.TB, cfg MySQLConfig) *MySQLServer {
	t.Helper()
	return startMySQL(t, mysqlserver.MySQL, cfg)
}

func startMySQL(t testing.TB, f mysqlserver.Flavour, cfg MySQLConfig) *MySQLServer {
	t.Helper()
	my, err := mysqlserver.Start(t.Context(), f, mysqlserver.Config{Durable: cfg.Durable, Settings: cfg.Settings})
	if err != nil {
		missingMySQL(t, f, err)
	}
	return &MySQLServer{own(t, my.Server), &mysqld{my: my}}
}

// EachMySQL runs a test on the shared MariaDB and on the shared MySQL, in
// parallel subtests. That of MySQL is skipped where it cannot be had.
func EachMySQL(t *testing.T, test func(t *testing.T, s *MySQLServer)) {
	t.Helper()
	eachMySQL(t, func(t *testing.T, f mysqlserver.Flavour) { test(t, sharedMySQL(t, f)) })
}

// StartEachMySQL runs a test on a MariaDB and on a MySQL of its own, as
// EachMySQL does.
func StartEachMySQL(t *testing.T, cfg MySQLConfig, test func(t *testing.T, s *MySQLServer)) {
	t.Helper()
	eachMySQL(t, func(t *testing.T, f mysqlserver.Flavour) { test(t, startMySQL(t, f, cfg)) })
}

func eachMySQL(t *testing.T, test func(*testing.T, mysqlserver.Flavour)) {
	t.Helper()
	for _, f := range mysqlserver.Flavours() {
		t.Run(strings.ToLower(string(f)), func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}

// DSN returns the data source name of a database for the superuser root, in the
// format of github.com/go-sql-driver/mysql.
func (s *MySQLServer) DSN(database string) string { return s.my.DSN(database) }

// IsMariaDB tells the two flavours apart.
func (s *MySQLServer) IsMariaDB() bool {
	return s.my.Installation().Flavour == mysqlserver.MariaDB
}

// Database creates a database and returns its DSN. It is dropped when the test
// ends, whoever is still connected.
func (s *MySQLServer) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", s.number.Add(1))
	if err := s.withConn(t.Context(), func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "CREATE DATABASE "+name)
		return err
	}); err != nil {
		t.Fatalf("dbtest: create %s: %v", name, err)
	}
	if s.shared { // one of the test's own needs no cleaning, and may be dead by then
		t.Cleanup(func() {
			if err := s.withConn(context.Background(), func(ctx context.Context, db *sql.DB) error {
				return drop(ctx, db, name)
			}); err != nil {
				t.Errorf("dbtest: drop %s: %v", name, err)
			}
		})
	}
	return s.DSN(name)
}

// drop ends the connections to a database first: the server goes on with the
// statement of a client that is gone, and may do so for long.
func drop(ctx context.Context, db *sql.DB, name string) error {
	open, err := processes(ctx, db, name)
	if err != nil {
		return err
	}
	for _, p := range open {
		_, err := db.ExecContext(ctx, fmt.Sprint("KILL ", p.ID))
		if err != nil && !isAnswer(err, noSuchThread) {
			return err
		}
	}
	_, err = db.ExecContext(ctx, "DROP DATABASE IF EXISTS "+name)
	return err
}

const noSuchThread = 1094 // the servers' error message references

func isAnswer(err error, number uint16) bool {
	var answer *mysql.MySQLError
	return errors.As(err, &answer) && answer.Number == number
}

// Processes lists the connections to a database, the caller's too if it has
// selected that. Those of other tests are none of its business.
func Processes(t testing.TB, db *sql.DB, database string) []mysqlproc.Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	found, err := processes(ctx, db, database)
	if err != nil {
		t.Fatal("dbtest: list the connections:", err)
	}
	return found
}

func processes(ctx context.Context, db *sql.DB, database string) ([]mysqlproc.Process, error) {
	all, err := mysqlproc.List(ctx, db)
	return slices.DeleteFunc(all, func(p mysqlproc.Process) bool { return p.Database != database }), err
}

// withConn calls do with connections of its own. The error says so if the
// server is gone.
func (s *MySQLServer) withConn(ctx context.Context, do func(context.Context, *sql.DB) error) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	db, err := sql.Open("mysql", s.DSN(""))
	if err != nil {
		return err
	}
	if err := errors.Join(do(ctx, db), db.Close()); err != nil {
		return errors.Join(err, s.my.Err())
	}
	return nil
}

// DB opens a pool of connections; mod, if not nil, changes its configuration
// first. The pool is closed when the test ends, which fails if a connection was
// not released.
func DB(t testing.TB, dsn string, mod func(*mysql.Config)) *sql.DB {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal("dbtest:", err)
	}
	cfg.Logger = &mysql.NopLogger{} // tests break connections on purpose
	if mod != nil {
		mod(cfg)
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal("dbtest:", err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() {
		Eventually(t, "every connection of a pool is released", func() bool { return db.Stats().InUse == 0 })
		_ = db.Close() // the test may have broken connections on purpose
	})
	return db
}

// MySQLProxy starts a proxy that can break the connections to the server of
// dsn, and returns it and the DSN to use instead. It ends with the test.
func MySQLProxy(t testing.TB, dsn string) (*faultproxy.Proxy, string) {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal("dbtest:", err)
	}
	p, err := faultproxy.New(cfg.Addr)
	if err != nil {
		t.Fatal("dbtest:", err)
	}
	t.Cleanup(p.Close)
	cfg.Addr = p.Addr()
	return p, cfg.FormatDSN()
}
