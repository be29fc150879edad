package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// demo is the program, without the race detector: several nodes at a time are
// enough for a machine.
var demo string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "demo-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	demo = filepath.Join(dir, "demo")
	if out, err := exec.Command("go", "build", "-o", demo, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return dbtest.Run(m)
}

// command is the demo, on the database that the setting of a variable leads to if
// that is not empty, with a folder of its own for temporary files.
func command(t *testing.T, database string, args ...string) (cmd *exec.Cmd, temp string) {
	t.Helper()
	temp = dbtest.Folder(t)
	cmd = exec.Command(demo, args...)
	cmd.Env = append(os.Environ(), urlVariable+"=", dsnVariable+"=", "TMPDIR="+temp)
	if database != "" {
		cmd.Env = append(cmd.Env, database)
	}
	return cmd, temp
}

// finish runs the demo to its end.
func finish(t *testing.T, database string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd, temp := command(t, database, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(checkLimit+dbtest.Patience, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() < 0 {
		t.Fatalf("%v\n%s%s", err, &out, &errs)
	}
	mustBeEmpty(t, temp)
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestTheCheckSucceeds(t *testing.T) {
	t.Parallel()
	for store, need := range map[string]func(testing.TB){
		"postgres": dbtest.Need, "mysql": dbtest.NeedMariaDB, "sqlite": func(testing.TB) {},
	} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			need(t)
			code, stdout, stderr := finish(t, "", "-check", "-store", store)
			if code != exitOK || stderr != "" {
				t.Errorf("exit code %d, stderr:\n%s", code, stderr)
			}
			if strings.Count(stdout, "ok   ") != 4 || !strings.Contains(stdout, "\nAll is well, and nothing is left") {
				t.Errorf("it says:\n%s", stdout)
			}
		})
	}
}

func TestTheCheckLeavesAGivenPostgresAsItWas(t *testing.T) {
	t.Parallel()
	url := dbtest.Postgres(t).Database(t)
	if code, stdout, stderr := finish(t, urlVariable+"="+url, "-check", "-store", "postgres"); code != exitOK {
		t.Errorf("exit code %d, stdout:\n%s\nstderr:\n%s", code, stdout, stderr)
	}
	conn := dbtest.Conn(t, url)
	schemas, err := pgx.CollectRows(first(conn.Query(t.Context(), `SELECT nspname FROM pg_namespace WHERE nspname LIKE 'sojourn%'`)), pgx.RowTo[string])
	if err != nil || len(schemas) != 0 {
		t.Errorf("left: %v, %v", schemas, err)
	}
}

func first[T any](v T, _ error) T { return v }

func TestTheCheckLeavesAGivenMariaDBAsItWas(t *testing.T) {
	t.Parallel()
	dsn := dbtest.MariaDB(t).Database(t)
	if code, stdout, stderr := finish(t, dsnVariable+"="+dsn, "-check", "-store", "mysql"); code != exitOK {
		t.Errorf("exit code %d, stdout:\n%s\nstderr:\n%s", code, stdout, stderr)
	}
	var tables int
	err := dbtest.DB(t, dsn, nil).QueryRowContext(t.Context(),
		`SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()`).Scan(&tables)
	if err != nil || tables != 0 {
		t.Errorf("%d tables are left, %v", tables, err)
	}
}

func TestWithoutAServerOfPostgresSQLiteDoes(t *testing.T) {
	t.Parallel()
	nowhere := postgres()
	nowhere.open = func(context.Context, io.Writer) (*database, error) {
		return nil, fmt.Errorf("%w: run this", errNoServer)
	}
	var said strings.Builder
	b, db, err := openEither(t.Context(), nowhere, sqlite(), &said)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.close(t.Context()); err != nil {
		t.Error(err)
	}
	if b.name != "sqlite" || !strings.Contains(said.String(), "run this") || !strings.Contains(said.String(), "The store is sqlite instead") {
		t.Errorf("%s: %s", b.name, &said)
	}
	away := errors.New("it is there, and does not answer")
	nowhere.open = func(context.Context, io.Writer) (*database, error) { return nil, away }
	if _, _, err := openEither(t.Context(), nowhere, sqlite(), io.Discard); !errors.Is(err, away) {
		t.Error(err)
	}
}

func TestADatabaseThatCannotBeUsedIsNamedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ store, variable, value string }{
		{"postgres", urlVariable, "postgres://somebody:verysecret@127.0.0.1:1/nothing"},
		{"mysql", dsnVariable, "somebody:verysecret@tcp(127.0.0.1:1)/nothing"},
		{"mysql", dsnVariable, "somebody:verysecret@tcp(127.0.0.1:1)/"},
		{"mysql", dsnVariable, "somebody:verysecret@tcp(127.0.0.1:1"},
	} {
		for _, args := range [][]string{{"-check"}, nil} {
			code, stdout, stderr := finish(t, c.variable+"="+c.value, append(args, "-store", c.store)...)
			if code != exitFailed || !strings.Contains(stderr, c.variable) {
				t.Errorf("exit code %d, %s", code, stderr)
			}
			if strings.Contains(stdout+stderr, "verysecret") {
				t.Error("the password is shown")
			}
		}
	}
}

func TestWrongArgumentsAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-help"}, exitOK, "Exit codes"},
		{[]string{"-store", "oracle"}, exitUsage, "postgres, mysql, sqlite"},
		{[]string{"now"}, exitUsage, "now"},
		{[]string{"-no-such"}, exitUsage, "no-such"},
	} {
		var stderr bytes.Buffer
		if code := run(c.args, strings.NewReader(""), io.Discard, &stderr); code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%q: exit code %d, %s", c.args, code, &stderr)
		}
	}
}

func TestTheCheckFindsANodeThatServesAfterALogout(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody wants to wait until the right answer cannot come any more
	b := newBrowser()
	if err := b.await(ctx, []*node{{conf: nodeConfig{Name: "node 1", Addr: "127.0.0.1:1"}}}, refused); err == nil {
		t.Error("a node that does not refuse is fine")
	}
	if refused(view{}, nil) || refused(view{}, errors.New("away")) || refused(view{}, &refusal{503, ""}) || !refused(view{}, &refusal{401, ""}) {
		t.Error("only 401 is a refusal")
	}
}
