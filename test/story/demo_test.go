package story

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// program is the demo, without the race detector: several nodes at a time are
// enough for a machine.
var program string

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "story-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "demo")
	build := exec.Command("go", "build", "-o", program, "./cmd/demo")
	build.Dir = filepath.Join("..", "..") // its module
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return dbtest.Run(m)
}

// demo is the running demo with its nodes.
type demo struct {
	cmd   *exec.Cmd
	temp  string
	nodes []*node
	// connections are those to all nodes.
	connections *http.Transport

	mu    sync.Mutex
	lines []string      // what it has printed
	ended chan struct{} // closed when it has printed all
}

// node is a node of the demo. It keeps its address when it is started again.
type node struct {
	name, url string

	mu  sync.Mutex
	pid int
}

var (
	welcomeLine = regexp.MustCompile(`^  (node \d)   (http://127\.0\.0\.1:\d+)/   process (\d+)$`)
	returnLine  = regexp.MustCompile(`  (node \d)  is there, process (\d+)$`)
)

// startDemo starts the demo on a kind of store; setting is for its environment.
func startDemo(t *testing.T, store, setting string) *demo {
	t.Helper()
	d := &demo{temp: dbtest.Folder(t), ended: make(chan struct{}), connections: &http.Transport{MaxIdleConnsPerHost: 16}}
	d.cmd = exec.Command(program, "-store", store)
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.temp, setting)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stdout, d.cmd.Stderr = in, in
	if err := errors.Join(d.cmd.Start(), in.Close()); err != nil {
		t.Fatal(err)
	}
	go d.read(out)
	t.Cleanup(func() { // if the test has ended before its time
		_ = d.cmd.Process.Kill()
		<-d.ended
		d.connections.CloseIdleConnections()
		if t.Failed() {
			d.mu.Lock()
			defer d.mu.Unlock()
			t.Logf("the demo printed:\n%s", strings.Join(d.lines[max(0, len(d.lines)-200):], "\n"))
		}
	})
	d.line(t, "Ctrl-C stops everything.")
	if len(d.nodes) < 3 {
		t.Fatalf("%d nodes", len(d.nodes))
	}
	return d
}

func (d *demo) read(out *os.File) {
	defer close(d.ended)
	defer out.Close()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		d.mu.Lock()
		line := lines.Text()
		d.lines = append(d.lines, line)
		if m := welcomeLine.FindStringSubmatch(line); m != nil {
			d.nodes = append(d.nodes, &node{name: m[1], url: m[2]})
			d.nodes[len(d.nodes)-1].becomes(m[3])
		}
		if m := returnLine.FindStringSubmatch(line); m != nil {
			for _, n := range d.nodes {
				if n.name == m[1] {
					n.becomes(m[2])
				}
			}
		}
		d.mu.Unlock()
	}
}

// line waits for a line that contains text.
func (d *demo) line(t *testing.T, text string) (found string) {
	t.Helper()
	dbtest.Eventually(t, fmt.Sprintf("%q", text), func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, line := range d.lines {
			if strings.Contains(line, text) {
				found = line
			}
		}
		select {
		case <-d.ended:
			if found == "" {
				t.Errorf("the demo ended without saying %q", text)
			}
			return true
		default:
			return found != ""
		}
	})
	return found
}

// stop ends the demo in good order. Nothing of it is left, and nothing that it or
// the server has printed holds a session ID.
func (d *demo) stop(t *testing.T, u *users, serverLog string) {
	t.Helper()
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(dbtest.Patience, func() { _ = d.cmd.Process.Kill() })
	defer limit.Stop()
	<-d.ended
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("the demo: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(d.temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	logs := strings.Join(d.lines, "\n") + serverLog
	for _, id := range u.secrets() {
		if strings.Contains(logs, id) {
			t.Error("a session ID is in a log")
		}
	}
}

// kill ends the process of a node at once.
func (d *demo) kill(t *testing.T, n *node) {
	t.Helper()
	p, err := os.FindProcess(n.process())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	d.line(t, n.name+"  ended (signal: killed)")
}

// awaitReturn waits until a node that was killed answers again.
func (d *demo) awaitReturn(t *testing.T, n *node) {
	t.Helper()
	dbtest.Eventually(t, n.name+" is back", func() bool {
		_, err := n.stats()
		return err == nil
	})
}

// leader is the node that says that it leads, or nil.
func (d *demo) leader() *node {
	for _, n := range d.nodes {
		if st, err := n.stats(); err == nil && st.Stats.Leading {
			return n
		}
	}
	return nil
}

func (n *node) becomes(pid string) {
	number, err := strconv.Atoi(pid)
	if err != nil {
		return // the pattern has digits only
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pid = number
}

func (n *node) process() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pid
}

// stats is what a node says of itself.
type stats struct{ Stats session.Stats }

func (n *node) stats() (st stats, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(n.url + "/stats")
	if err != nil {
		return st, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	return st, err
}
