package migrations

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

func TestUpMakesWhatValidateWants(t *testing.T) {
	t.Parallel()
	for _, name := range strangeNames {
		t.Run(name.schema, func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t).Database(t)
			cfg := Config{Schema: name.schema, Table: name.table, Settings: fewPartitions}
			conn := dbtest.Conn(t, dsn)
			if err := Validate(t.Context(), conn, cfg); !errors.Is(err, ErrSchemaMissing) {
				t.Fatalf("before Up: got %v, want ErrSchemaMissing", err)
			}
			mustUp(t, dsn, cfg)
			if err := Validate(t.Context(), conn, cfg); err != nil {
				t.Fatal(err)
			}
			n := mustNames(t, cfg)
			if got := queryOne[int32](t, conn, "SELECT version FROM "+n.Version); got != Version {
				t.Errorf("tern's version is %d, want %d", got, Version)
			}
			insertLive(t, conn, n.Sessions, 1, 720*time.Hour)
			mustUp(t, dsn, cfg)
			if got := queryOne[int](t, conn, "SELECT count(*)::int FROM "+n.Sessions+" WHERE version > 0"); got != 1 {
				t.Errorf("%d sessions after the second Up, want 1", got)
			}
		})
	}
}

// insertLive adds a session with a deadline that far ahead.
func insertLive(t testing.TB, conn *pgx.Conn, table string, number int, ahead time.Duration) {
	t.Helper()
	mustExec(t, conn, `INSERT INTO `+table+` (key, bucket, version, expires_at, deadline, created_at, user_id, data)
		SELECT sha256(int4send($1::int)), ceil(extract(epoch FROM d) / 3600)::int, 1, d, d, now(), 'user', '\x00'
		FROM (SELECT now() + $2::interval AS d) AS x`, number, ahead)
}

func TestTwoTablesShareASchema(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	conn := dbtest.Conn(t, dsn)
	for _, table := range []string{"sessions", "sessions_2", "Sessions", "sessions_meta_"} {
		cfg := Config{Table: table, Settings: fewPartitions}
		mustUp(t, dsn, cfg)
		if err := Validate(t.Context(), conn, cfg); err != nil {
			t.Error(err)
		}
	}
	insertLive(t, conn, mustNames(t, Config{Table: "sessions"}).Sessions, 1, time.Hour)
	if got := queryOne[int](t, conn, "SELECT count(*)::int FROM "+mustNames(t, Config{Table: "sessions_2"}).Sessions+" WHERE version > 0"); got != 0 {
		t.Errorf("a session of one table is in another")
	}
}

func TestTenStartAtOnceInOneProcess(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	roles := roleNames(t, s, "owner ", "maintainer ", "app ")
	dsns := []string{s.Database(t), s.Database(t)} // roles are shared between databases, locks are not
	cfg := Config{Roles: Roles{Owner: roles[0], Maintainer: roles[1], App: roles[2]}}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := Up(t.Context(), parse(t, dsns[i%2]), cfg); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, dsn := range dsns {
		if err := Validate(t.Context(), dbtest.Conn(t, dsn), cfg); err != nil {
			t.Error(err)
		}
	}
}

func TestTenProcessesStartAtOnce(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), childDSN+"="+dsn)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	if err := Validate(t.Context(), dbtest.Conn(t, dsn), Config{}); err != nil {
		t.Fatal(err)
	}
}

func TestNothingToDoTakesNoLock(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	mustUp(t, dsn, Config{})
	other := dbtest.Conn(t, dsn)
	for _, key := range []int64{ternKey, mustNames(t, Config{}).MigrateKey, mustNames(t, Config{}).DDLKey} {
		mustExec(t, other, "SELECT pg_advisory_lock($1)", key)
	}
	if err := Up(t.Context(), parse(t, dsn), Config{LockWait: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
}

func TestWaitingForAnotherMigration(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]int64{"tern": ternKey, "own": mustNames(t, Config{}).MigrateKey, "partitions": mustNames(t, Config{}).DDLKey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t).Database(t)
			other, watch := dbtest.Conn(t, dsn), dbtest.Conn(t, dsn)
			mustExec(t, other, "SELECT pg_advisory_lock($1)", key)

			err := Up(t.Context(), parse(t, dsn), Config{LockWait: time.Millisecond})
			if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "1ms") {
				t.Fatalf("got %v, want ErrLocked that names the limit", err)
			}

			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			logs, seen := observer.New(zap.InfoLevel)
			result := make(chan error, 1)
			go func() { result <- Up(ctx, parse(t, dsn), Config{Logger: zap.New(logs)}) }()
			dbtest.Eventually(t, "Up says that it waits", func() bool {
				return seen.FilterMessage("waiting for another migration").Len() == 1
			})
			// A snapshot would stop a CREATE INDEX CONCURRENTLY of the other one,
			// who would then wait for us.
			if got := queryOne[int](t, watch, `SELECT count(*)::int FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
				WHERE a.application_name = 'sojourn migrations' AND NOT l.granted AND a.datname = current_database()`); got != 0 {
				t.Error("Up waits inside the server")
			}
			mustExec(t, watch, "CREATE TABLE t (n int)")
			mustExec(t, watch, "CREATE INDEX CONCURRENTLY ON t (n)")

			enough := errors.New("enough")
			cancel(enough)
			if err := <-result; !errors.Is(err, enough) {
				t.Fatalf("cancelled: got %v", err)
			}
			mustExec(t, other, "SELECT pg_advisory_unlock_all()")
			mustUp(t, dsn, Config{})
			noMigrationConnections(t, watch)
		})
	}
}

func TestCancelledInAStatement(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	other, watch := dbtest.Conn(t, dsn), dbtest.Conn(t, dsn)
	mustExec(t, other, "BEGIN")
	mustExec(t, other, "CREATE SCHEMA sojourn")
	ctx, cancel := context.WithCancelCause(t.Context())
	result := upBehind(ctx, t, dsn, Config{}, other, watch)
	enough := errors.New("enough")
	cancel(enough)
	if err := <-result; !errors.Is(err, enough) {
		t.Errorf("got %v, want the cause", err)
	}
}

// upBehind starts Up while other has an open transaction that Up has to wait
// for, and returns when it waits.
func upBehind(ctx context.Context, t *testing.T, dsn string, cfg Config, other, watch *pgx.Conn) <-chan error {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- Up(ctx, parse(t, dsn), cfg) }()
	dbtest.Eventually(t, "Up waits for the other transaction", func() bool {
		return queryOne[int](t, watch, `SELECT count(*)::int FROM pg_stat_activity AS a
			WHERE a.application_name = 'sojourn migrations' AND a.datname = current_database() AND $1 = ANY (pg_blocking_pids(a.pid))`,
			other.PgConn().PID()) == 1
	})
	return result
}

// upWhile runs Up while other has an open transaction that Up has to wait for,
// and commits that then.
func upWhile(t *testing.T, dsn string, cfg Config, other, watch *pgx.Conn) {
	t.Helper()
	result := upBehind(t.Context(), t, dsn, cfg, other, watch)
	mustExec(t, other, "COMMIT")
	if err := <-result; err != nil {
		t.Error(err)
	}
	if err := Validate(t.Context(), watch, cfg); err != nil {
		t.Error(err)
	}
}

func TestSomebodyElseMakesTheSchemaMeanwhile(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	other, watch := dbtest.Conn(t, dsn), dbtest.Conn(t, dsn)
	mustExec(t, other, "BEGIN")
	mustExec(t, other, "CREATE SCHEMA sojourn")
	upWhile(t, dsn, Config{}, other, watch)
}

// Roles belong to all databases of a server, and locks to one.
func TestAnotherDatabaseMakesTheRolesMeanwhile(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	r := roleNames(t, s, "owner", "maintainer", "app")
	dsn := s.Database(t)
	other, watch := dbtest.Conn(t, s.Database(t)), dbtest.Conn(t, dsn)
	cfg := Config{Roles: Roles{Owner: r[0], Maintainer: r[1], App: r[2]}}

	mustExec(t, other, "BEGIN")
	for _, role := range r {
		mustExec(t, other, "CREATE ROLE "+role)
	}
	mustExec(t, other, "GRANT "+r[0]+" TO "+r[1])
	upWhile(t, dsn, cfg, other, watch)

	mustExec(t, other, "REVOKE "+r[0]+" FROM "+r[1])
	mustExec(t, other, "BEGIN")
	mustExec(t, other, "GRANT "+r[0]+" TO "+r[1])
	upWhile(t, dsn, cfg, other, watch)
}

func TestSettingsOfTheRoleDoNotReachUp(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	role := roleNames(t, s, "Bad Settings ")[0]
	dsn := s.Database(t)
	admin := dbtest.Conn(t, dsn)
	mustExec(t, admin, "CREATE ROLE "+quoted(role)+" LOGIN SUPERUSER")
	mustExec(t, admin, "CREATE SCHEMA evil")
	mustExec(t, admin, "CREATE FUNCTION evil.octet_length(bytea) RETURNS int LANGUAGE sql AS 'SELECT 1'")
	for _, set := range []string{
		"search_path = evil, pg_catalog", "statement_timeout = 1", "lock_timeout = 1", "standard_conforming_strings = off",
		"default_transaction_isolation = serializable", "TimeZone = 'Asia/Kolkata'", "DateStyle = 'German'", "IntervalStyle = 'sql_standard'",
	} {
		mustExec(t, admin, "ALTER ROLE "+quoted(role)+" SET "+set)
	}
	cfg := Config{Schema: `back\slash`, Table: `it's \n`}
	if err := Up(t.Context(), as(t, dsn, role), cfg); err != nil {
		t.Fatal(err)
	}
	insertLive(t, admin, mustNames(t, cfg).Sessions, 1, time.Hour)
	config := as(t, dsn, role)
	config.RuntimeParams["statement_timeout"], config.RuntimeParams["lock_timeout"] = "0", "0"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := Validate(t.Context(), conn, cfg); err != nil {
		t.Error(err)
	}
	makePartition := "SELECT " + mustNames(t, cfg).MakePartition + "($1)"
	if got := queryOne[string](t, conn, makePartition, hourNow(t, admin)+700); !strings.HasPrefix(got, `it's \n_`) {
		t.Errorf("make_partition returned %q", got)
	}
}

func TestPoolersAreRefusedForUpOnly(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	dsn := s.Database(t)
	mustUp(t, dsn, Config{})
	for name, settings := range map[string]map[string]string{
		"refusing parameters": nil,
		"ignoring parameters": {"ignore_startup_parameters": "application_name,search_path,lock_timeout,statement_timeout,idle_in_transaction_session_timeout,default_transaction_isolation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := parse(t, dbtest.Bouncer(t, s, dsn, settings))
			if err := Up(t.Context(), config, Config{}); !errors.Is(err, ErrNotDirect) {
				t.Errorf("Up: got %v, want ErrNotDirect", err)
			}
			config.DefaultQueryExecMode = pgx.QueryExecModeExec
			conn, err := pgx.ConnectConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if err := Validate(t.Context(), conn, Config{}); err != nil {
				t.Errorf("Validate: %v", err)
			}
		})
	}
}

func TestSearchPathThatIsNotInForce(t *testing.T) {
	t.Parallel()
	config := parse(t, dbtest.Postgres(t).Database(t))
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		return conn.Exec(ctx, "SET search_path = pg_catalog").Close()
	}
	if err := Up(t.Context(), config, Config{}); !errors.Is(err, ErrNotDirect) || !strings.Contains(err.Error(), "search_path") {
		t.Fatalf("got %v, want ErrNotDirect", err)
	}
}

func TestUpLeavesTheCallersConfigurationAlone(t *testing.T) {
	t.Parallel()
	config := parse(t, dbtest.Postgres(t).Database(t))
	before := config.ConnString()
	params := len(config.RuntimeParams)
	if err := Up(t.Context(), config, Config{}); err != nil {
		t.Fatal(err)
	}
	if config.ConnString() != before || len(config.RuntimeParams) != params || config.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		t.Errorf("it was changed: %v", config.RuntimeParams)
	}
}

func TestUpClosesItsConnection(t *testing.T) {
	t.Parallel()
	config := parse(t, dbtest.Postgres(t).Database(t))
	var opened []*pgconn.PgConn // held, or the garbage collector would close what Up forgets
	config.AfterConnect = func(_ context.Context, conn *pgconn.PgConn) error {
		opened = append(opened, conn)
		return nil
	}
	for range 2 { // the second has nothing to do
		if err := Up(t.Context(), config, Config{}); err != nil {
			t.Error(err)
		}
	}
	if err := Up(t.Context(), config, Config{Schema: "pg_mine"}); code(err) != "42939" {
		t.Errorf("got %v, want the error of a reserved name", err)
	}
	if len(opened) != 3 {
		t.Errorf("%d connections, want 3", len(opened))
	}
	for i, conn := range opened {
		if !conn.IsClosed() {
			t.Errorf("connection %d is open", i+1)
		}
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	err := Up(t.Context(), parse(t, "postgres://127.0.0.1:1/x?connect_timeout=5"), Config{})
	if err == nil || !strings.HasPrefix(err.Error(), "migrations: connect: ") {
		t.Fatalf("got %v", err)
	}
}

func TestUpFromPoolKnowsWhatThePoolKnows(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	role := roleNames(t, server, "owner_")[0]
	dsn, other := server.Database(t), server.Database(t)
	db := dbtest.Conn(t, dsn)
	mustExec(t, db, `CREATE ROLE `+quoted(role))
	mustExec(t, db, `GRANT CREATE ON DATABASE `+quoted(parse(t, dsn).Database)+` TO `+quoted(role))
	right := parse(t, dsn).Password
	pool := dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
		c.ConnConfig.Password = "it was changed"
		c.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { c.Password = right; return nil }
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SET ROLE `+quoted(role)+`; SET search_path = nowhere; SET lock_timeout = 1`)
			return err
		}
	})
	if err := UpFromPool(t.Context(), pool, Config{DirectDSN: other}); !errors.Is(err, direct.ErrElsewhere) {
		t.Errorf("another database: %v, want ErrElsewhere", err)
	}
	if err := UpFromPool(t.Context(), pool, Config{DirectDSN: "port=x"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a DSN that is none: %v, want ErrInvalid", err)
	}
	if err := UpFromPool(t.Context(), nil, Config{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no pool: %v, want ErrInvalid", err)
	}
	for range 2 {
		if err := UpFromPool(t.Context(), pool, Config{}); err != nil {
			t.Fatal(err)
		}
	}
	if owner := queryOne[string](t, db, `SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = $1`, DefaultSchema); owner != role {
		t.Errorf("the schema belongs to %s, want %s, the role of AfterConnect", owner, role)
	}
	mustExec(t, db, `REASSIGN OWNED BY `+quoted(role)+` TO postgres; DROP OWNED BY `+quoted(role))
}

func TestUpWaitsForAServerThatStarts(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.Config{})
	dsn := server.Database(t)
	wrong := parse(t, dsn)
	wrong.Password = "wrong"
	if err := Up(t.Context(), wrong, Config{}); code(err) != "28P01" || strings.Contains(err.Error(), "attempts") {
		t.Errorf("a wrong password: %v, want it at once", err)
	}
	server.Stop()
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := Up(short, parse(t, dsn), Config{}); err == nil || !strings.Contains(err.Error(), "attempts within") {
		t.Errorf("no server: %v, want how often it was tried", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Up(ctx, parse(t, dsn), Config{}) }()
	server.Restart(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
