package node

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"
)

// driver is a store of a package in a Node process of its own. It may be used
// from several goroutines.
type driver struct {
	methods []string // what the package offers
	ended   chan struct{}

	mu      sync.Mutex
	input   io.Writer
	asked   int
	waiting map[int]chan reply
}

type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
}

// startDriver opens a store of the kind, which makes its table.
func startDriver(t testing.TB, k kind, db database) *driver {
	t.Helper()
	var ready struct{ Methods []string }
	p := start(t, "driver.js", k.config(db), &ready)
	d := &driver{methods: ready.Methods, ended: make(chan struct{}), input: p.input, waiting: map[int]chan reply{}}
	go d.read(json.NewDecoder(p.output))
	t.Cleanup(func() { p.stop(); <-d.ended })
	return d
}

func (d *driver) read(answers *json.Decoder) {
	defer close(d.ended)
	for {
		var r reply
		if err := answers.Decode(&r); err != nil {
			return
		}
		d.mu.Lock()
		to := d.waiting[r.ID]
		delete(d.waiting, r.ID)
		d.mu.Unlock()
		to <- r
	}
}

// call has the store's method called and returns what it calls back with.
func (d *driver) call(method string, args ...any) (json.RawMessage, error) {
	if args == nil {
		args = []any{}
	}
	answer := make(chan reply, 1)
	if err := d.ask(method, args, answer); err != nil {
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
	case <-d.ended:
		return nil, errors.New("Node ended")
	case <-timer.C:
		return nil, errors.New("no answer from Node")
	}
}

func (d *driver) ask(method string, args []any, answer chan reply) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	line, err := json.Marshal(map[string]any{"id": d.asked, "method": method, "args": args})
	if err != nil {
		return err
	}
	d.waiting[d.asked] = answer
	_, err = d.input.Write(append(line, '\n'))
	return err
}

// must is call for a test whose failure ends it.
func (d *driver) must(t testing.TB, method string, args ...any) json.RawMessage {
	t.Helper()
	result, err := d.call(method, args...)
	if err != nil {
		t.Fatalf("Node's %s: %v", method, err)
	}
	return result
}

func (d *driver) has(method string) bool { return slices.Contains(d.methods, method) }

// get returns the session, nil when the package finds none.
func (d *driver) get(t testing.TB, sid string) json.RawMessage {
	t.Helper()
	got := d.must(t, "get", sid)
	if string(got) == "null" {
		return nil
	}
	return got
}
