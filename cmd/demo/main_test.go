package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

// With this variable set the test binary is the demo. Nodes inherit it.
const asDemo = "SOJOURN_DEMO_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asDemo) != "" {
		main()
	}
	dbtest.Main(m)
}

// command is the demo, on the database at url if that is not empty, with a
// folder of its own for temporary files.
func command(t *testing.T, url string, args ...string) (cmd *exec.Cmd, temp string) {
	t.Helper()
	temp = dbtest.Folder(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), asDemo+"=1", urlVariable+"="+url, "TMPDIR="+temp)
	return cmd, temp
}

// finish runs the demo to its end.
func finish(t *testing.T, url string, args ...string) (code int, stdout, stderr, temp string) {
	t.Helper()
	cmd, temp := command(t, url, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(150*time.Second, func() { _ = cmd.Process.Kill() })
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

func TestTheCheckSucceedsOnAThrowawayServer(t *testing.T) {
	t.Parallel()
	dbtest.Need(t)
	code, stdout, stderr, temp := finish(t, "", "-check", "-json")
	all := outcomes(t, stdout)
	for _, o := range all {
		if !o.OK || o.Skipped || o.Name == "" || o.Detail == "" || o.Milliseconds < 0 {
			t.Errorf("%+v", o)
		}
	}
	if len(all) != 32 {
		t.Errorf("%d steps", len(all))
	}
	for name, numbers := range map[string]string{
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
	} {
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

func TestTheCheckSucceedsOnAGivenDatabaseAndLeavesItAsItWas(t *testing.T) {
	t.Parallel()
	url := dbtest.Postgres(t).Database(t)
	code, stdout, stderr, temp := finish(t, url, "-check", "-json", "-nodes", "2")
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
	const nowhere = "postgres://somebody:verysecret@127.0.0.1:1/nothing"
	code, stdout, _, _ := finish(t, nowhere, "-check", "-json")
	all := outcomes(t, stdout)
	if code != exitFailed || len(all) != 1 || all[0].OK || !strings.Contains(all[0].Detail, urlVariable) {
		t.Errorf("exit code %d, %+v", code, all)
	}
	if strings.Contains(stdout, "verysecret") {
		t.Error("the password is shown")
	}
	code, stdout, stderr, _ := finish(t, nowhere)
	if code != exitFailed || !strings.Contains(stderr, urlVariable) || strings.Contains(stderr+stdout, "verysecret") {
		t.Errorf("exit code %d, %s", code, stderr)
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
		{[]string{"now"}, exitUsage, "now"},
		{[]string{"-no-such"}, exitUsage, "no-such"},
	} {
		var stderr bytes.Buffer
		if code := run(c.args, strings.NewReader(""), io.Discard, &stderr); code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%q: exit code %d, %s", c.args, code, &stderr)
		}
	}
}
