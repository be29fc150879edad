package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// op is one caller's write on its way to the writer.
type op struct {
	do   func(*tx) error // may run several times; leaves its result where the caller finds it
	size int             // in bytes, about
	from time.Time       // when it was queued
	lost error           // of a commit that may have happened: this one may be written already

	state opState // guarded by the writer
	err   error
	done  chan struct{} // closed when err is final
}

type opState int

const (
	opWaiting opState = iota
	opTaken           // it may reach the database from now on
	opSettled
)

// tx is the transaction that a write runs in. It has the write lock, so what it
// reads stays.
type tx struct {
	*conn
	s    *Store
	lost error // of the op
}

// writer writes what arrives in batches, on a connection of its own: what comes
// while a transaction is under way, or waits for the lock, goes into the next
// one. There is no timer: a lone write goes at once.
type writer struct {
	s    *Store
	conn *conn

	mu     sync.Mutex
	queue  []*op
	closed bool
	wake   chan struct{}

	flushes, retries, unknown atomic.Uint64
}

func newWriter(s *Store, c *conn) *writer {
	return &writer{s: s, conn: c, wake: make(chan struct{}, 1)}
}

// do hands o over and waits for it. A caller that gives up before o was taken
// is sure that it is not written.
func (w *writer) do(ctx context.Context, o *op) error {
	o.done, o.from = make(chan struct{}), time.Now()
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return session.ErrClosed
	}
	w.queue = append(w.queue, o)
	w.mu.Unlock()
	w.signal()
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch o.state {
	case opSettled:
		return o.err
	case opTaken:
		return unknown(wait.Ended(ctx))
	}
	w.settleLocked(o, wait.Ended(ctx))
	w.signal()
	return o.err
}

func unknown(cause error) error { return fmt.Errorf("%w: %w", session.ErrUnknown, cause) }

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *writer) settle(o *op, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settleLocked(o, err)
}

func (w *writer) settleLocked(o *op, err error) {
	if o.state != opSettled {
		o.state, o.err = opSettled, err
		close(o.done)
	}
}

// close stops the writer from taking more; run returns when all is written.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
}

// run writes until the writer is closed and its queue empty. When ctx ends, the
// writes that have no lock yet fail.
func (w *writer) run(ctx context.Context) {
	for {
		waiting, closed := w.waiting()
		switch {
		case waiting == 0 && closed:
			return
		case waiting == 0:
			<-w.wake
			continue
		}
		if w.lock(ctx) {
			w.write(ctx, w.take())
		}
		// Those who got their answer may have more to write: let them queue first.
		runtime.Gosched()
	}
}

// waiting drops those from the queue who have given up.
func (w *writer) waiting() (n int, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.queue[:0]
	for _, o := range w.queue {
		if o.state == opWaiting {
			rest = append(rest, o)
		}
	}
	clear(w.queue[len(rest):])
	w.queue = rest
	return len(rest), w.closed
}

// lock begins a transaction. It reports false when nobody waits for one
// anymore.
func (w *writer) lock(ctx context.Context) bool {
	for try := 1; ; try++ {
		err := w.begin()
		if err == nil {
			return true
		}
		if isBusy(err) {
			w.retries.Add(1)
			w.failQueued(err, time.Now().Add(-w.s.opts.WriteTimeout))
			if ctx.Err() == nil {
				if n, _ := w.waiting(); n == 0 {
					return false
				}
				wait.Sleep(ctx, backoff(try))
				continue
			}
			err = fmt.Errorf("%w: %w", session.ErrClosed, err)
		}
		w.failQueued(err, time.Now())
		return false
	}
}

// begin takes the write lock.
func (w *writer) begin() error {
	_, err := w.conn.exec(begin)
	return err
}

// failQueued fails those who have waited since before.
func (w *writer) failQueued(err error, before time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.queue {
		if o.state == opWaiting && !o.from.After(before) {
			w.settleLocked(o, err)
		}
	}
}

// take returns the next batch, in the order of arrival.
func (w *writer) take() (ops []*op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, bytes := 0, 0
	for _, o := range w.queue {
		if len(ops) == w.s.opts.BatchItems || len(ops) > 0 && bytes+o.size > w.s.opts.BatchBytes {
			break
		}
		n++
		if o.state == opWaiting {
			o.state = opTaken
			ops = append(ops, o)
			bytes += o.size
		}
	}
	rest := copy(w.queue, w.queue[n:])
	clear(w.queue[rest:])
	w.queue = w.queue[:rest]
	return ops
}

// write runs ops in the transaction that has begun, and settles them. If the
// database fails one of them, each gets a transaction of its own.
func (w *writer) write(ctx context.Context, ops []*op) {
	if len(ops) == 0 {
		w.rollback()
		return
	}
	results := make([]error, len(ops))
	err := w.apply(ops, results)
	if err == nil {
		err = w.commit(ctx)
		if err == nil {
			w.flushes.Add(1)
			w.mu.Lock()
			defer w.mu.Unlock()
			for i, o := range ops {
				w.settleLocked(o, results[i])
			}
			return
		}
		if isOpen(err) {
			for _, o := range ops {
				if o.lost == nil {
					o.lost = err
				}
			}
		}
	}
	w.rollback()
	for _, o := range ops {
		w.alone(ctx, o, err, len(ops) > 1)
	}
}

// apply does what ops want. What they refuse is a result; an error is the
// database's.
func (w *writer) apply(ops []*op, results []error) error {
	for i, o := range ops {
		err := o.do(&tx{conn: w.conn, s: w.s, lost: o.lost})
		if err != nil && !isRefusal(err) && !errors.Is(err, session.ErrUnknown) {
			return err
		}
		results[i] = err
	}
	return nil
}

// alone writes o again after the transaction it was part of failed, if that may
// have been because of another one or if it has to be found out what came of
// it.
func (w *writer) alone(ctx context.Context, o *op, err error, again bool) {
	first := o.lost
	if again || first != nil {
		w.retries.Add(1)
		results := make([]error, 1)
		err = retry(ctx, w.s.opts.WriteTimeout, w.begin)
		if err == nil {
			if err = w.apply([]*op{o}, results); err == nil {
				err = w.commit(ctx)
				if err != nil && isOpen(err) {
					first = err
				}
			}
			if err == nil {
				w.flushes.Add(1)
				w.settle(o, w.counted(results[0]))
				return
			}
			w.rollback()
		}
	}
	switch {
	case first == nil:
	case errors.Is(err, first):
		err = w.counted(unknown(err))
	default:
		err = w.counted(unknown(fmt.Errorf("%w; before that: %w", err, first)))
	}
	w.settle(o, err)
}

func (w *writer) counted(err error) error {
	if errors.Is(err, session.ErrUnknown) {
		w.unknown.Add(1)
	}
	return err
}

// commit waits for readers where they hold it up, which they do not in WAL mode.
func (w *writer) commit(ctx context.Context) error {
	return retry(ctx, w.s.opts.WriteTimeout, func() error {
		_, err := w.conn.exec(commit)
		return err
	})
}

// rollback has nothing to do where SQLite rolled back by itself.
func (w *writer) rollback() { _, _ = w.conn.exec(rollback) }
