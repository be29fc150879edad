// Package handover passes writes from their callers to a writer that does them
// in batches, and says what has become of one whose caller could not wait: not
// written, if the writer had not taken it, and otherwise unknown.
//
// There is no timer. What comes while a batch is under way goes into the next
// one, and a lone write goes at once.
package handover

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Op is the part of a write that its queue needs. A store embeds it in a struct
// that says what to write and takes the results. From Start on that struct is
// the writer's, until Await has told its outcome. After session.ErrUnknown it
// stays the writer's.
type Op struct {
	// After, if set, is called once for a write that was given to Start, when the
	// outcome is known, also if the caller has given up before. It must not use
	// the queue.
	After func(error)

	state state // guarded by the queue
	err   error
	done  chan struct{} // closed when err is final
}

type state int

const (
	waiting state = iota
	taken         // it may reach the database from now on
	settled
)

func (o *Op) handed() *Op { return o }

func (o *Op) settle(err error) {
	if o.state == settled {
		return
	}
	o.state, o.err = settled, err
	if o.After != nil {
		o.After(err)
	}
	close(o.done)
}

// Write is a pointer to a struct that embeds Op.
type Write interface{ handed() *Op }

// Rules are those of a queue's batches.
type Rules[K comparable, W Write] struct {
	// Items and Bytes are the most that a batch has. One write may have more
	// bytes.
	Items, Bytes int
	Size         func(W) int // in bytes, about
	// Key, if set, keeps writes with one key apart: one is taken at a time, and
	// the next one not before its Release.
	Key func(W) K
}

// Queue holds what waits for the writer. The writer calls Take and Wait from
// one goroutine; all else may be called concurrently.
type Queue[K comparable, W Write] struct {
	rules Rules[K, W]

	mu     sync.Mutex
	writes []W            // some may be settled
	busy   map[K]struct{} // taken and not released
	closed bool
	wake   chan struct{} // holds one
}

// New returns an empty queue.
func New[K comparable, W Write](rules Rules[K, W]) *Queue[K, W] {
	return &Queue[K, W]{rules: rules, busy: map[K]struct{}{}, wake: make(chan struct{}, 1)}
}

// Do is Start and Await.
func (q *Queue[K, W]) Do(ctx context.Context, w W) error {
	if err := q.Start(w); err != nil {
		return err
	}
	return q.Await(ctx, w)
}

// Start hands writes over. After Close it settles them with session.ErrClosed,
// which it returns, and takes none of them.
func (q *Queue[K, W]) Start(writes ...W) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range writes {
		w.handed().done = make(chan struct{})
	}
	if q.closed {
		for _, w := range writes {
			w.handed().settle(session.ErrClosed)
		}
		return session.ErrClosed
	}
	q.writes = append(q.writes, writes...)
	q.signal()
	return nil
}

// Await returns what w was settled with. When ctx ends before that, w is settled
// with the reason if it was not taken yet: it is not written. If it was, Await
// returns session.ErrUnknown and the reason.
func (q *Queue[K, W]) Await(ctx context.Context, w W) error {
	o := w.handed()
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if o.state == taken {
		return fmt.Errorf("%w: %w", session.ErrUnknown, wait.Ended(ctx))
	}
	o.settle(wait.Ended(ctx))
	q.signal() // for Take to drop it
	return o.err
}

// Settle tells w's caller the outcome. What was settled before stays as it is.
func (q *Queue[K, W]) Settle(w W, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.handed().settle(err)
}

// SettleWaiting settles those of the writes that were not taken yet.
func (q *Queue[K, W]) SettleWaiting(err error, those func(W) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.writes {
		if o := w.handed(); o.state == waiting && those(w) {
			o.settle(err)
		}
	}
}

// Close has Start refuse. What waits is still to be written.
func (q *Queue[K, W]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

// Take returns the next batch, in the order of arrival; it is empty if nothing
// may be written now.
func (q *Queue[K, W]) Take() (batch []W) {
	q.mu.Lock()
	defer q.mu.Unlock()
	bytes, full := 0, false
	rest := q.writes[:0]
	for _, w := range q.writes {
		o := w.handed()
		if o.state == settled {
			continue
		}
		size := q.rules.Size(w)
		// Nothing overtakes what has no room: it might have the same key.
		full = full || len(batch) == q.rules.Items || len(batch) > 0 && bytes+size > q.rules.Bytes
		if full || !q.begin(w) {
			rest = append(rest, w)
			continue
		}
		o.state = taken
		batch = append(batch, w)
		bytes += size
	}
	clear(q.writes[len(rest):])
	q.writes = rest
	return batch
}

// begin reports false if w's key is busy, and makes it so if not.
func (q *Queue[K, W]) begin(w W) bool {
	if q.rules.Key == nil {
		return true
	}
	key := q.rules.Key(w)
	if _, busy := q.busy[key]; busy {
		return false
	}
	q.busy[key] = struct{}{}
	return true
}

// Release lets writes be taken that have the keys of these.
func (q *Queue[K, W]) Release(writes ...W) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range writes {
		delete(q.busy, q.rules.Key(w))
	}
	q.signal()
}

// Wait waits until there may be something to take. It reports false once
// nothing will come anymore: the queue is closed and empty, and no key is busy.
func (q *Queue[K, W]) Wait() bool {
	q.mu.Lock()
	q.tidy()
	more := !q.closed || len(q.writes) > 0 || len(q.busy) > 0
	q.mu.Unlock()
	if more {
		<-q.wake
	}
	return more
}

func (q *Queue[K, W]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Len is how many writes wait to be taken, and how many keys are busy.
func (q *Queue[K, W]) Len() (waits, busy int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tidy()
	return len(q.writes), len(q.busy)
}

// tidy drops those whose caller has given up.
func (q *Queue[K, W]) tidy() {
	q.writes = slices.DeleteFunc(q.writes, func(w W) bool { return w.handed().state == settled })
}
