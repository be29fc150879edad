package mysql

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/mysqlproc"
)

// process is one that migrates once it is told to.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	stderr strings.Builder
}

func startProcess(t *testing.T, dsn, stmt string) *process {
	t.Helper()
	p := &process{cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.cmd.Env = append(os.Environ(), childEnv+"="+dsn, childStatementEnv+"="+stmt)
	p.cmd.Stderr = &p.stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return p
}

func (p *process) begin(t *testing.T) {
	t.Helper()
	if _, err := p.in.Write([]byte{'\n'}); err != nil {
		t.Fatal(err)
	}
}

func TestTenProcessesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		var processes []*process
		for range 10 {
			processes = append(processes, startProcess(t, dsn, ""))
		}
		for _, p := range processes {
			p.begin(t)
		}
		for _, p := range processes {
			if err := p.cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, &p.stderr)
			}
		}
		if err := Validate(t.Context(), dbtest.DB(t, dsn, nil), Config{}); err != nil {
			t.Error(err)
		}
	})
}

// Nothing but the statements themselves keeps the nodes of a cluster apart.
func TestStatementsCanBeRepeatedByManyAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := newDB(t, s)
		n, err := namesOf(DefaultTable)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := n.steps(FS(), Config{}.withDefaults().Settings)
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan error)
		for range 8 {
			go func() {
				conn, err := db.Conn(t.Context())
				if err == nil {
					defer conn.Close()
					err = n.migrate(t.Context(), conn, steps)
				}
				results <- err
			}()
		}
		for range 8 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAMigrationIsTakenUpWhereverItWasInterrupted(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		whole := newDB(t, s)
		mustUp(t, whole, Config{})
		statements, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for done := range len(statements) + 1 {
			db := newDB(t, s)
			fsys, err := with(done, "KILL connection_id()")
			if err != nil {
				t.Fatal(err)
			}
			if err := up(t.Context(), db, Config{}, fsys); err == nil {
				t.Fatalf("after %d statements: it was not interrupted", done)
			}
			want := ErrNotMigrated
			if done == len(statements) {
				want = nil
			}
			if err := Validate(t.Context(), db, Config{}); !errors.Is(err, want) {
				t.Errorf("after %d statements: %v; want %v", done, err, want)
			}
			mustUp(t, db, Config{})
			if got, want := dump(t, db), dump(t, whole); got != want {
				t.Errorf("interrupted after %d statements\n%s\nin one go\n%s", done, got, want)
			}
		}
	})
}

// between is a database that somebody else changes before one of our queries.
type between struct {
	*sql.DB
	before string // the query
	change func()
}

func (b *between) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if strings.Contains(query, b.before) {
		b.change()
	}
	return b.DB.QueryRowContext(ctx, query, args...)
}

func TestTablesThatAreMadeWhileTheyAreInspectedAreNotForeign(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := newDB(t, s)
		fsys, err := with(2, "KILL connection_id()") // there is the meta table alone
		if err != nil {
			t.Fatal(err)
		}
		if err := up(t.Context(), db, Config{}, fsys); err == nil {
			t.Fatal("it was not interrupted")
		}
		changes := 0
		view := &between{DB: db, before: "schema_version", change: func() {
			if changes++; changes == 1 {
				mustUp(t, db, Config{})
			}
		}}
		if err := Validate(t.Context(), view, Config{}); err != nil || changes < 2 {
			t.Errorf("%v after %d looks at the version", err, changes)
		}
	})
}

func TestAMigrationOfAKilledProcessIsTakenUp(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		db := dbtest.DB(t, dsn, nil)
		p := startProcess(t, dsn, "DO sleep(600)")
		p.begin(t)
		dbtest.Eventually(t, "it is between two statements", func() bool { return running(t, db, dsn, "DO sleep(600)") })
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait()
		mustUp(t, db, Config{}) // once the server has noticed
		if err := Validate(t.Context(), db, Config{}); err != nil {
			t.Error(err)
		}
	})
}

// holdLock has another connection migrate until release is called.
func holdLock(t *testing.T, dsn string) (release func()) {
	t.Helper()
	conn, err := dbtest.DB(t, dsn, nil).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, err := namesOf(DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.lock(t.Context(), conn, -1); err != nil {
		t.Fatal(err)
	}
	return func() { discard(conn) }
}

func TestUpWaitsForAnotherThatMigrates(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		db := dbtest.DB(t, dsn, nil)
		release := holdLock(t, dsn)
		defer release()
		if err := Up(t.Context(), db, Config{LockWait: time.Millisecond}); !errors.Is(err, ErrLocked) {
			t.Errorf("%v; want ErrLocked", err)
		}
		reason := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() { result <- Up(ctx, db, Config{LockWait: -1}) }()
		awaitWaiting(t, s, dsn)
		cancel(reason)
		if err := <-result; !errors.Is(err, reason) || !errors.Is(err, context.Canceled) {
			t.Errorf("%v; want the reason", err)
		}
		// Tables of other names and databases have locks of their own.
		mustUp(t, db, Config{Table: "other"})
		mustUp(t, newDB(t, s), Config{})
		if err := Validate(t.Context(), db, Config{}); !errors.Is(err, ErrNotMigrated) {
			t.Errorf("%v; want ErrNotMigrated", err)
		}
		go func() { result <- Up(t.Context(), db, Config{}) }()
		awaitWaiting(t, s, dsn)
		release()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

func awaitWaiting(t *testing.T, s *dbtest.MySQLServer, dsn string) {
	t.Helper()
	db := dbtest.DB(t, s.DSN("mysql"), nil)
	dbtest.Eventually(t, "it waits for the lock", func() bool { return running(t, db, dsn, "SELECT get_lock") })
}

// running reports whether a statement that begins so is under way in the
// database of dsn.
func running(t *testing.T, db *sql.DB, dsn, begin string) bool {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(dbtest.Processes(t, db, cfg.DBName), func(p mysqlproc.Process) bool { return strings.HasPrefix(p.Info, begin) })
}

func TestATableInUseIsNotWaitedForForever(t *testing.T) {
	t.Parallel()
	db := newDB(t, dbtest.MariaDB(t))
	mustUp(t, db, Config{})
	mustExec(t, db, `UPDATE sojourn_sessions_meta SET schema_version = 0, min_compatible = 0`)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), `UPDATE sojourn_sessions_meta SET swept_to = 1`); err != nil {
		t.Fatal(err)
	}
	if err := Up(t.Context(), db, Config{}); !errors.Is(err, ErrLocked) {
		t.Errorf("%v; want ErrLocked", err)
	}
}

func TestTheSettingsOfAConnectionDoNotMatter(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		for name, change := range map[string]func(*mysql.Config){
			"autocommit off": func(c *mysql.Config) { c.Params = map[string]string{"autocommit": "0"} },
			"ANSI":           func(c *mysql.Config) { c.Params = map[string]string{"sql_mode": "'ANSI,PIPES_AS_CONCAT'"} },
			"not strict":     func(c *mysql.Config) { c.Params = map[string]string{"sql_mode": "''"} },
			"interpolated":   func(c *mysql.Config) { c.InterpolateParams = true },
			"one connection": nil,
		} {
			dsn := s.Database(t)
			db := dbtest.DB(t, dsn, change)
			db.SetMaxOpenConns(1)
			mustUp(t, db, Config{})
			if err := Validate(t.Context(), dbtest.DB(t, dsn, nil), Config{}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			// None of ours is left behind.
			var wait int
			if err := db.QueryRowContext(t.Context(), `SELECT @@session.lock_wait_timeout`).Scan(&wait); err != nil || wait < 1000 {
				t.Errorf("%s: the pool's connection waits %d s, %v", name, wait, err)
			}
		}
	})
}
