package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// With this variable set the test binary is the command.
const asCommand = "SOJOURN_BENCH_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	dbtest.Main(m)
}

func TestBothStoresDoEveryOperation(t *testing.T) {
	t.Parallel()
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			if strings.HasPrefix(e.name, "mysql") {
				dbtest.NeedMariaDB(t)
			}
			p := plan{rounds: 2, duration: 5 * time.Millisecond, sessions: 20, goroutines: []int{1, 3}, progress: io.Discard}
			res, err := measure(t.Context(), e, p)
			if err != nil {
				t.Fatal(err)
			}
			for n, goroutines := range p.goroutines {
				for o, op := range operations {
					for i, cand := range []candidate{res.site.own, res.site.peer} {
						got := res.samples[n][o][i]
						if len(got) != p.rounds {
							t.Fatalf("%s, %s by %d: %d samples, want %d", cand.name, op.name, goroutines, len(got), p.rounds)
						}
						for _, s := range got {
							if s.rate <= 0 || s.p50 <= 0 || s.p99 < s.p50 {
								t.Errorf("%s, %s by %d: %+v", cand.name, op.name, goroutines, s)
							}
						}
					}
				}
			}
			var out bytes.Buffer
			if err := res.print(&out); err != nil {
				t.Fatal(err)
			}
			if rows := strings.Count(out.String(), "\n| "); rows != 1+len(operations)*len(p.goroutines) {
				t.Errorf("%d rows:\n%s", rows, &out)
			}
		})
	}
}

func TestAnInterruptEndsEverything(t *testing.T) {
	t.Parallel()
	temp := dbtest.Folder(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-rounds=100000", "-duration=10ms", "-store=sqlite")
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
	if !strings.Contains(said.String(), "interrupt") {
		t.Errorf("it said:\n%s", &said)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
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
		{[]string{"-store", "oracle"}, exitUsage, `"oracle"`},
		{[]string{"now"}, exitUsage, `"now"`},
		{[]string{"-no-such"}, exitUsage, "no-such"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), c.args, io.Discard, &stderr); code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%q: exit code %d, %s", c.args, code, &stderr)
		}
	}
}
