package pgstore

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sojourn-go/sojourn/session"
)

// op is one caller's write on its way through a lane.
type op struct {
	key  session.Key    // with the bucket that the row is in
	rec  session.Record // what to write; then what was written
	live bool           // destroy: whether it was live
	next session.Key    // destroy: the session that this one was renewed to

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
	parent bool // through the parent, because a leaf was not there
	wait   bool // wait for rows and locks that others hold
	lost   bool // an earlier answer was lost: the batch may be in already
}

// flushFunc writes ops, sorted by key, in one transaction. It either returns
// an error and leaves all of them unsettled, or returns those that it did not
// write because others hold their rows or locks, the rest being settled.
type flushFunc func(ctx context.Context, ops []*op, mode flushMode) (held []*op, err error)

const laneSlots = 4 // batches that wait for others, per lane

func newLane(s *Store, kind string, flush flushFunc) *lane {
	return &lane{
		s: s, kind: kind, flush: flush,
		busy:  map[session.Key]struct{}{},
		wake:  make(chan struct{}, 1),
		slots: make(chan struct{}, laneSlots),
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
		return unknown(context.Cause(ctx))
	}
	o.state, o.err = opSettled, context.Cause(ctx) // take drops it from the queue
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
	}
}

// take returns the next batch. more is false once nothing will come anymore.
func (l *lane) take() (ops []*op, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes := 0
	rest := l.queue[:0]
	for _, o := range l.queue {
		if o.state == opSettled {
			continue
		}
		size := len(o.rec.Data) + 200
		_, busy := l.busy[o.key]
		full := len(ops) == l.s.opts.BatchItems || len(ops) > 0 && bytes+size > l.s.opts.BatchBytes
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

// write settles ops, at the latest when the write timeout is over. What others
// hold is waited for beside the lane.
func (l *lane) write(ctx context.Context, ops []*op) {
	call, cancel := context.WithTimeoutCause(ctx, l.s.opts.WriteTimeout,
		fmt.Errorf("%s took longer than Options.WriteTimeout, %v: %w", l.kind, l.s.opts.WriteTimeout, context.DeadlineExceeded))
	held := l.attempt(call, ops, flushMode{})
	if len(held) == 0 {
		cancel()
		l.release(ops)
		return
	}
	l.release(slices.DeleteFunc(slices.Clone(ops), func(o *op) bool { return slices.Contains(held, o) }))
	l.waiting.Go(func() {
		defer cancel()
		defer l.release(held)
		select {
		case l.slots <- struct{}{}:
			l.attempt(call, held, flushMode{wait: true})
			<-l.slots
		case <-call.Done():
			for _, o := range held {
				l.settle(o, context.Cause(call))
			}
		}
	})
}

// attempt flushes until every op is settled or held by others.
func (l *lane) attempt(ctx context.Context, ops []*op, mode flushMode) (held []*op) {
	for try := 1; ; try++ {
		held, err := l.flush(ctx, ops, mode)
		if err == nil {
			return held
		}
		again := false
		switch fateOf(err) {
		case fateOpen:
			mode.lost, again = true, true
		case fateConflict:
			again = true
		case fateLeaf:
			again, mode.parent = !mode.parent, true
			l.s.refreshSoon()
		case fateNoLeaf:
			l.s.refreshSoon()
			if mode.parent {
				err = fmt.Errorf("%w: %w", session.ErrNoPartition, err)
			}
			again, mode.parent = !mode.parent, true
		case fateLocked:
			again = true
			fallthrough
		case fateItem:
			if len(ops) > 1 {
				half := len(ops) / 2
				held := l.attempt(ctx, ops[:half], mode)
				return append(held, l.attempt(ctx, ops[half:], mode)...)
			}
		}
		// What a lost answer left open is worth asking for until time is up.
		if (again || mode.lost) && pause(ctx, try) {
			l.s.stats.retries.Add(1)
			continue
		}
		if mode.lost {
			l.s.stats.unknown.Add(uint64(len(ops)))
			err = unknown(err)
		}
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		for _, o := range ops {
			l.settle(o, err)
		}
		return nil
	}
}
