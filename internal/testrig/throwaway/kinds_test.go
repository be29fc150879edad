package throwaway_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/sojourn-go/sojourn/internal/testrig/mysqlserver"
	"github.com/sojourn-go/sojourn/internal/testrig/pgserver"
	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// kind is a kind of server. They all do the same, each by means of its own.
type kind struct {
	name  string
	find  func(context.Context) error
	start func(context.Context, map[string]string) (server, error)
	// database is a statement that makes what table is in.
	database, table string
	// serves reports whether a paused server goes on with open connections.
	serves bool
}

type server struct {
	*throwaway.Server
	open func() *sql.DB
}

var kinds = []kind{
	{"postgres", findPostgres, startPostgres, "CREATE SCHEMA x", "x.t", true},
	{"mariadb", findMySQL(mysqlserver.MariaDB), startMySQL(mysqlserver.MariaDB), "CREATE DATABASE x", "x.t", false},
	{"mysql", findMySQL(mysqlserver.MySQL), startMySQL(mysqlserver.MySQL), "CREATE DATABASE x", "x.t", false},
}

func findPostgres(ctx context.Context) error {
	_, err := pgserver.Find(ctx)
	return err
}

func findMySQL(f mysqlserver.Flavour) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := mysqlserver.Find(ctx, f)
		return err
	}
}

func startPostgres(ctx context.Context, settings map[string]string) (server, error) {
	s, err := pgserver.Start(ctx, pgserver.Config{Settings: settings})
	if err != nil {
		return server{}, err
	}
	cfg, err := pgx.ParseConfig(s.DSN("postgres"))
	return server{s.Server, func() *sql.DB { return stdlib.OpenDB(*cfg) }}, err
}

func startMySQL(f mysqlserver.Flavour) func(context.Context, map[string]string) (server, error) {
	return func(ctx context.Context, settings map[string]string) (server, error) {
		s, err := mysqlserver.Start(ctx, f, mysqlserver.Config{Settings: settings})
		if err != nil {
			return server{}, err
		}
		cfg, err := mysql.ParseDSN(s.DSN(""))
		if err != nil {
			return server{}, err
		}
		cfg.Logger = &mysql.NopLogger{} // connections are broken on purpose
		connector, err := mysql.NewConnector(cfg)
		return server{s.Server, func() *sql.DB { return sql.OpenDB(connector) }}, err
	}
}

// each runs a test with the first n kinds that are installed, in parallel.
func each(t *testing.T, n int, test func(t *testing.T, k kind)) {
	t.Helper()
	for _, k := range kinds[:n] {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			k.need(t)
			test(t, k)
		})
	}
}

// need skips a test without the programs.
func (k kind) need(t *testing.T) {
	t.Helper()
	err := k.find(t.Context())
	missing := errors.Is(err, pgserver.ErrNotInstalled) || errors.Is(err, mysqlserver.ErrNotInstalled)
	if missing && (k.name == "mysql" || os.Getenv("CI") != "true") {
		t.Skip(err)
	}
	must(t, err)
}

// run starts a server that is closed with the test.
func (k kind) run(t *testing.T, settings map[string]string) server {
	t.Helper()
	s, err := k.start(t.Context(), settings)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// connects returns an error unless the server accepts a connection. Where it
// hangs this takes a while.
func (s server) connects(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	db := s.open()
	return errors.Join(db.PingContext(ctx), db.Close())
}

// conn opens a connection that is closed with the test.
func (s server) conn(t *testing.T) *sql.Conn {
	t.Helper()
	db := s.open()
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// answers returns an error unless an open connection does.
func answers(ctx context.Context, conn *sql.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := conn.ExecContext(ctx, "SELECT 1")
	return err
}

func exec(t *testing.T, conn *sql.Conn, statements ...string) {
	t.Helper()
	for _, stmt := range statements {
		if _, err := conn.ExecContext(t.Context(), stmt); err != nil {
			t.Fatalf("%s: %v", stmt, err)
		}
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
