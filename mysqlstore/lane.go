package mysqlstore

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// op is one caller's write on its way through a lane.
type op struct {
	key  session.Key
	rec  session.Record // what to write
	made session.Record // what was written
	live bool           // destroy: whether it was live
	lost error          // of an attempt whose outcome is open: it may be written already
	kept error          // of an attempt that waited for the row in vain

	// What the batch made of it. If it is neither written nor refused, others
	// hold the row, or it is in doubt: it wants a transaction of its own.
	written bool
	refusal error

	state opState // guarded by the lane
	err   error
	done  chan struct{} // closed when err and what was written are final
}

type opState int

const (
	opWaiting opState = iota
	opTaken           // it may reach the database from now on
	opSettled
)

// manner is how a kind of write is done.
type manner struct {
	name string
	// lone writes o by one statement and reports whether it did. If not, nothing
	// was written, and the others find out why.
	lone func(t *tx, o *op) (bool, error)
	// batch writes ops, sorted by key, in a transaction, and sets written or
	// refusal of those that it has settled.
	batch func(t *tx, ops []*op) error
	// apart writes o in a transaction, and waits for the row.
	apart func(t *tx, o *op) error
}

// lane writes what arrives for one kind of write in batches: what comes while
// a batch is under way goes into the next one. There is no timer: a lone write
// goes at once. No batch holds two writes to one key.
type lane struct {
	s *Store
	manner

	mu     sync.Mutex
	queue  []*op
	busy   map[[32]byte]struct{} // being written
	closed bool
	wake   chan struct{}

	flights chan struct{} // batches under way; all but one are overdue
	waiting sync.WaitGroup
}

// overdue is longer than a batch takes unless others are in its way. The next
// one then does not wait for it any longer.
const overdue = 50 * time.Millisecond

func newLane(s *Store, m manner, flights int) *lane {
	return &lane{s: s, manner: m, busy: map[[32]byte]struct{}{}, wake: make(chan struct{}, 1), flights: make(chan struct{}, flights)}
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

// overtake settles what waits for a key that has just been ended.
func (l *lane) overtake(ended [32]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.queue {
		if o.key.Hash == ended && o.state == opWaiting {
			l.settleLocked(o, session.ErrNotFound)
		}
	}
}

func (l *lane) settle(o *op, err error) {
	l.s.refused(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settleLocked(o, err)
}

func (l *lane) settleLocked(o *op, err error) {
	if o.state != opSettled {
		o.state, o.err = opSettled, err
		close(o.done)
	}
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
	late := time.NewTimer(overdue)
	defer late.Stop()
	for {
		l.flights <- struct{}{}
		ops, more := l.take()
		if len(ops) == 0 {
			<-l.flights
			if !more {
				return
			}
			<-l.wake
			continue
		}
		landed := make(chan struct{})
		l.waiting.Go(func() {
			defer func() { close(landed); <-l.flights }()
			l.write(ctx, ops)
		})
		late.Reset(overdue)
		select {
		case <-landed:
		case <-late.C:
		}
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
		size := o.size()
		_, busy := l.busy[o.key.Hash]
		// Nothing overtakes what has no room: it might have the same key.
		full = full || len(ops) == l.s.opts.BatchItems || len(ops) > 0 && bytes+size > l.s.opts.BatchBytes
		if busy || full {
			rest = append(rest, o)
			continue
		}
		o.state = opTaken
		l.busy[o.key.Hash] = struct{}{}
		ops = append(ops, o)
		bytes += size
	}
	clear(l.queue[len(rest):])
	l.queue = rest
	slices.SortFunc(ops, func(a, b *op) int { return compareHashes(a.key.Hash, b.key.Hash) })
	return ops, !l.closed || len(l.queue) > 0 || len(l.busy) > 0
}

// size is more than o adds to a statement.
func (o *op) size() int { return len(o.rec.Data) + len(o.rec.User) + perItem }

const perItem = 512

func (l *lane) release(ops ...*op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range ops {
		delete(l.busy, o.key.Hash)
	}
	l.signal()
}

// write settles ops, at the latest when the write timeout is over. What others
// hold is waited for beside the lane.
func (l *lane) write(ctx context.Context, ops []*op) {
	ctx, cancel := l.s.within(ctx, l.name)
	if len(ops) == 1 && l.alone(ctx, ops[0]) {
		cancel()
		return
	}
	held := l.together(ctx, ops)
	if len(held) == 0 {
		cancel()
		return
	}
	var rest sync.WaitGroup
	for _, o := range held {
		rest.Go(func() { l.separate(ctx, o) })
	}
	l.waiting.Go(func() { rest.Wait(); cancel() })
}

// alone writes o by one statement, and reports whether that settled it.
func (l *lane) alone(ctx context.Context, o *op) bool {
	done := false
	err := l.s.writes.do(ctx, func(c *conn) (err error) {
		done, err = l.lone(&tx{conn: c, s: l.s, ctx: ctx}, o)
		return err
	})
	if err != nil {
		l.s.stats.retries.Add(1)
		switch fateOf(err) {
		case fateOpen:
			o.lost = err
		case fateLocked:
			o.kept = err
		}
		return false
	}
	if !done {
		return false
	}
	l.s.stats.flushes.Add(1)
	l.release(o)
	l.settle(o, nil)
	return true
}

// together writes ops in one transaction, or in halves if one of them is to
// blame. It returns those that want one of their own.
func (l *lane) together(ctx context.Context, ops []*op) (held []*op) {
	began := time.Now()
	for try := 1; ; try++ {
		for _, o := range ops {
			o.written, o.refusal = false, nil
		}
		err := l.s.writes.do(ctx, func(c *conn) error {
			return c.transaction(ctx, func() error { return l.batch(&tx{conn: c, s: l.s, ctx: ctx}, ops) })
		})
		if err == nil {
			l.s.stats.flushes.Add(1)
			return l.landed(ops)
		}
		again := slices.ContainsFunc(ops, func(o *op) bool { return o.lost != nil })
		switch fateOf(err) {
		case fateOpen:
			for _, o := range ops {
				o.lost = err
			}
			again = true
		case fateConflict, fateBusy:
			again = true
		case fateCut:
			again = again || try < askAgain
		case fateReadOnly:
			again = again || time.Since(began) < retryReadOnly
		case fateLocked:
			return ops
		case fateItem:
			if len(ops) == 1 {
				return ops
			}
			half := len(ops) / 2
			return append(l.together(ctx, ops[:half]), l.together(ctx, ops[half:])...)
		}
		if again && pause(ctx, try) {
			l.s.stats.retries.Add(1)
			continue
		}
		l.fail(ctx, ops, err)
		return nil
	}
}

// landed settles what a batch has written or refused.
func (l *lane) landed(ops []*op) (held []*op) {
	for _, o := range ops {
		if !o.written && o.refusal == nil {
			held = append(held, o)
			continue
		}
		l.release(o)
		l.settle(o, o.refusal)
	}
	return held
}

func (l *lane) fail(ctx context.Context, ops []*op, err error) {
	for _, o := range ops {
		l.release(o)
		switch {
		case o.lost == nil:
			l.settle(o, because(ctx, err))
		case errors.Is(err, o.lost):
			l.settle(o, l.s.counted(unknown(because(ctx, err))))
		default:
			l.settle(o, l.s.counted(unknown(because(ctx, errors.Join(err, o.lost)))))
		}
	}
}

// separate writes o in a transaction of its own, for which it waits.
func (l *lane) separate(ctx context.Context, o *op) {
	if o.kept != nil && o.lost == nil && !mayWait(ctx) {
		l.release(o)
		l.settle(o, because(ctx, o.kept))
		return
	}
	err := l.s.settle(ctx, o.lost, func(lost error) error {
		return l.s.waits.do(ctx, func(c *conn) error {
			err := c.transaction(ctx, func() error {
				return l.apart(&tx{conn: c, s: l.s, ctx: ctx, lost: lost}, o)
			})
			return err
		})
	})
	l.release(o)
	l.settle(o, err)
}
