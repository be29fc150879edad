package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/dbtest"
)

// demo is the program, without the race detector: several nodes at a time are
// enough for a machine.
var demo string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == nodeArg { // of a demo that a test runs by itself
		main()
	}
	os.Exit(testMain(m))
}

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

// turns are for tests that keep a machine busy.
var turns = make(chan struct{}, 2)

// finish runs the demo to its end.
func finish(t *testing.T, database string, args ...string) (code int, stdout, stderr, temp string) {
	t.Helper()
	turns <- struct{}{}
	defer func() { <-turns }()
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
	return cmd.ProcessState.ExitCode(), out.String(), errs.String(), temp
}

func outcomes(t *testing.T, stdout string) []outcome {
	t.Helper()
	var all []outcome
	lines := json.NewDecoder(strings.NewReader(stdout))
	lines.DisallowUnknownFields()
	for {
		var o outcome
		err := lines.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, stdout)
		}
		all = append(all, o)
	}
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// checkSucceeds runs the check to its end, which has so many steps, and among
// them some that have seen what the patterns say.
func checkSucceeds(t *testing.T, store string, steps int, seen map[string]string) {
	t.Helper()
	code, stdout, stderr, temp := finish(t, "", "-check", "-json", "-store", store)
	all := outcomes(t, stdout)
	for _, o := range all {
		if !o.OK || o.Skipped || o.Name == "" || o.Detail == "" || o.Milliseconds < 0 {
			t.Errorf("%+v", o)
		}
	}
	if len(all) != steps {
		t.Errorf("%d steps", len(all))
	}
	for name, numbers := range seen {
		if !slices.ContainsFunc(all, func(o outcome) bool {
			return o.Name == name && regexp.MustCompile(numbers).MatchString(o.Detail)
		}) {
			t.Errorf("no step %q with %s", name, numbers)
		}
	}
	if code != exitOK || stderr != "" {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr)
	}
	mustBeEmpty(t, temp)
}

func TestTheCheckSucceedsOnAThrowawayServer(t *testing.T) {
	t.Parallel()
	dbtest.Need(t)
	checkSucceeds(t, "postgres", 32, map[string]string{
		"read from memory, without a query":           `1000 reads, 1000 from memory, 0 queries, \S+ each.*; past the memory: 200 reads, 2\d\d queries`,
		"merge what two nodes change":                 `both there after 1 conflict; 50 clicks counted, \d+ conflicts`,
		"touch by use, now and then":                  `^101 requests: idle timeout 10m0s later, moved [1-5] time; in the database after`,
		"stay logged in for 30 days":                  `^the cookie is kept for 7(19|20)h`,
		"list devices, log out one, then the others":  `^laptop, phone, tablet; phone refused by .*404`,
		"touch later":                                 `100 touches answered with \d+ queries, .* in the database after \S+$`,
		"log out on node 1, how soon others refuse":   `200 logouts, .*from the call p50 \S+, p99 \S+, max \S+; after it has returned p50 `,
		"log out 1,000 sessions in one call":          `1000 ended in \S+ with [1-5] notifications; .* 3000 reads`,
		"log out a user with 10,000 sessions":         `10000 ended in \S+ with (1?\d|20) notifications; .* 500 on every node`,
		"cut a node's listening connection":           `lost connections: 1.* 200 reads, 0 from memory, .* healed: .* 200 reads, 200 from memory, 0 queries`,
		"stall a node's listening connection":         `silences: 1.* 200 reads, 0 from memory, .* healed: .* 200 reads, 200 from memory, 0 queries`,
		"log out and wait for all, one hears nothing": `it took \S+, .* when it returned, all 3 nodes refused`,
	})
}

func TestTheCheckSucceedsOnAFile(t *testing.T) {
	t.Parallel()
	checkSucceeds(t, "sqlite", 28, map[string]string{
		"merge what two nodes change":                  `both there after 1 conflict; 50 clicks counted, \d+ conflicts`,
		"log out on node 1, how soon others refuse":    `200 logouts, `,
		"log out 1,000 sessions in one call":           `1000 ended in \S+; refused by all 3 nodes: 3000 reads, 0 of them too early`,
		"log out a user with 10,000 sessions":          `10000 ended in \S+; .* 500 on every node`,
		"keep the file locked: reads go on":            `^100 reads on each of 3 nodes: .*; a save waited`,
		"5,000 expired sessions vanish":                `^deleted by node \d( and node \d)* within \S+; meanwhile \d+ reads on all nodes, none failed, .* MB of the file are free`,
		"kill -9 a node that writes, the others go on": `^node \d killed; node \d wrote \S+ later; [2-9]\d\d saves acknowledged before, all there; integrity_check: ok`,
		"another node prunes":                          `^node \d did so`,
	})
}

func TestTheCheckSucceedsOnAThrowawayMariaDB(t *testing.T) {
	t.Parallel()
	dbtest.NeedMariaDB(t)
	checkSucceeds(t, "mysql", 27, map[string]string{
		"merge what two nodes change":              `both there after 1 conflict; 50 clicks counted, \d+ conflicts`,
		"log out 1,000 sessions in one call":       `1000 ended in \S+; refused by all 3 nodes: 3000 reads, 0 of them too early`,
		"keep a session's row locked: reads go on": `^100 reads on each of 3 nodes: .*; a save waited`,
		"5,000 expired sessions vanish":            `^deleted by node \d within \S+; meanwhile \d+ reads on all nodes, none failed`,
		"kill -9 the leader, another takes over":   `^node \d killed; node \d leads`,
		"survive a restart of MariaDB":             `nobody lost a cookie`,
	})
}

// nowhere is a kind of database that this machine has not.
func nowhere() backend {
	kind := postgres()
	kind.open = func(context.Context, io.Writer) (database, error) {
		return nil, noServer{errors.New("it is not there")}
	}
	return kind
}

func TestWithoutPostgresTheDemoRunsOnSQLiteIfNobodyMinds(t *testing.T) {
	t.Parallel()
	for _, mind := range []bool{false, true} {
		var out bytes.Buffer
		c := &check{report: newReport(&out, true), kind: choice{nowhere(), !mind}}
		found := c.find(t.Context(), io.Discard)
		all := outcomes(t, out.String())
		if mind {
			if found || len(all) != 1 || all[0].OK || all[0].Detail != "it is not there" {
				t.Errorf("%+v", all)
			}
			continue
		}
		if !found || len(all) != 2 || !all[0].Skipped || c.kind.name != "sqlite" || !strings.HasPrefix(all[1].Detail, "SQLite 3.") ||
			!strings.HasPrefix(all[0].Detail, "it is not there. SQLite does instead; what it does not show: ") {
			t.Fatalf("%+v", all)
		}
		if _, err := c.db.close(t.Context()); err != nil {
			t.Error(err)
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, choice{nowhere(), true}, 2, write)
		write.Close()
	}()
	var said strings.Builder
	for lines := bufio.NewScanner(read); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "Ctrl-C stops everything.") {
			stop()
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, want := range []string{"it is not there. SQLite does instead", "What it does not show:\n\n  several machines", "who has pruned last"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &said)
		}
	}
	for _, no := range []string{"from memory, and what", "nodes=all", "who leads"} {
		if strings.Contains(said.String(), no) {
			t.Errorf("it says %q:\n%s", no, &said)
		}
	}
	limited, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
	defer cancel()
	if err := serve(limited, choice{backend: nowhere()}, 2, io.Discard); err == nil {
		t.Error("asked for, it is no failure")
	}
}

func TestTheCheckSucceedsOnAGivenDatabaseAndLeavesItAsItWas(t *testing.T) {
	t.Parallel()
	url := dbtest.Postgres(t).Database(t)
	code, stdout, stderr, temp := finish(t, urlVariable+"="+url, "-check", "-json", "-nodes", "2", "-store", "postgres")
	for _, o := range outcomes(t, stdout) {
		if !o.OK || o.Skipped != (o.Name == "survive a restart of Postgres") {
			t.Errorf("%+v", o)
		}
	}
	if code != exitOK {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr)
	}
	mustBeEmpty(t, temp)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var schemas int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'sojourn%'`).Scan(&schemas); err != nil {
		t.Fatal(err)
	}
	if schemas != 0 {
		t.Errorf("%d schemas are left", schemas)
	}
}

func TestWithoutADatabaseItSaysSoAndFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ store, variable, value string }{
		{"postgres", urlVariable, "postgres://somebody:verysecret@127.0.0.1:1/nothing"},
		{"mysql", dsnVariable, "somebody:verysecret@tcp(127.0.0.1:1)/nothing"},
		{"mysql", dsnVariable, "somebody:verysecret@tcp(127.0.0.1:1)/"},
		{"mysql", dsnVariable, "somebody:verysecret@tcp(127.0.0.1:1"},
	} {
		code, stdout, _, _ := finish(t, c.variable+"="+c.value, "-check", "-json", "-store", c.store)
		all := outcomes(t, stdout)
		if code != exitFailed || len(all) != 1 || all[0].OK || !strings.Contains(all[0].Detail, c.variable) {
			t.Errorf("exit code %d, %+v", code, all)
		}
		if strings.Contains(stdout, "verysecret") {
			t.Error("the password is shown")
		}
		code, stdout, stderr, _ := finish(t, c.variable+"="+c.value, "-store", c.store)
		if code != exitFailed || !strings.Contains(stderr, c.variable) || strings.Contains(stderr+stdout, "verysecret") {
			t.Errorf("exit code %d, %s", code, stderr)
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
		{[]string{"-nodes", "1"}, exitUsage, "from 2 to 9"},
		{[]string{"-nodes", "10"}, exitUsage, "from 2 to 9"},
		{[]string{"-json"}, exitUsage, "-check"},
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
