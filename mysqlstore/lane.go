package mysqlstore

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/handover"
	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// op is one caller's write on its way through a lane.
type op struct {
	handover.Op

	key     session.Key
	rec     session.Record // what to write
	becomes int64          // save: the version that it gives the session
	mayEnd  bool           // save: by its expiry
	made    session.Record // what was written
	live    bool           // destroy: whether it was live
	lost    error          // of an attempt whose outcome is open: it may be written already
	kept    error          // of an attempt that waited for the row in vain

	// written and refusal are what the batch made of the op. If both are unset,
	// others hold the row, or it is in doubt: the op wants a transaction of its
	// own.
	written bool
	refusal error
}

// size is more than o adds to a statement.
func (o *op) size() int { return len(o.rec.Data) + len(o.rec.User) + perItem }

const perItem = 512

// own copies what the caller may use again as soon as it is told.
func (o *op) own() { o.rec.Data = bytes.Clone(o.rec.Data) }

// manner is how a kind of write is done.
type manner struct {
	name string
	// lone writes o by one statement and reports whether it did. If not, nothing
	// was written, and the others find out why.
	lone func(t *tx, o *op) (bool, error)
	// batch writes ops, sorted by key, in a transaction, and sets written or
	// refusal of each op that it has finished.
	batch func(t *tx, ops []*op) error
	// apart writes o in a transaction, and waits for the row.
	apart func(t *tx, o *op) error
	// anyway says that a write is repeated even if nobody waits for it any
	// more.
	anyway bool
}

// fast writes by the lanes, whose batches cost a fraction of as many transactions.
type fast struct{ s *Store }

var _ sqlstore.Fast = fast{}

// lane writes what arrives for one kind of write in batches. No two writes to
// one key are under way at once.
type lane struct {
	*handover.Queue[[32]byte, *op]
	manner

	s *Store

	flights chan struct{} // batches under way; all but one are overdue
	waiting sync.WaitGroup
}

// overdue is how long a lane waits for a batch before it starts the next one. A
// batch that takes longer is probably waiting for a row lock.
const overdue = 50 * time.Millisecond

func newLane(s *Store, m manner, flights int) *lane {
	return &lane{
		Queue: handover.New(handover.Rules[[32]byte, *op]{
			Items: s.opts.BatchItems, Bytes: s.opts.BatchBytes,
			Size:     (*op).size,
			Key:      func(o *op) [32]byte { return o.key.Hash },
			Own:      (*op).own,
			Patience: s.opts.WriteTimeout, What: m.name,
		}),
		s: s, manner: m,
		flights: make(chan struct{}, flights),
	}
}

// run writes until the lane is closed and empty. When ctx ends, writes fail.
func (l *lane) run(ctx context.Context) {
	defer l.waiting.Wait()
	late := time.NewTimer(overdue)
	defer late.Stop()
	for {
		l.flights <- struct{}{}
		ops := l.Take()
		if len(ops) == 0 {
			<-l.flights
			if !l.Wait() {
				return
			}
			continue
		}
		slices.SortFunc(ops, func(a, b *op) int { return compareHashes(a.key.Hash, b.key.Hash) })
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
		// Callers that got their answer may have more to write: let them queue
		// first.
		runtime.Gosched()
	}
}

// write finishes ops, at the latest when the last caller's time is over. write
// waits beside the lane for rows that others hold.
func (l *lane) write(ctx context.Context, ops []*op) {
	ctx, cancel := l.s.lasting(ctx, l.name, l.Until(ops))
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

// alone writes o by one statement, and reports whether that finished it. The
// statement waits for a row that others hold and commits by itself, so its
// outcome is unknown if ctx ends meanwhile. It does not begin too late for that:
// to get a connection may have taken a while.
func (l *lane) alone(ctx context.Context, o *op) bool {
	done := false
	err := l.s.writes.do(ctx, func(c *conn) (err error) {
		if !mayWait(ctx) {
			return nil
		}
		done, err = l.lone(&tx{conn: c, s: l.s, ctx: ctx}, o)
		return err
	})
	if err != nil {
		l.s.engine.Retries.Add(1)
		switch outcomeOf(err) {
		case txOpen:
			o.lost = err
		case txLocked:
			o.kept = err
		}
		return false
	}
	if !done {
		return false
	}
	l.s.engine.Flushes.Add(1)
	l.end(o, nil)
	return true
}

// together writes ops in one transaction, or in halves if one of them is to
// blame. It returns as held the ops that want a transaction of their own.
func (l *lane) together(ctx context.Context, ops []*op) (held []*op) {
	began := time.Now()
	var kept error // what the attempt before failed with
	for try := 1; ; try++ {
		if ops = l.wanted(ctx, ops); len(ops) == 0 {
			return nil
		}
		for _, o := range ops {
			o.written, o.refusal = false, nil
		}
		err := l.s.writes.begin(ctx, func(c *conn) error {
			return c.transaction(ctx, func() error { return l.batch(&tx{conn: c, s: l.s, ctx: ctx}, ops) })
		})
		if err == nil {
			l.s.engine.Flushes.Add(1)
			return l.landed(ops)
		}
		again := slices.ContainsFunc(ops, func(o *op) bool { return o.lost != nil })
		switch outcomeOf(err) {
		case txOpen:
			for _, o := range ops {
				o.lost = err
			}
			again = true
		case txConflict, txBusy:
			again = true
		case txCut:
			again = again || try < askAgain
		case txReadOnly:
			again = again || time.Since(began) < retryReadOnly
		case txLocked:
			return ops
		case txItem:
			if len(ops) == 1 {
				return ops
			}
			half := len(ops) / 2
			return append(l.together(ctx, ops[:half]), l.together(ctx, ops[half:])...)
		}
		if again && storekit.Backoff().Pause(ctx, try) {
			l.s.engine.Retries.Add(1)
			kept = telling(err, kept)
			continue
		}
		l.fail(ctx, ops, after(ctx, err, kept))
		return nil
	}
}

// wanted returns the ops whose callers still wait, and fails the others instead
// of keeping their data for another attempt. Logouts have no data, and are to
// happen.
func (l *lane) wanted(ctx context.Context, ops []*op) []*op {
	if l.anyway {
		return ops
	}
	left := l.Left(ops)
	if len(left) == 0 {
		return ops
	}
	l.fail(ctx, left, errLeft)
	return slices.DeleteFunc(slices.Clone(ops), func(o *op) bool { return slices.Contains(left, o) })
}

var errLeft = errors.New("the caller has given up")

// landed finishes what a batch has written or refused.
func (l *lane) landed(ops []*op) (held []*op) {
	for _, o := range ops {
		if !o.written && o.refusal == nil {
			held = append(held, o)
			continue
		}
		l.end(o, o.refusal)
	}
	return held
}

// end finishes o, and lets the next write with its key be taken.
func (l *lane) end(o *op, err error) {
	l.s.engine.CountRefusal(err)
	l.Release(o)
	l.Finish(o, err)
}

func (l *lane) fail(ctx context.Context, ops []*op, err error) {
	for _, o := range ops {
		l.end(o, l.s.engine.Failed(ctx, o.lost, err))
	}
}

// separate writes o in a transaction of its own, for which it waits.
func (l *lane) separate(ctx context.Context, o *op) {
	if o.kept != nil && o.lost == nil && !mayWait(ctx) {
		l.end(o, wait.Because(ctx, o.kept))
		return
	}
	waits, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	if !l.anyway {
		l.OnLeave(o, func() { leave(errLeft) })
	}
	err := l.s.untilKnown(waits, o.lost, o.kept, func(lost error) error {
		return l.s.waits.begin(waits, func(c *conn) error {
			return c.transaction(ctx, func() error { // which is not cut short when the caller leaves
				return l.apart(&tx{conn: c, s: l.s, ctx: ctx, lost: lost}, o)
			})
		})
	})
	l.end(o, err)
}
