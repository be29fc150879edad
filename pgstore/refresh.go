package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// One goroutine reads the facts, for all callers that wait for them. A caller
// gets a read that began after its call, so what that does not show cannot have
// been there before.

// reading is one read of the facts.
type reading struct {
	done  chan struct{}
	facts *facts
	err   error
}

// readings hands out the read that begins next.
type readings struct {
	mu    sync.Mutex
	next  *reading // nil: nobody waits
	ended bool
	asked chan struct{}
	stale chan struct{}
}

func newReadings() *readings {
	return &readings{asked: make(chan struct{}, 1), stale: make(chan struct{}, 1)}
}

func (r *readings) ask() (*reading, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil, session.ErrClosed
	}
	if r.next == nil {
		r.next = &reading{done: make(chan struct{})}
		r.asked <- struct{}{} // it is empty: begin has emptied it
	}
	return r.next, nil
}

// begin returns the read for the callers that have asked so far, or nil.
func (r *readings) begin() *reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.next
	r.next = nil
	select {
	case <-r.asked:
	default:
	}
	return next
}

// end refuses the callers that wait, and all later ones.
func (r *readings) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.next != nil {
		r.next.err = session.ErrClosed
		close(r.next.done)
	}
}

// refresh returns facts that were read after it was called.
func (s *Store) refresh(ctx context.Context) (*facts, error) {
	r, err := s.readings.ask()
	if err != nil {
		return nil, err
	}
	select {
	case <-r.done:
		return r.facts, r.err
	case <-ctx.Done():
		return nil, wait.Ended(ctx)
	}
}

// refreshSoon asks for fresh facts without waiting for them.
func (s *Store) refreshSoon() {
	select {
	case s.readings.stale <- struct{}{}:
	default:
	}
}

const (
	refreshEvery = time.Minute
	// The pause is needed, because anyone can have the facts read by sending
	// IDs that do not exist.
	askedPause = 100 * time.Millisecond
	stalePause = time.Second
)

func (s *Store) refreshLoop(ctx context.Context) {
	defer s.readings.end()
	began, next := time.Now(), refreshEvery
	for {
		timer := time.NewTimer(next - time.Since(began))
		select {
		case <-ctx.Done():
		case <-s.readings.asked:
			wait.Sleep(ctx, askedPause-time.Since(began))
		case <-s.readings.stale:
			next = stalePause
			timer.Stop()
			continue
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		began, next = time.Now(), refreshEvery
		s.readFor(ctx, s.readings.begin())
	}
}

// readFor reads the facts for the callers that wait for r, if there are any.
func (s *Store) readFor(ctx context.Context, r *reading) {
	f, err := s.askFacts(ctx)
	if err != nil {
		err = fmt.Errorf("read the partitions: %w", wait.Because(ctx, err))
	} else {
		s.facts.Store(f)
	}
	switch {
	case r != nil:
		r.facts, r.err = f, err
		close(r.done)
	case err != nil && ctx.Err() == nil:
		s.backgroundError("refresh", err)
	}
}

func (s *Store) askFacts(ctx context.Context) (f *facts, err error) {
	err = s.control.Ask(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		f, err = s.readFacts(ctx, conn, s.facts.Load())
		return err
	})
	return f, err
}

// clockError is by how much a node may be wrong about the database's time
// without anything being amiss: the answer that told it may have been slow.
const clockError = 10 * time.Second

// compare has the facts read anew if told, a time that the database's clock has
// shown, is not what this node expected. This node's idea of that clock was
// before when it asked.
func (s *Store) compare(before, told time.Time) {
	if told.Before(before.Add(-clockError)) || told.After(s.Now().Add(clockError)) {
		s.refreshSoon()
	}
}

// errLags says that this node's clock is wrong. If the right clock counted, the
// write would end the session, which nobody has asked for.
var errLags = fmt.Errorf("%w: Record.Expires has passed, which it had not by this node's clock", session.ErrDeadline)

// correct has the facts read anew if err says that a time was out of range.
// Then a caller that computed the time by this node's clock can do so by the
// right one.
func (s *Store) correct(ctx context.Context, err error) error {
	if errors.Is(err, session.ErrDeadline) {
		_, _ = s.refresh(ctx) // failing that, it is still out of range
	}
	return err
}
