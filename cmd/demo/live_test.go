package main

import (
	"bufio"
	"fmt"
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

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// running is a demo that somebody looks at.
type running struct {
	cmd   *exec.Cmd
	temp  string
	lines *bufio.Scanner
	// What the demo and its nodes write to stderr: it ends when all of them have.
	stderr *os.File
	urls   []string
	pids   []int // the nodes', in their order, and after them the server's
}

var nodeLine = regexp.MustCompile(`^  node \d   (http://127\.0\.0\.1:\d+)/   process (\d+)$`)

// begin starts the demo. The pattern leads from its folder for temporary files to
// the one that names the server's process, empty if there is none.
func begin(t *testing.T, store, pidFile string) *running {
	t.Helper()
	d := &running{}
	d.cmd, d.temp = command(t, "", "-store", store)
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
	limit := time.AfterFunc(dbtest.Patience, func() { _ = d.cmd.Process.Kill() })
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
	if pidFile == "" {
		return d
	}
	files, err := filepath.Glob(filepath.Join(d.temp, pidFile))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	server, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	d.pids = append(d.pids, server)
	return d
}

// onEach runs a test of the demo on each kind of database.
func onEach(t *testing.T, test func(*testing.T, *running)) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		dbtest.Need(t)
		test(t, begin(t, "postgres", "*/data/postmaster.pid"))
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		dbtest.NeedMariaDB(t)
		test(t, begin(t, "mysql", "*/data/pid"))
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, begin(t, "sqlite", ""))
	})
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
	for _, pid := range d.pids {
		dbtest.Eventually(t, fmt.Sprintf("the end of process %d", pid), func() bool { return !alive(pid) })
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

func TestANodeThatDiesComesBackAndCtrlCLeavesNothing(t *testing.T) { onEach(t, diesAndComesBack) }

func diesAndComesBack(t *testing.T, d *running) {
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
	mustBeEmpty(t, d.temp)
}

func TestNothingOutlivesADemoThatIsKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a server outlives its parent until the next one is started")
	}
	onEach(t, isKilled)
}

func isKilled(t *testing.T, d *running) {
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.ended(t)
}

func TestAReaderThatGoesAwayStopsTheDemo(t *testing.T) {
	t.Parallel()
	dbtest.Need(t)
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
	limit := time.AfterFunc(dbtest.Patience, func() { _ = cmd.Process.Kill() })
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
