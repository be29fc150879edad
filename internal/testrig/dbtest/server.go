package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sojourn-go/sojourn/internal/testrig/pgserver"
	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// Config says what kind of server to start. The zero value is a fast one.
type Config struct {
	Settings map[string]string // server parameters
	Durable  bool              // flush commits to disk: fsync and full_page_writes on
	Bin      string            // folder of the server programs; "" is PG_BIN or what is installed
}

// Server is a running Postgres, as seen by one test.
type Server struct {
	Control
	*postgres
}

// postgres is what all views of a server have in common.
type postgres struct {
	pg      *pgserver.Server
	number  atomic.Int64
	mu      sync.Mutex
	schemas bool              // the database that holds all schemas exists
	filled  map[string]string // databases that Copy copies, by name

	makes, drops admin
}

// admin runs statements one after another. It keeps its connections to the shared
// server: to make one costs as much as to make a database.
type admin struct {
	mu    sync.Mutex
	conns map[string]*pgx.Conn // by database; nil for a server that a test may break
}

func (a *admin) close() {
	for _, conn := range a.conns {
		_ = conn.Close(context.Background()) // the server ends it anyway
	}
}

// Close is for a shared server.
func (p *postgres) Close() error {
	p.makes.close()
	p.drops.close()
	return p.pg.Close()
}

// Postgres returns the shared server of this test binary. It has fsync off and
// cannot be stopped, killed, paused or restarted by a test.
func Postgres(t testing.TB) *Server {
	t.Helper()
	p, err := Shared(t, "Postgres", func() (*postgres, error) {
		pg, err := pgserver.Start(t.Context(), pgserver.Config{})
		return &postgres{pg: pg, makes: admin{conns: map[string]*pgx.Conn{}}, drops: admin{conns: map[string]*pgx.Conn{}}}, err
	})
	if err != nil {
		missing(t, err, pgserver.ErrNotInstalled, pgserver.InstallHint())
	}
	return &Server{Control{t: t, server: p.pg.Server, shared: true}, p}
}

// Start starts a server that belongs to the test, which may stop, kill and
// pause it. It is deleted when the test ends.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	pg, err := pgserver.Start(t.Context(), pgserver.Config{Bin: cfg.Bin, Durable: cfg.Durable, Settings: cfg.Settings})
	if err != nil {
		missing(t, err, pgserver.ErrNotInstalled, pgserver.InstallHint())
	}
	return &Server{own(t, pg.Server), &postgres{pg: pg}}
}

// Need ends a test that starts its servers by other means than this package if
// Postgres is not installed.
func Need(t testing.TB) {
	t.Helper()
	if _, err := pgserver.Find(t.Context()); err != nil {
		missing(t, err, pgserver.ErrNotInstalled, pgserver.InstallHint())
	}
}

// Folder makes a folder for temporary files, TMPDIR for programs that start
// servers: its path is short enough for sockets, and the servers' account may
// enter it. It is deleted when the test ends.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(throwaway.TempDir(), "test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// missing ends the test: it is skipped where the program is only not
// installed, unless this is CI.
func missing(t testing.TB, err, notInstalled error, hint string) {
	t.Helper()
	if errors.Is(err, notInstalled) && os.Getenv("CI") != "true" {
		t.Skipf("%v; run: %s", err, hint)
	}
	t.Fatal(err)
}

// DSN returns the URL of a database for the superuser postgres.
func (s *Server) DSN(database string) string { return s.pg.DSN(database) }

// Version is the major version, such as 15.
func (s *Server) Version() int { return s.pg.Version() }

// Database creates a database and returns its DSN. It is dropped when the test
// ends, whoever is still connected.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", s.number.Add(1))
	s.exec(t, "postgres", s.createDatabase(name, "template0"))
	s.atEnd(t, "postgres", "DROP DATABASE "+name+" WITH (FORCE)")
	return s.DSN(name)
}

// Copy creates a database like one that fill has filled, and returns its DSN.
// fill is called once for all callers that give the same name for what it does,
// and leaves no connection behind. The search_path is empty, so that a statement
// that forgets to name its schema fails. The copy is dropped when the test ends.
func (s *Server) Copy(t testing.TB, name string, fill func(dsn string)) string {
	t.Helper()
	from, copied := s.fillOnce(t, name, fill), fmt.Sprintf("test_%d", s.number.Add(1))
	// Not in the DSN: poolers refuse startup parameters.
	s.exec(t, "postgres", s.createDatabase(copied, from), "ALTER DATABASE "+copied+" SET search_path = ''")
	s.atEnd(t, "postgres", "DROP DATABASE "+copied+" WITH (FORCE)")
	return s.DSN(copied)
}

func (s *Server) fillOnce(t testing.TB, name string, fill func(dsn string)) (database string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	database, ok := s.filled[name]
	if !ok {
		database = fmt.Sprintf("filled_%d", s.number.Add(1))
		s.exec(t, "postgres", s.createDatabase(database, "template0"))
		fill(s.DSN(database))
		if s.filled == nil {
			s.filled = map[string]string{}
		}
		s.filled[name] = database
	}
	return database
}

// createDatabase copies a database that nobody is connected to.
func (s *Server) createDatabase(name, from string) string {
	stmt := "CREATE DATABASE " + name + " TEMPLATE " + from
	if s.Version() >= 15 {
		stmt += " STRATEGY file_copy" // the default writes every page to the log: five times slower
	}
	return stmt
}

const schemasDatabase = "schemas"

// Schema creates a schema in a database that all schemas share, and returns
// both. The database's search_path is empty, so that a statement that forgets
// to name its schema fails. The schema is dropped when the test ends.
func (s *Server) Schema(t testing.TB) (dsn, schema string) {
	t.Helper()
	s.schemasOnce(t)
	schema = fmt.Sprintf("test_%d", s.number.Add(1))
	s.exec(t, schemasDatabase, "CREATE SCHEMA "+schema)
	s.atEnd(t, schemasDatabase, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
	return s.DSN(schemasDatabase), schema
}

func (s *Server) schemasOnce(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.schemas {
		return
	}
	s.exec(t, "postgres", s.createDatabase(schemasDatabase, "template0"))
	// Not in the DSN: poolers refuse startup parameters.
	s.exec(t, "postgres", "ALTER DATABASE "+schemasDatabase+" SET search_path = ''")
	s.schemas = true
}

func (s *Server) exec(t testing.TB, database string, stmts ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if err := s.makes.try(ctx, database, s.DSN(database), stmts...); err != nil {
		t.Fatal("dbtest: ", err)
	}
}

// atEnd runs the statement after the test. A server of the test's own needs no
// cleaning, and may be dead by then. What another test does may have to end first, so
// it holds up nothing but its like.
func (s *Server) atEnd(t testing.TB, database, stmt string) {
	if !s.shared {
		return
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := s.drops.try(ctx, database, s.DSN(database), stmt); err != nil {
			t.Errorf("dbtest: %v\n%s", err, s.activity())
		}
	})
}

// activity tells what the connections of the server do and wait for.
func (s *Server) activity() string {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close(ctx) }()
	var all string
	if err := conn.QueryRow(ctx, `
SELECT string_agg(concat_ws(' | ', pid, backend_type, datname, application_name, state, wait_event_type, wait_event,
  pg_catalog.pg_blocking_pids(pid), pg_catalog.left(query, 80)), E'\n')
FROM pg_catalog.pg_stat_activity`).Scan(&all); err != nil {
		return err.Error()
	}
	return all
}

func (a *admin) try(ctx context.Context, database, dsn string, stmts ...string) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	conn, err := a.connect(ctx, database, dsn)
	if err != nil {
		return err
	}
	if a.conns == nil {
		defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	}
	for _, stmt := range stmts {
		if err := execUnused(ctx, conn, stmt); err != nil {
			return fmt.Errorf("%s: %w", stmt, err)
		}
	}
	return nil
}

func (a *admin) connect(ctx context.Context, database, dsn string) (*pgx.Conn, error) {
	if conn := a.conns[database]; conn != nil && !conn.IsClosed() {
		return conn, nil
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err == nil && a.conns != nil {
		a.conns[database] = conn
	}
	return conn, err
}

// execUnused repeats a statement about a database whose last connection has not
// ended yet (55006). The server itself waits 5 s for that.
func execUnused(ctx context.Context, conn *pgx.Conn, stmt string) error {
	for try := 1; ; try++ {
		_, err := conn.Exec(ctx, stmt)
		var answer *pgconn.PgError
		if try == 10 || !errors.As(err, &answer) || answer.Code != "55006" {
			return err
		}
	}
}
