package pgstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/session"
)

// op is one caller's write on its way through a lane.
type op struct {
	key  session.Key    // with the bucket that the row is in
	rec  session.Record // what to write; then what was written
	live bool           // destroy: whether it was live
	next session.Key    // destroy: the session that this one was renewed to
	lost error          // of an earlier answer: it may be written already

	ticket invalidation.Ticket // of the time before it was sent
	ran    moment              // the transaction that wrote it
	// after, if set, is called when the outcome is known, also if the caller has
	// given up before.
	after func(error)

	state opState // guarded by the lane
	err   error
	done  chan struct{} // closed when rec, live, next and err are final
}

type opState int

const (
	opWaiting opState = iota
	opTaken           // it may reach the database from now on
	opSettled
)

// lane writes what arrives for one kind of write in batches: what comes while
// a batch is under way goes into the next one. There is no timer: a lone write
// goes at once. No batch holds two writes to one key.
type lane struct {
	s     *Store
	kind  string
	flush flushFunc

	mu     sync.Mutex
	queue  []*op
	busy   map[session.Key]struct{} // being written
	closed bool
	wake   chan struct{}

	// Writes that have to wait for others do so beside the lane.
	waiting sync.WaitGroup
	slots   chan struct{}
}

// How a flush is to be done.
type flushMode struct {
	parent   bool // through the parent, because a leaf was not there
	patience patience
}

// patience is what a flush does about rows and locks that others hold.
type patience int

const (
	quick   patience = iota // wait a moment, and do not find out why something was not written
	careful                 // do not wait
	patient                 // wait
)

// quickWait is longer than a batch of another node keeps its rows.
const quickWait = 50 * time.Millisecond

// flushFunc writes ops, sorted by key, in one transaction. It either returns
// an error and leaves all of them unsettled, or returns those that it did not
// write and that want more patience, the rest being settled.
type flushFunc func(ctx context.Context, ops []*op, mode flushMode) (held []*op, err error)

const laneSlots = 4 // connections of the caller's pool that wait for others, per lane

func newLane(s *Store, kind string, flush flushFunc, slots int) *lane {
	return &lane{
		s: s, kind: kind, flush: flush,
		busy:  map[session.Key]struct{}{},
		wake:  make(chan struct{}, 1),
		slots: make(chan struct{}, slots),
	}
}

// do hands o over and waits for it. A caller that gives up before o was taken
// is sure that it is not written.
func (l *lane) do(ctx context.Context, o *op) error {
	if err := l.start(o); err != nil {
		return err
	}
	return l.await(ctx, o)
}

func (l *lane) start(ops ...*op) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return session.ErrClosed
	}
	for _, o := range ops {
		o.done = make(chan struct{})
		l.queue = append(l.queue, o)
	}
	l.signal()
	return nil
}

func (l *lane) await(ctx context.Context, o *op) error {
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch o.state {
	case opSettled:
		return o.err
	case opTaken:
		return unknown(wait.Ended(ctx))
	}
	l.settleLocked(o, wait.Ended(ctx)) // take drops it from the queue
	l.signal()
	return o.err
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// overtake settles what waits for keys that have just been ended.
func (l *lane) overtake(ended map[session.Key]struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.queue {
		if _, ok := ended[o.key]; ok && o.state == opWaiting {
			l.settleLocked(o, session.ErrNotFound)
		}
	}
}

func (l *lane) settle(o *op, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settleLocked(o, err)
}

func (l *lane) settleLocked(o *op, err error) {
	if o.state == opSettled {
		return
	}
	o.state, o.err = opSettled, err
	if o.after != nil {
		o.after(err)
	}
	close(o.done)
}

// close stops the lane from taking more; run returns when all is written.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.signal()
}

// run writes until the lane is closed and empty. When ctx ends, writes fail.
func (l *lane) run(ctx context.Context) {
	defer l.waiting.Wait()
	for {
		ops, more := l.take()
		if len(ops) == 0 {
			if !more {
				return
			}
			<-l.wake
			continue
		}
		l.write(ctx, ops)
		// Those who got their answer may have more to write: let them queue first.
		runtime.Gosched()
	}
}

// take returns the next batch. more is false once nothing will come anymore.
func (l *lane) take() (ops []*op, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes, full := 0, false
	rest := l.queue[:0]
	for _, o := range l.queue {
		if o.state == opSettled {
			continue
		}
		size := len(o.rec.Data) + 200
		_, busy := l.busy[o.key]
		// Nothing overtakes what has no room: it might have the same key.
		full = full || len(ops) == l.s.opts.BatchItems || len(ops) > 0 && bytes+size > l.s.opts.BatchBytes
		if busy || full {
			rest = append(rest, o)
			continue
		}
		o.state = opTaken
		l.busy[o.key] = struct{}{}
		ops = append(ops, o)
		bytes += size
	}
	clear(l.queue[len(rest):])
	l.queue = rest
	slices.SortFunc(ops, func(a, b *op) int { return a.key.Compare(b.key) })
	return ops, !l.closed || len(l.queue) > 0 || len(l.busy) > 0
}

func (l *lane) release(ops []*op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range ops {
		delete(l.busy, o.key)
	}
	l.signal()
}

// write settles ops, at the latest when the write timeout is over. What was not
// written at once is looked into, and waited for, beside the lane.
func (l *lane) write(ctx context.Context, ops []*op) {
	call, cancel := l.s.within(ctx, l.kind)
	held := l.attempt(call, ops, flushMode{})
	l.release(without(ops, held))
	if len(held) == 0 {
		cancel()
		return
	}
	l.waiting.Go(func() {
		defer cancel()
		rest := l.attempt(call, held, flushMode{patience: careful})
		l.release(without(held, rest))
		l.wait(call, rest)
	})
}

func without(ops, held []*op) []*op {
	if len(held) == 0 {
		return ops
	}
	return slices.DeleteFunc(slices.Clone(ops), func(o *op) bool { return slices.Contains(held, o) })
}

// wait settles what others hold. Those that cannot be had together within a
// lock timeout are waited for apart, and a slot is given up in between; who has
// no slot looks again and again. So the longest lock holds up nobody who waits
// for another one.
func (l *lane) wait(ctx context.Context, ops []*op) {
	for try := 1; len(ops) > 0; try++ {
		var held []*op
		queued := false
		select {
		case l.slots <- struct{}{}:
			held = l.attempt(ctx, ops, flushMode{patience: patient})
			<-l.slots
			queued = true
		case <-time.After(backoff(try)):
			held = l.attempt(ctx, ops, flushMode{patience: careful})
		case <-ctx.Done():
			l.fail(ctx, ops, errors.New("others hold the row or lock"))
		}
		l.release(without(ops, held))
		if ops = held; queued && len(ops) > 1 {
			var other sync.WaitGroup
			first := ops[:len(ops)/2]
			other.Go(func() { l.wait(ctx, first) })
			l.wait(ctx, ops[len(ops)/2:])
			other.Wait()
			return
		}
	}
}

// attempt flushes until every op is settled or held by others.
func (l *lane) attempt(ctx context.Context, ops []*op, mode flushMode) (held []*op) {
	for try := 1; ; try++ {
		held, err := l.flush(ctx, ops, mode)
		if err == nil {
			return held
		}
		// What a lost answer left open is worth asking for until time is up.
		again := slices.ContainsFunc(ops, func(o *op) bool { return o.lost != nil })
		switch fateOf(err) {
		case fateOpen:
			for _, o := range ops {
				o.lost = err
			}
			l.s.cache.Disown() // it may still be committed
			again = true
		case fateConflict:
			again = true
		case fateLeaf:
			again, mode.parent = again || !mode.parent, true
			l.s.refreshSoon()
		case fateNoLeaf:
			l.s.refreshSoon()
			if mode.parent && len(ops) > 1 { // the others have their leaf
				return l.halves(ctx, ops, mode)
			}
			if mode.parent {
				err = fmt.Errorf("%w: %w", session.ErrNoPartition, err)
			}
			again, mode.parent = again || !mode.parent, true
		case fateLocked:
			if mode.patience == quick {
				mode.patience = careful
				continue
			}
			if mayWait(ctx) {
				l.s.stats.retries.Add(1)
				return ops
			}
			<-ctx.Done()
		case fateItem:
			if len(ops) > 1 {
				return l.halves(ctx, ops, mode)
			}
			again = false
		}
		if again && pause(ctx, try) {
			l.s.stats.retries.Add(1)
			continue
		}
		l.fail(ctx, ops, err)
		return nil
	}
}

// halves flushes ops in two parts, so that what is wrong with one of them
// does not fail all.
func (l *lane) halves(ctx context.Context, ops []*op, mode flushMode) (held []*op) {
	half := len(ops) / 2
	held = l.attempt(ctx, ops[:half], mode)
	return append(held, l.attempt(ctx, ops[half:], mode)...)
}

// fail settles ops with err, and with the reason why ctx ended if it did.
func (l *lane) fail(ctx context.Context, ops []*op, err error) {
	for _, o := range ops {
		if o.lost != nil {
			l.settle(o, l.s.outcomeOpen(ctx, o.lost, err))
			continue
		}
		l.settle(o, because(ctx, err))
	}
}
