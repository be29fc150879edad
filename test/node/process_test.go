package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/nodejs"
)

// patience is for one answer of Node, on a machine that is busy with others.
const patience = 5 * time.Minute

// native are the modules that have to be compiled.
var native = []string{"better-sqlite3", "sqlite3"}

var installation = sync.OnceValues(func() (installed, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	node, err := nodejs.Find(ctx)
	if err != nil {
		return installed{}, err
	}
	packages, err := node.Packages(ctx, ".", native)
	return installed{node.Node, packages}, err
})

type installed struct {
	program  string
	packages nodejs.Packages
}

// needNode returns Node with the packages. Where there is no Node the test is
// skipped, unless this is CI.
func needNode(t testing.TB) installed {
	t.Helper()
	node, err := installation()
	if errors.Is(err, nodejs.ErrNotInstalled) {
		missing(t, fmt.Errorf("%w; run: %s", err, nodejs.InstallHint()))
	}
	if err != nil {
		t.Fatal(err)
	}
	return node
}

// needNative does the same where native modules cannot be compiled.
func needNative(t testing.TB) {
	t.Helper()
	if err := needNode(t).packages.Native; err != nil {
		missing(t, err)
	}
}

func missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	t.Fatal(err)
}

// hub is the one Node process of this test binary, which runs hub.js: a process
// for each test would spend most of its time loading the packages. It may be used
// from several goroutines.
type hub struct {
	port  int
	cmd   *exec.Cmd
	ended chan struct{} // closed when there are no more answers

	mu      sync.Mutex
	input   io.WriteCloser
	printed bytes.Buffer // to stderr
	asked   int
	waiting map[int]chan reply
}

type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
}

// useHub returns the process, which the first test starts.
func useHub(t testing.TB) *hub {
	t.Helper()
	node := needNode(t)
	h, err := dbtest.Shared(t, "Node", func() (*hub, error) { return startHub(node) })
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func startHub(node installed) (*hub, error) {
	h := &hub{cmd: exec.Command(node.program, "hub.js"), ended: make(chan struct{}), waiting: map[int]chan reply{}}
	h.cmd.Env = append(os.Environ(), "NODE_PATH="+node.packages.Dir)
	h.cmd.Stderr = (*stderr)(h)
	var err error
	if h.input, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	defer h.killLater().Stop()
	answers := json.NewDecoder(output)
	var ready struct{ Port int }
	if err := answers.Decode(&ready); err != nil {
		close(h.ended)
		return nil, errors.Join(fmt.Errorf("hub.js did not start: %w", err), h.Close())
	}
	h.port = ready.Port
	go h.read(answers)
	return h, nil
}

// stderr is what the process prints beside its answers.
type stderr hub

func (s *stderr) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.printed.Write(p)
}

func (h *hub) killLater() *time.Timer {
	return time.AfterFunc(patience, func() { _ = h.cmd.Process.Kill() })
}

// Close ends the process.
func (h *hub) Close() error {
	_ = h.input.Close()
	defer h.killLater().Stop()
	<-h.ended // Wait closes what is read from
	if err := h.cmd.Wait(); err != nil {
		return fmt.Errorf("hub.js: %w\n%s", err, h.printed.Bytes())
	}
	return nil
}

func (h *hub) read(answers *json.Decoder) {
	defer close(h.ended)
	for {
		var r reply
		if err := answers.Decode(&r); err != nil {
			return
		}
		h.mu.Lock()
		to := h.waiting[r.ID]
		delete(h.waiting, r.ID)
		h.mu.Unlock()
		to <- r
	}
}

// call calls a method of what has the number, 0 for the hub's own.
func (h *hub) call(on int, method string, args ...any) (json.RawMessage, error) {
	if args == nil {
		args = []any{}
	}
	answer := make(chan reply, 1)
	if err := h.ask(on, method, args, answer); err != nil {
		return nil, err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case r := <-answer:
		if r.Error != "" {
			return nil, errors.New(r.Error)
		}
		return r.Result, nil
	case <-h.ended:
		return nil, errors.New("Node ended")
	case <-timer.C:
		return nil, errors.New("no answer from Node")
	}
}

func (h *hub) ask(on int, method string, args []any, answer chan reply) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	line, err := json.Marshal(map[string]any{"id": h.asked, "on": on, "method": method, "args": args})
	if err != nil {
		return err
	}
	h.waiting[h.asked] = answer
	_, err = h.input.Write(append(line, '\n'))
	return err
}

// open has a method of the hub open something, which is closed with the test.
func (h *hub) open(t testing.TB, method string, config any) (number int, methods []string) {
	t.Helper()
	result, err := h.call(0, method, config)
	if err != nil {
		t.Fatalf("Node cannot open %s %v: %v", method, config, err)
	}
	var opened struct {
		Number  int
		Methods []string
	}
	decode(t, result, &opened)
	t.Cleanup(func() {
		if _, err := h.call(0, "close", opened.Number); err != nil {
			t.Errorf("Node cannot close %s %v: %v", method, config, err)
		}
		if t.Failed() {
			h.mu.Lock()
			defer h.mu.Unlock()
			t.Logf("Node has printed:\n%s", h.printed.Bytes())
		}
	})
	return opened.Number, opened.Methods
}
