// Package handover passes writes from their callers to a writer that does them
// in batches. A caller that cannot wait is told what is known of its write: not
// written, if the writer had not taken it, and otherwise unknown.
//
// There is no timer that holds a write back. A write that comes while a batch
// is under way goes into the next one, and a lone write goes at once.
//
// A queue holds no more than Batches batches, those under way included. A write
// that comes when the queue is full waits outside with its data, in order. Only
// one write of each key asks for room at a time: one session that is written a
// thousand times does not fill the queue.
package handover

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Batches is how many batches a queue has room for, in items and in bytes.
const Batches = 16

// Op is the part of a write that its queue needs. A store embeds it in a struct
// that says what to write and takes the results. After Start the caller must
// not touch that struct until Await returns. If Await returns
// session.ErrUnknown, the caller must never touch it again: the writer still
// uses it.
type Op struct {
	// After, if set, is called once for a write that was given to Start, when the
	// outcome is known, also if the caller has given up before. It must not use
	// the queue.
	After func(error)

	size   int64
	urgent bool
	until  time.Time // then its caller is told in any case
	ends   time.Time // then its caller gives up, if that is before

	// Guarded by the queue.
	state state
	place *list.Element // in the list that it waits in
	due   *list.Element // in the list of writes whose callers are to be told
	ready chan struct{} // closed once there is room; nil: there was at once
	leave func()        // called when the caller is told that the outcome is unknown
	err   error
	told  chan struct{} // closed when err is there for the caller
}

type state int

const (
	_        state = iota
	behind         // it waits for a write with its key
	outside        // it waits for room
	admitted       // it has room; its caller hands it over
	waiting        // for the writer
	taken          // it may reach the database from now on
	finished
)

func (o *Op) handed() *Op { return o }

// Write is a pointer to a struct that embeds Op.
type Write interface {
	comparable
	handed() *Op
}

// Rules say how a queue treats writes.
type Rules[K comparable, W Write] struct {
	// Items and Bytes are the most that a batch has. One write may have more
	// bytes.
	Items, Bytes int
	Size         func(W) int // in bytes, about
	// Key, if set, keeps writes with one key apart: one is taken at a time, and
	// the next one not before its Release.
	Key func(W) K
	// Own, if set, copies what the caller may use again as soon as it is told. It
	// is called when there is room for the write, before the writer sees it.
	Own func(W)
	// Urgent, if set, tells which writes have room of their own and are taken
	// first.
	Urgent func(W) bool

	// Patience is Options.WriteTimeout: for how long a write waits, and What it is.
	Patience time.Duration
	What     string
}

// Queue holds what waits for the writer, and counts what it has taken and not
// finished. The writer calls Take and Wait from one goroutine; all else may be
// called concurrently.
type Queue[K comparable, W Write] struct {
	rules Rules[K, W]

	mu       sync.Mutex
	lines    [2]line        // of the urgent ones, and of the others
	keys     map[K]*turn[W] // of writes that are not finished, or not released
	behind   int            // writes that wait for one with their key
	entering int            // writes that are admitted
	busy     int            // keys that are taken and not released
	refusals uint64         // writes for which there was no room in time
	heldUp   error          // why the writer does not go on

	// Writes whose callers are not told yet, in the order in which they are to
	// be told. due has the writes that still have their patience, late those
	// that were taken and have none left.
	due, late list.List
	alarm     *time.Timer // for the first of them
	armed     bool
	rings     time.Time

	closed bool
	wake   chan struct{} // holds one
}

// New returns an empty queue.
func New[K comparable, W Write](rules Rules[K, W]) *Queue[K, W] {
	return &Queue[K, W]{rules: rules, keys: map[K]*turn[W]{}, wake: make(chan struct{}, 1)}
}

// Do is Start and Await.
func (q *Queue[K, W]) Do(ctx context.Context, w W) error {
	_ = q.Start(ctx, w) // Await tells it again
	return q.Await(ctx, w)
}

// Start hands writes over, in order, those together for which there is room.
// For each other write Start waits until there is room, or ctx ends, or
// Rules.Patience is over. In the latter cases it finishes that write and those
// after it with the reason, and returns that. Writes that it finished so are
// not written. After Close the reason is session.ErrClosed.
func (q *Queue[K, W]) Start(ctx context.Context, writes ...W) error {
	for len(writes) > 0 {
		n := q.ask(ctx, writes)
		q.handOver(writes[:n])
		if writes = writes[n:]; len(writes) == 0 {
			return nil
		}
		first := writes[0]
		if err := q.awaitRoom(ctx, first); err != nil {
			q.refuse(writes[1:], err)
			return err
		}
		q.handOver(writes[:1])
		writes = writes[1:]
	}
	return nil
}

func (q *Queue[K, W]) refuse(writes []W, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range writes {
		w.handed().told = make(chan struct{})
		q.finish(w, err)
	}
}

// Await returns what w was finished with. When ctx ends before that and w was
// not taken yet, Await finishes w with the reason: it is not written, and the
// queue lets go of it. If w was taken, Await returns session.ErrUnknown and the
// reason. The end of Rules.Patience counts like the end of ctx, but that a
// write that was taken has a little longer to be told what came of it.
func (q *Queue[K, W]) Await(ctx context.Context, w W) error {
	o := w.handed()
	select {
	case <-o.told:
	case <-ctx.Done():
		q.mu.Lock()
		defer q.mu.Unlock()
		q.giveUp(w, wait.Ended(ctx))
	}
	return o.err
}

// giveUp tells a caller that does not wait any longer what is known.
func (q *Queue[K, W]) giveUp(w W, why error) {
	q.end(w, q.known(w.handed(), why))
}

// known returns what can be said of a write to a caller that does not wait any
// longer.
func (q *Queue[K, W]) known(o *Op, why error) error {
	switch o.state {
	case taken:
		return fmt.Errorf("%w: %w", session.ErrUnknown, why)
	case behind:
		return fmt.Errorf("another write of the session is under way, this %s was not done: %w", q.rules.What, why)
	case outside:
		l := q.line(o)
		return fmt.Errorf("%w, this %s was not done (%d of at most %d writes, %d of at most %d bytes): %w",
			session.ErrOverloaded, q.rules.What, l.items, q.mostItems(), l.bytes, q.mostBytes(), why)
	}
	return why
}

// end answers the caller of w with err. A write that was taken stays the
// writer's.
func (q *Queue[K, W]) end(w W, err error) {
	o := w.handed()
	if errors.Is(err, session.ErrOverloaded) {
		q.refusals++
	}
	if o.state != taken {
		q.finish(w, err)
		return
	}
	o.tell(err)
	if o.leave != nil {
		o.leave()
	}
}

// tell answers the caller, once.
func (o *Op) tell(err error) {
	select {
	case <-o.told:
	default:
		o.err = err
		close(o.told)
	}
}

// hasLeft reports whether nobody waits for what comes of o.
func (o *Op) hasLeft() bool {
	select {
	case <-o.told:
		return o.state == taken
	default:
		return false
	}
}

// Finish tells w's caller the outcome. A write that was finished before stays
// as it is.
func (q *Queue[K, W]) Finish(w W, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finish(w, err)
}

// FinishWaiting finishes what the queue holds and nobody has taken.
func (q *Queue[K, W]) FinishWaiting(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.lines {
		for n := q.lines[i].waiting.Len(); n > 0; n-- {
			q.finish(q.lines[i].waiting.Front().Value.(W), err)
		}
	}
}

// FinishKey finishes the writes with a key that nobody has taken.
func (q *Queue[K, W]) FinishKey(key K, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.keys[key]
	if t == nil {
		return
	}
	for t.behind.Len() > 0 {
		q.finish(t.behind.Front().Value.(W), err)
	}
	if s := t.holder.handed().state; s == waiting || s == outside {
		q.finish(t.holder, err)
	}
}

// Close has Start refuse. Writes that began to wait before are still to be
// written.
func (q *Queue[K, W]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

// Stats tells what the queue holds, and how many writes wait outside.
func (q *Queue[K, W]) Stats() session.QueueStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	st := session.QueueStats{Waiting: q.behind, Refused: q.refusals}
	for i := range q.lines {
		l := &q.lines[i]
		st.Writes += l.items
		st.Bytes += l.bytes
		st.Waiting += l.outside.Len()
	}
	return st
}

// Len is how many writes wait to be taken, or to be let in, and how many keys
// are busy.
func (q *Queue[K, W]) Len() (waits, busy int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	waits = q.behind
	for i := range q.lines {
		waits += q.lines[i].waiting.Len() + q.lines[i].outside.Len()
	}
	return waits, q.busy
}
