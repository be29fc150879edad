package main

import (
	"bytes"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// With this variable set the test binary is the command.
const asCommand = "SOJOURN_BENCH_TEST"

func TestMain(m *testing.M) {
	if isServer(os.Args) || os.Getenv(asCommand) != "" {
		main()
	}
	dbtest.Main(m)
}

func TestEveryCandidateAnswersEveryWorkload(t *testing.T) {
	t.Parallel()
	dbtest.Need(t)
	p := plan{rounds: 2, duration: 10 * time.Millisecond, clients: 3, sessions: 8, progress: io.Discard}
	res, err := measure(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for w, work := range workloads {
		for c, cand := range candidates {
			got := res.samples[w][c]
			if len(got) != p.rounds {
				t.Fatalf("%s, %s: %d samples, want %d", work.name, cand.name, len(got), p.rounds)
			}
			for _, s := range got {
				if s.rate <= 0 || s.p50 <= 0 || s.p99 < s.p50 || s.mallocs < 1 || s.bytes < s.mallocs {
					t.Errorf("%s, %s: %+v", work.name, cand.name, s)
				}
				if runtime.GOOS == "linux" && s.cpu <= 0 {
					t.Errorf("%s, %s: no CPU time", work.name, cand.name)
				}
			}
		}
	}
	// That the peers do what is said of them shows in what they ask the database.
	for name, want := range map[string]float64{"no sessions": 0, "scs + pgxstore": 1, "scs + pgxstore, IdleTimeout": 2} {
		for c, cand := range candidates {
			for _, s := range res.samples[0][c] {
				if cand.name == name && math.Abs(s.acquires-want) > 1e-9 {
					t.Errorf("%s: a read used a connection %v times, want %v", name, s.acquires, want)
				}
			}
		}
	}
	var out bytes.Buffer
	if err := res.print(&out); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "\n| "+candidates[peer].name); got != len(workloads) {
		t.Errorf("%d tables have the peer:\n%s", got, &out)
	}
}

func TestAnInterruptEndsEverything(t *testing.T) {
	t.Parallel()
	dbtest.Need(t)
	temp := dbtest.Folder(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-rounds=100000", "-duration=10ms", "-clients=2")
	cmd.Env = append(os.Environ(), asCommand+"=1", "TMPDIR="+temp)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(90*time.Second, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	var said bytes.Buffer
	for first := make([]byte, 1); !strings.Contains(said.String(), "\n"); {
		if _, err := io.ReadFull(stderr, first); err != nil {
			t.Fatalf("%v after %q", err, &said)
		}
		said.Write(first)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&said, stderr); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("%v, want exit code %d; it said:\n%s", err, exitFailed, &said)
	}
	if !strings.Contains(said.String(), "interrupt") || strings.Contains(said.String(), "killed") {
		t.Errorf("it said:\n%s", &said)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	_, err := spawn(t.Context(), peer, "postgres://somebody:verysecret@127.0.0.1:1/nothing")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{candidates[peer].name, "exit status 1", "127.0.0.1:1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "verysecret") {
		t.Error("the password is shown")
	}
}

func TestAServerLeavesTheInterruptToItsParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no process can be interrupted there")
	}
	c, err := spawn(t.Context(), withoutSessions, "postgres://nobody@127.0.0.1:1/nothing") // asks no database
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if _, err := c.usage(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
}

func TestWrongArgumentsAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-help"}, 0, "-rounds"},
		{[]string{"-rounds", "0"}, exitUsage, "at least 1"},
		{[]string{"-duration", "1us"}, exitUsage, "at least 1ms"},
		{[]string{"-clients", "201"}, exitUsage, "from 1 to 200"},
		{[]string{"now"}, exitUsage, `"now"`},
		{[]string{"-no-such"}, exitUsage, "no-such"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), c.args, io.Discard, &stderr); code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%q: exit code %d, %s", c.args, code, &stderr)
		}
	}
}
