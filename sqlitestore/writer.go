package sqlitestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/sojourn-go/sojourn/internal/handover"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// op is one caller's write on its way to the writer.
type op struct {
	handover.Op

	do   func(*tx) error // may run several times; leaves its result where the caller finds it
	data *[]byte         // what is written; nil: little
	ends bool            // it ends sessions: it goes first, and is done even if nobody waits for it
	lost error           // of a commit that may have happened: this one may be written already
}

func (o *op) size() int {
	if o.data == nil {
		return 200
	}
	return len(*o.data) + 200
}

// own copies what the caller may use again as soon as it is told.
func (o *op) own() {
	if o.data != nil {
		*o.data = bytes.Clone(*o.data)
	}
}

// writer writes what arrives in batches, on a connection of its own. One batch
// may write a session twice, since the queue has no keys.
type writer struct {
	*handover.Queue[struct{}, *op]

	s    *Store
	conn *conn
}

func newWriter(s *Store, c *conn) *writer {
	queue := handover.New(handover.Rules[struct{}, *op]{
		Items: s.opts.BatchItems, Bytes: s.opts.BatchBytes,
		Size:     (*op).size,
		Own:      (*op).own,
		Urgent:   func(o *op) bool { return o.ends },
		Patience: s.opts.WriteTimeout, What: "write",
	})
	return &writer{Queue: queue, s: s, conn: c}
}

// run writes until the writer is closed and its queue empty. When ctx ends, the
// writes that have no lock yet fail.
func (w *writer) run(ctx context.Context) {
	for {
		if w.waiting() == 0 {
			if !w.Wait() {
				return
			}
			continue
		}
		if w.lock(ctx) {
			w.write(ctx, w.Take())
		}
		// Callers that got their answer may have more to write: let them queue
		// first.
		runtime.Gosched()
	}
}

// waiting is how many writes wait to be taken.
func (w *writer) waiting() int {
	waits, _ := w.Len()
	return waits
}

// lock begins a transaction. It reports false when nobody waits for one
// anymore. Until one has begun, those who are about to wait are told what holds
// the writer up.
func (w *writer) lock(ctx context.Context) bool {
	for try := 1; ; try++ {
		err := w.begin()
		if err == nil {
			w.HeldUp(nil)
			return true
		}
		if isBusy(err) {
			w.s.engine.Retries.Add(1)
			w.HeldUp(err)
			if ctx.Err() == nil {
				if w.waiting() == 0 {
					return false
				}
				backoff.Pause(ctx, try)
				continue
			}
			err = fmt.Errorf("%w: %w", session.ErrClosed, err)
		}
		w.HeldUp(nil)
		w.FinishWaiting(err)
		return false
	}
}

// begin takes the write lock.
func (w *writer) begin() error {
	_, err := w.conn.exec(begin)
	return err
}

// write runs ops in the transaction that has begun, and finishes them. If the
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
			w.s.engine.Flushes.Add(1)
			for i, o := range ops {
				w.Finish(o, results[i])
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

// apply runs ops. A refusal is the result of its op; an error is the
// database's.
func (w *writer) apply(ops []*op, results []error) error {
	for i, o := range ops {
		err := o.do(&tx{conn: w.conn, s: w.s, lost: o.lost})
		if err != nil && !storekit.IsRefusal(err) && !errors.Is(err, session.ErrUnknown) {
			return err
		}
		results[i] = err
	}
	return nil
}

// alone writes o again after the transaction that it was part of failed. It
// does so if another op may be to blame, or if the outcome of o has to be found
// out.
func (w *writer) alone(ctx context.Context, o *op, err error, again bool) {
	first := o.lost
	switch {
	case !o.ends && len(w.Left([]*op{o})) > 0: // nobody needs it any more
		err = fmt.Errorf("%w; before that: %w", errLeft, err)
	case again || first != nil:
		w.s.engine.Retries.Add(1)
		results := make([]error, 1)
		err = retry(ctx, time.Until(w.Until([]*op{o})), w.begin)
		if err == nil {
			if err = w.apply([]*op{o}, results); err == nil {
				err = w.commit(ctx)
				if err != nil && isOpen(err) {
					first = err
				}
			}
			if err == nil {
				w.s.engine.Flushes.Add(1)
				w.Finish(o, w.s.engine.CountUnknown(results[0]))
				return
			}
			w.rollback()
		}
	}
	w.Finish(o, w.s.engine.Failed(ctx, first, err))
}

var errLeft = errors.New("the caller has given up")

// commit waits for readers if they hold it up, which they do not in WAL mode.
func (w *writer) commit(ctx context.Context) error {
	return retry(ctx, w.s.opts.WriteTimeout, func() error {
		_, err := w.conn.exec(commit)
		return err
	})
}

// rollback has nothing to do where SQLite rolled back by itself.
func (w *writer) rollback() { _, _ = w.conn.exec(rollback) }
