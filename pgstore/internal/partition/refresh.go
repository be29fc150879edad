package partition

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// One goroutine reads the facts, for all callers that wait for them. A caller
// gets a read that began after its call, so what that does not show cannot have
// been there before.

// reading is one read of the facts.
type reading struct {
	done  chan struct{}
	facts *Facts
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

// Refresh returns facts that were read after it was called.
func (t *Table) Refresh(ctx context.Context) (*Facts, error) {
	r, err := t.readings.ask()
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

// RefreshSoon asks for fresh facts without waiting for them.
func (t *Table) RefreshSoon() {
	select {
	case t.readings.stale <- struct{}{}:
	default:
	}
}

const (
	refreshEvery = time.Minute
	stalePause   = time.Second

	// AskedPause is between two reads that callers wait for. It is needed, because
	// anyone can have the facts read by sending IDs that do not exist.
	AskedPause = 100 * time.Millisecond
)

// Run reads the facts now and then, and when they are asked for, until ctx ends.
func (t *Table) Run(ctx context.Context) {
	defer t.readings.end()
	began, next := time.Now(), refreshEvery
	for {
		timer := time.NewTimer(next - time.Since(began))
		select {
		case <-ctx.Done():
		case <-t.readings.asked:
			wait.Sleep(ctx, AskedPause-time.Since(began))
		case <-t.readings.stale:
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
		t.readFor(ctx, t.readings.begin())
	}
}

// readFor reads the facts for the callers that wait for r, if there are any.
func (t *Table) readFor(ctx context.Context, r *reading) {
	f, err := t.ask(ctx)
	if err != nil {
		err = fmt.Errorf("read the partitions: %w", wait.Because(ctx, err))
	} else {
		t.Known.Store(f)
	}
	switch {
	case r != nil:
		r.facts, r.err = f, err
		close(r.done)
	case err != nil && ctx.Err() == nil:
		t.opts.Failed("refresh", err)
	}
}

func (t *Table) ask(ctx context.Context) (f *Facts, err error) {
	err = t.opts.Road.Ask(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		f, err = t.read(ctx, conn)
		return err
	})
	return f, err
}

// Compare has the facts read anew if told, a time that the database's clock has
// shown, is not what this node expected. This node's idea of that clock was
// before when it asked.
func (t *Table) Compare(before, told time.Time) {
	if told.Before(before.Add(-storekit.ClockError)) || told.After(t.Now().Add(storekit.ClockError)) {
		t.RefreshSoon()
	}
}
