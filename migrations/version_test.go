package migrations

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// withSecond is FS and one more migration.
func withSecond(t testing.TB, sql string) fs.FS {
	t.Helper()
	all := fstest.MapFS{"002_more.sql": {Data: []byte(sql)}}
	err := fs.WalkDir(FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(FS(), path)
		all[path] = &fstest.MapFile{Data: text}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const (
	secondCompatible   = `ALTER TABLE {{.sessions}} ADD COLUMN later integer; UPDATE {{.meta}} SET schema_version = 2;`
	secondIncompatible = `UPDATE {{.meta}} SET schema_version = 2, min_compatible = 2;`
)

func validateAs(t testing.TB, db Querier, version int32) error {
	t.Helper()
	n := mustNames(t, Config{})
	st, err := pgschema.Inspect(t.Context(), db, n)
	if err != nil {
		t.Fatal(err)
	}
	return st.Usable(n, version)
}

func TestOldAndNewProgramsDuringADeployment(t *testing.T) {
	t.Parallel()
	n, dsn, conn := prepared(t, Config{})
	insertLive(t, conn, n.Sessions, 1, 720e9)
	if err := validateAs(t, conn, 2); !errors.Is(err, ErrOutdated) {
		t.Errorf("new program, old database: got %v, want ErrOutdated", err)
	}
	if err := up(t.Context(), parse(t, dsn), Config{}, withSecond(t, secondCompatible)); err != nil {
		t.Fatal(err)
	}
	if got := queryOne[int32](t, conn, "SELECT version FROM "+n.Version); got != 2 {
		t.Errorf("version %d, want 2", got)
	}
	if err := validateAs(t, conn, 2); err != nil {
		t.Errorf("new program, new database: %v", err)
	}
	// An old program is started again.
	if err := Validate(t.Context(), conn, Config{}); err != nil {
		t.Errorf("old program, new database: %v", err)
	}
	mustUp(t, dsn, Config{})
	if got := queryOne[int32](t, conn, "SELECT version FROM "+n.Version); got != 2 {
		t.Errorf("the old program left version %d, want 2", got)
	}
	if got := queryOne[int](t, conn, "SELECT count(later)::int + count(*)::int FROM "+n.Sessions+" WHERE version > 0"); got != 1 {
		t.Errorf("%d sessions, want 1", got)
	}
}

func TestAnOldProgramRefusesAnIncompatibleDatabase(t *testing.T) {
	t.Parallel()
	n, dsn, conn := prepared(t, Config{})
	if err := up(t.Context(), parse(t, dsn), Config{}, withSecond(t, secondIncompatible)); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Validate": Validate(t.Context(), conn, Config{}),
		"Up":       Up(t.Context(), parse(t, dsn), Config{}),
	} {
		if !errors.Is(err, ErrIncompatible) || !strings.Contains(err.Error(), "version 2") {
			t.Errorf("%s: got %v, want ErrIncompatible", what, err)
		}
	}
	if err := validateAs(t, conn, 2); err != nil {
		t.Error(err)
	}
	if got := queryOne[int32](t, conn, "SELECT schema_version FROM "+n.Meta); got != 2 {
		t.Errorf("version %d, want 2", got)
	}
	// Even when the tables have changed beyond recognition.
	mustExec(t, conn, "ALTER TABLE "+n.Sessions+" DROP COLUMN data")
	if err := Validate(t.Context(), conn, Config{}); !errors.Is(err, ErrIncompatible) {
		t.Errorf("got %v, want ErrIncompatible", err)
	}
}

func TestAMigrationThatFailsHasNotHappened(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sojourn", "\n---- tern: disable-tx ----\n"} {
		cfg := Config{Schema: name}
		n, dsn, conn := prepared(t, cfg)
		err := up(t.Context(), parse(t, dsn), cfg, withSecond(t, secondCompatible+" SELECT 1/0;"))
		if code(err) != "22012" || !strings.Contains(err.Error(), "schema "+strconv.Quote(name)) {
			t.Fatalf("got %v, want a division by zero", err)
		}
		if got := queryOne[int32](t, conn, "SELECT version FROM "+n.Version); got != 1 {
			t.Errorf("version %d, want 1", got)
		}
		if got := queryOne[int32](t, conn, "SELECT schema_version FROM "+n.Meta); got != 1 {
			t.Errorf("half of the migration has happened: version %d, want 1", got)
		}
		if err := Validate(t.Context(), conn, cfg); err != nil {
			t.Error(err)
		}
		if err := up(t.Context(), parse(t, dsn), cfg, withSecond(t, secondCompatible)); err != nil {
			t.Error(err)
		}
	}
}

func TestAMigrationThatTakesTooLongOrWaitsForALockGivesUp(t *testing.T) {
	t.Parallel()
	n, dsn, conn := prepared(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
	defer cancel()
	err := up(ctx, parse(t, dsn), Config{StatementTimeout: 1}, withSecond(t, "SELECT pg_sleep(3600);"))
	if code(err) != "57014" {
		t.Errorf("got %v, want a statement timeout", err)
	}
	mustExec(t, conn, "BEGIN")
	queryOne[int](t, conn, "SELECT count(*)::int FROM "+n.Sessions+" WHERE version > 0")
	err = up(ctx, parse(t, dsn), Config{LockTimeout: 1}, withSecond(t, secondCompatible))
	if code(err) != "55P03" {
		t.Errorf("got %v, want a lock timeout", err)
	}
	mustExec(t, conn, "ROLLBACK")
	if err := up(t.Context(), parse(t, dsn), Config{LockTimeout: -1, StatementTimeout: -1}, withSecond(t, secondCompatible)); err != nil {
		t.Error(err)
	}
}

// The version table may be missing, as after the migrations were run by
// another tool, or wrong, as after the tables were dropped by hand.
func TestTheMetaTableDecidesNotTernsVersion(t *testing.T) {
	t.Parallel()
	n, dsn, conn := prepared(t, Config{})
	mustExec(t, conn, "DROP TABLE "+n.Version)
	mustUp(t, dsn, Config{})
	if err := up(t.Context(), parse(t, dsn), Config{}, withSecond(t, secondCompatible)); err != nil {
		t.Errorf("without a version table: %v", err)
	}
	mustExec(t, conn, "DROP TABLE "+n.Sessions+", "+n.Meta)
	mustExec(t, conn, "DROP FUNCTION "+n.MakePartition)
	mustUp(t, dsn, Config{})
	if err := Validate(t.Context(), conn, Config{}); err != nil {
		t.Error(err)
	}
	if got := queryOne[int32](t, conn, "SELECT version FROM "+n.Version); got != 1 {
		t.Errorf("version %d, want 1", got)
	}
}

// tracer calls at before the n-th query of a connection.
type tracer struct {
	n, count int
	at       func(conn *pgx.Conn)
}

func (tr *tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if tr.count++; tr.count == tr.n {
		tr.at(conn)
	}
	return ctx
}

func (tr *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestInterruptedAnywhereUpCanBeRepeated(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	roles := roleNames(t, s, "own", "app")
	cfg := Config{Settings: fewPartitions, Roles: Roles{Owner: roles[0], App: roles[1]}}
	for what, interrupt := range map[string]func(t *testing.T, admin *pgx.Conn, conn *pgx.Conn, cancel func()){
		"cancelled": func(_ *testing.T, _, _ *pgx.Conn, cancel func()) { cancel() },
		"connection lost": func(t *testing.T, admin, conn *pgx.Conn, _ func()) {
			pid := conn.PgConn().PID()
			mustExec(t, admin, "SELECT pg_terminate_backend($1)", int32(pid))
			dbtest.Eventually(t, "the backend is gone", func() bool {
				return queryOne[int](t, admin, "SELECT count(*)::int FROM pg_stat_activity WHERE pid = $1", pid) == 0
			})
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			interrupted := 0
			for n := 1; ; n++ {
				dsn := s.Database(t)
				admin := dbtest.Conn(t, dsn)
				ctx, cancel := context.WithCancel(t.Context())
				config := parse(t, dsn)
				tr := &tracer{n: n, at: func(conn *pgx.Conn) { interrupt(t, admin, conn, cancel) }}
				config.Tracer = tr
				err := Up(ctx, config, cfg)
				cancel()
				if tr.count < n {
					if err != nil {
						t.Fatalf("without an interruption: %v", err)
					}
					break // it has no more queries
				}
				if err == nil {
					t.Fatalf("query %d: no error", n)
				}
				interrupted++
				err = Validate(t.Context(), admin, cfg)
				if err != nil && !errors.Is(err, ErrSchemaMissing) && !errors.Is(err, ErrNotMigrated) {
					t.Errorf("interrupted before query %d: %v", n, err)
				}
				noMigrationConnections(t, admin)
				if err := Up(t.Context(), parse(t, dsn), cfg); err != nil {
					t.Errorf("after an interruption before query %d: %v", n, err)
				}
				if err := Validate(t.Context(), admin, cfg); err != nil {
					t.Errorf("after an interruption before query %d: %v", n, err)
				}
			}
			if interrupted < 10 {
				t.Errorf("only %d interruptions", interrupted)
			}
		})
	}
}

func TestInterruptedInTheMiddleOfAStatement(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"cancel", "terminate"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t).Database(t)
			admin, other := dbtest.Conn(t, dsn), dbtest.Conn(t, dsn)
			// Up has made the sessions table when it meets this one.
			mustExec(t, admin, "CREATE SCHEMA sojourn")
			mustExec(t, other, "BEGIN")
			mustExec(t, other, "CREATE TABLE sojourn.sessions_meta (a int)")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- Up(ctx, parse(t, dsn), Config{LockTimeout: -1}) }()
			const waiting = `SELECT coalesce(max(pid), 0) FROM pg_stat_activity
				WHERE application_name = 'sojourn migrations' AND datname = current_database() AND wait_event_type = 'Lock'`
			var pid int32
			dbtest.Eventually(t, "Up waits in the middle of the migration", func() bool {
				pid = queryOne[int32](t, admin, waiting)
				return pid != 0
			})
			if how == "cancel" {
				cancel()
			} else {
				mustExec(t, admin, "SELECT pg_terminate_backend($1)", pid)
			}
			err := <-result
			if how == "cancel" && !errors.Is(err, context.Canceled) || how == "terminate" && code(err) != "57P01" {
				t.Errorf("got %v", err)
			}
			noMigrationConnections(t, admin)
			mustExec(t, other, "ROLLBACK")
			mustUp(t, dsn, Config{})
			if err := Validate(t.Context(), admin, Config{}); err != nil {
				t.Error(err)
			}
		})
	}
}
