package dbtest

import (
	"errors"
	"sync"
	"testing"
)

// shared has what no test of this binary owns: servers, and what Shared starts.
var shared = servers{started: map[string]started{}}

type servers struct {
	mu      sync.Mutex
	running bool // Main is there to stop them
	started map[string]started
}

type started struct {
	server interface{ Close() error }
	err    error // why there is none
}

func (s *servers) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = true
}

// end stops all of them.
func (s *servers) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
	var errs []error
	for _, one := range s.started {
		if one.err == nil {
			errs = append(errs, one.server.Close())
		}
	}
	clear(s.started)
	return errors.Join(errs...)
}

// Shared returns what all tests of this binary share under a name, and the first
// that asks starts. It is closed when all have run, in no order.
func Shared[S interface{ Close() error }](t testing.TB, name string, start func() (S, error)) (server S, err error) {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.running {
		t.Fatal("dbtest: TestMain must call dbtest.Main, which stops the shared servers")
	}
	one, ok := shared.started[name]
	if !ok {
		one.server, one.err = start()
		// Otherwise every later test would wait for the same failure.
		shared.started[name] = one
	}
	if one.err != nil {
		return server, one.err
	}
	return one.server.(S), nil
}
