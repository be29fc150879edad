package leader_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/leader"
)

var errBroken = errors.New("fake: connection broken")

// advance lets d pass on the clock of the bubble that the caller is in.
func advance(d time.Duration) { <-time.After(d) }

// fakeServer has one lock. A test changes how it behaves with set.
type fakeServer struct {
	mu       sync.Mutex
	holder   *fakeSession
	sessions map[*fakeSession]bool // open ones
	opens    int
	faults   faults
}

type faults struct {
	open         error // of Open
	tryLock      error // of TryLock, which grants the lock all the same
	verify       error // of Verify
	hangTryLock  bool  // until the context ends, and grants the lock
	hangVerify   bool
	alwaysYes    bool // TryLock says yes to everybody and locks nothing
	ignoresClose bool // Close waits for its context
}

func newFakeServer() *fakeServer {
	return &fakeServer{sessions: map[*fakeSession]bool{}}
}

func (s *fakeServer) set(f faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

func (s *fakeServer) faultsNow() faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

func (s *fakeServer) openCount() (opened, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opens, len(s.sessions)
}

// breakHolder breaks the connection that holds the lock, if any does.
func (s *fakeServer) breakHolder() {
	s.mu.Lock()
	holder := s.holder
	s.mu.Unlock()
	if holder != nil {
		holder.end()
	}
}

func (s *fakeServer) Open(ctx context.Context, _ time.Duration) (leader.Session[*fakeSession], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	if s.faults.open != nil {
		return nil, s.faults.open
	}
	session := &fakeSession{server: s, broken: make(chan struct{})}
	s.sessions[session] = true
	return session, nil
}

// fakeSession is its own connection, like an advisory lock bound to it.
type fakeSession struct {
	server *fakeServer
	broken chan struct{}
	once   sync.Once
	cuts   int
}

func (s *fakeSession) end() {
	s.once.Do(func() {
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		if s.server.holder == s {
			s.server.holder = nil
		}
		delete(s.server.sessions, s)
		close(s.broken)
	})
}

// run is a statement that takes as long as until is open.
func (s *fakeSession) run(ctx context.Context, until <-chan struct{}) error {
	select {
	case <-until:
		return nil
	case <-s.broken:
		return errBroken
	case <-ctx.Done():
		s.end() // as pgx does
		return ctx.Err()
	}
}

func (s *fakeSession) TryLock(ctx context.Context) (bool, error) {
	f := s.server.faultsNow()
	if f.hangTryLock || f.tryLock != nil {
		s.take()
	}
	switch {
	case f.hangTryLock:
		<-ctx.Done()
		return false, ctx.Err()
	case f.tryLock != nil:
		return false, f.tryLock
	case f.alwaysYes:
		return true, nil
	}
	select {
	case <-s.broken:
		return false, errBroken
	default:
		return s.take(), nil
	}
}

func (s *fakeSession) take() bool {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.server.holder == s {
		panic("fake: locked twice") // Run must not
	}
	if s.server.holder == nil {
		s.server.holder = s
		return true
	}
	return false
}

func (s *fakeSession) Verify(ctx context.Context) error {
	f := s.server.faultsNow()
	if f.hangVerify {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.verify != nil {
		return f.verify
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.server.holder != s {
		return errors.New("fake: not the holder")
	}
	return nil
}

func (s *fakeSession) Conn() *fakeSession { return s }

func (s *fakeSession) Close(ctx context.Context) error {
	defer s.end()
	if s.server.faultsNow().ignoresClose {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (s *fakeSession) Cut(context.Context) {
	s.server.mu.Lock()
	s.cuts++
	s.server.mu.Unlock()
	s.end()
}

// recorder is an OnChange that keeps what it is told.
type recorder struct {
	mu     sync.Mutex
	states []leader.State
}

func (r *recorder) record(s leader.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states = append(r.states, s)
}

func (r *recorder) last() leader.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.states) == 0 {
		return leader.State{}
	}
	return r.states[len(r.states)-1]
}
