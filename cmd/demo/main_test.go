package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/dbtest"
	"github.com/sojourn-go/sojourn/internal/pgserver"
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
	temp, err := os.MkdirTemp("", "demo-") // short enough, and below a folder that all may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(temp); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(temp, 0o711); err != nil {
		t.Fatal(err)
	}
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
	limit := time.AfterFunc(90*time.Second, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() < 0 {
		t.Fatalf("%v\n%s%s", err, &out, &errs)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String(), temp
}

func needPostgres(t *testing.T) {
	t.Helper()
	_, err := pgserver.Find(t.Context())
	if errors.Is(err, pgserver.ErrNotInstalled) && os.Getenv("CI") != "true" {
		t.Skipf("%v; run: %s", err, pgserver.InstallHint())
	}
	if err != nil {
		t.Fatal(err)
	}
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
	needPostgres(t)
	code, stdout, stderr, temp := finish(t, "", "-check", "-json")
	all := outcomes(t, stdout)
	for _, o := range all {
		if !o.OK || o.Skipped || o.Name == "" || o.Detail == "" || o.Milliseconds < 0 {
			t.Errorf("%+v", o)
		}
	}
	if len(all) != 19 {
		t.Errorf("%d steps", len(all))
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

// running is a demo that somebody looks at.
type running struct {
	cmd   *exec.Cmd
	temp  string
	lines *bufio.Scanner
	// What the demo and its nodes write to stderr: it ends when all of them have.
	stderr *os.File
	urls   []string
	pids   []int
	server int
}

var nodeLine = regexp.MustCompile(`^  node \d   (http://127\.0\.0\.1:\d+)/   process (\d+)$`)

func begin(t *testing.T) *running {
	t.Helper()
	needPostgres(t)
	d := &running{}
	d.cmd, d.temp = command(t, "")
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	d.cmd.Stderr, d.stderr = write, read
	err = d.cmd.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(90*time.Second, func() { _ = d.cmd.Process.Kill() })
	t.Cleanup(func() { limit.Stop() })
	d.lines = bufio.NewScanner(stdout)
	d.await(t, "Ctrl-C stops everything.", func(line string) {
		if m := nodeLine.FindStringSubmatch(line); m != nil {
			pid, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			d.urls, d.pids = append(d.urls, m[1]), append(d.pids, pid)
		}
	})
	if len(d.urls) != 3 {
		t.Fatalf("%d nodes", len(d.urls))
	}
	files, err := filepath.Glob(filepath.Join(d.temp, "*", "data", "postmaster.pid"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if d.server, err = strconv.Atoi(first); err != nil {
		t.Fatal(err)
	}
	return d
}

// await reads what the demo prints up to a line that contains text.
func (d *running) await(t *testing.T, text string, each func(line string)) {
	t.Helper()
	for d.lines.Scan() {
		each(d.lines.Text())
		if strings.Contains(d.lines.Text(), text) {
			return
		}
	}
	t.Fatalf("the demo ended without saying %q: %v", text, d.lines.Err())
}

// ended waits until nothing of the demo runs anymore.
func (d *running) ended(t *testing.T) {
	t.Helper()
	for d.lines.Scan() {
	}
	_ = d.cmd.Wait() // the callers look at how it ended
	said, err := io.ReadAll(d.stderr)
	if err != nil {
		t.Error(err)
	}
	if len(said) > 0 {
		t.Errorf("stderr: %s", said)
	}
	mustBeEmpty(t, d.temp)
	for _, pid := range append(d.pids, d.server) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := until(ctx, func() (bool, error) { return !alive(pid), nil })
		cancel()
		if err != nil {
			t.Errorf("process %d: %v", pid, err)
		}
	}
}

// alive says no of a process that only waits for its parent to look.
func alive(pid int) bool {
	if runtime.GOOS == "linux" {
		line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		return err == nil && len(line) > 0
	}
	p, err := os.FindProcess(pid)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}

func TestANodeThatDiesComesBackAndCtrlCLeavesNothing(t *testing.T) {
	t.Parallel()
	d := begin(t)
	node, err := os.FindProcess(d.pids[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Kill(); err != nil {
		t.Fatal(err)
	}
	d.await(t, "node 2  ended (signal: killed)", func(string) {})
	d.await(t, "node 2  is there", func(line string) {
		if strings.Contains(line, strconv.Itoa(d.pids[1])) {
			t.Errorf("the old process: %s", line)
		}
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(d.urls[1] + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Error(answer.Status)
	}
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	d.ended(t)
	if code := d.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestNothingOutlivesADemoThatIsKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a server outlives its parent until the next one is started")
	}
	d := begin(t)
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.ended(t)
}

func TestAReaderThatGoesAwayStopsTheDemo(t *testing.T) {
	t.Parallel()
	needPostgres(t)
	cmd, temp := command(t, "")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = write
	err = cmd.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(90*time.Second, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	if _, err := read.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	read.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	mustBeEmpty(t, temp)
}
