package pgserver

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/await"
)

func TestStandbyFollowsAndIsPromoted(t *testing.T) {
	t.Parallel()
	primary := run(t, Config{})
	standby, err := StartStandby(t.Context(), primary, Config{})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, standby.Close)
	exec1(t, connect(t, primary.DSN("postgres")), "CREATE TABLE t AS SELECT 7 AS n")
	reader := connect(t, standby.DSN("postgres"))
	await.True(t, "the table arrives", func() bool {
		return ask[*string](t, reader, "SELECT to_regclass('t')::text") != nil
	})
	if !ask[bool](t, reader, "SELECT pg_is_in_recovery()") {
		t.Fatal("the standby is no standby")
	}
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec1(t, reader, "INSERT INTO t VALUES (8)")
	if got := ask[int](t, reader, "SELECT sum(n) FROM t"); got != 15 {
		t.Errorf("got %d, want 15", got)
	}
}

func TestBouncerPoolsTransactions(t *testing.T) {
	t.Parallel()
	if _, err := FindBouncer(); errors.Is(err, ErrNoBouncer) && os.Getenv("CI") != "true" {
		t.Skipf("%v; run: %s", err, BouncerHint())
	}
	s := run(t, Config{})
	b, err := StartBouncer(t.Context(), s.DSN("postgres"), map[string]string{"default_pool_size": "1"})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, b.Close)
	cfg, err := pgx.ParseConfig(b.DSN())
	if err != nil {
		t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	var pids [2]int
	for i := range pids {
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		pids[i] = ask[int](t, conn, "SELECT pg_backend_pid()")
	}
	if pids[0] != pids[1] {
		t.Errorf("two clients got the server connections %d and %d, want one", pids[0], pids[1])
	}
	wrong := strings.Replace(b.DSN(), ":"+s.password+"@", ":wrong@", 1)
	if err := connects(t.Context(), wrong); err == nil {
		t.Error("a wrong password was accepted")
	}
}
