package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/handover"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// op is one caller's write on its way through a lane.
type op struct {
	handover.Op

	key     session.Key    // with the bucket that the row is in
	rec     session.Record // what to write; then what was written
	becomes int64          // save: the version that it gives the session
	live    bool           // destroy: whether it was live
	next    session.Key    // destroy: the session that this one was renewed to
	gone    bool           // destroy: there is no such row
	lost    error          // of an earlier answer: it may be written already

	expired bool // touch: it was not ended, its time was over

	ran db.ServerTime // the transaction that wrote it
}

func (o *op) size() int { return len(o.rec.Data) + 200 }

// own copies what the caller may use again as soon as it is told.
func (o *op) own() { o.rec.Data = bytes.Clone(o.rec.Data) }

// lane writes what arrives for one kind of write in batches. No two writes to
// one key are under way at once.
type lane struct {
	*handover.Queue[session.Key, *op]

	s       *Store
	kind    string
	flush   flushFunc
	road    db.Road
	overdue chan struct{} // places for batches that the lane has left behind
}

// flushMode is how a flush is to be done.
type flushMode struct {
	road     db.Road
	parent   bool // through the parent, because a partition was not there
	patience patience
}

// patience is what a flush does about rows and locks that others hold.
type patience int

const (
	optimistic patience = iota // wait a moment, and do not find out why something was not written
	skipLocked                 // do not wait
	waitLocked                 // wait
)

const (
	// overdueAfter is for how long a lane waits for a batch before it goes on with
	// the next one, and maxOverdue how many it leaves behind.
	overdueAfter = 250 * time.Millisecond
	maxOverdue   = 3
)

// flushFunc writes ops, sorted by key, in one transaction. A flushFunc that
// returns an error leaves all of ops unfinished. Otherwise it finishes what it
// wrote or refused, and returns as held what needs more patience.
type flushFunc func(ctx context.Context, ops []*op, mode flushMode) (held []*op, err error)

func newLane(s *Store, kind string, flush flushFunc, road db.Road) *lane {
	return &lane{
		Queue: handover.New(handover.Rules[session.Key, *op]{
			Items: s.opts.BatchItems, Bytes: s.opts.BatchBytes,
			Size:     (*op).size,
			Key:      func(o *op) session.Key { return o.key },
			Own:      (*op).own,
			Patience: s.opts.WriteTimeout, What: kind,
		}),
		s: s, kind: kind, flush: flush, road: road,
		overdue: make(chan struct{}, maxOverdue),
	}
}

// run writes until the lane is closed and empty. When ctx ends, writes fail.
// While a batch is overdue another goroutine runs the lane. So a connection
// that has fallen silent holds up only the writes that are on it.
func (l *lane) run(ctx context.Context) {
	for {
		ops := l.Take()
		if len(ops) == 0 {
			if !l.Wait() {
				return
			}
			continue
		}
		slices.SortFunc(ops, func(a, b *op) int { return a.key.Compare(b.key) })
		replaced := l.replacedWhenOverdue(ctx)
		l.write(ctx, ops)
		if replaced() {
			return
		}
		// Callers that got their answer may have more to write: let them queue
		// first.
		runtime.Gosched()
	}
}

// replacedWhenOverdue has another goroutine run the lane when the batch that
// begins is overdue. The function that it returns is called at the end of the
// batch, and tells whether that happened.
func (l *lane) replacedWhenOverdue(ctx context.Context) (replaced func() bool) {
	ended, decided := make(chan struct{}), make(chan struct{})
	left := false
	timer := time.AfterFunc(overdueAfter, func() {
		defer close(decided)
		select {
		case l.overdue <- struct{}{}:
		case <-ended:
			return
		}
		left = true
		if !l.road.Control {
			l.road.Doubt()
		}
		l.s.lanes.Go(func() { l.run(ctx) })
	})
	return func() bool {
		if timer.Stop() {
			return false
		}
		close(ended)
		<-decided
		if left {
			<-l.overdue
		}
		return left
	}
}

// write finishes ops, at the latest when the last caller's time is over. write
// looks beside the lane into what was not written at once, and waits for it
// there.
func (l *lane) write(ctx context.Context, ops []*op) {
	call, cancel := l.road.Lasting(ctx, l.kind, l.Until(ops))
	held := l.attempt(call, ops, flushMode{road: l.road.WaitBriefly()})
	l.Release(without(ops, held)...)
	if len(held) == 0 {
		cancel()
		return
	}
	l.s.lanes.Go(func() {
		defer cancel()
		rest := l.attempt(call, held, flushMode{road: l.road.WaitBriefly(), patience: skipLocked})
		l.Release(without(held, rest)...)
		l.retryLocked(call, rest)
	})
}

func without(ops, held []*op) []*op {
	if len(held) == 0 {
		return ops
	}
	return slices.DeleteFunc(slices.Clone(ops), func(o *op) bool { return slices.Contains(held, o) })
}

// retryLocked writes ops whose rows or locks others hold. With a place it
// blocks for one lock timeout. Then it tries in two halves what is still
// locked, so that one long lock does not delay writes to other rows. Without a
// place it looks again and again.
func (l *lane) retryLocked(ctx context.Context, ops []*op) {
	for try := 1; len(ops) > 0; try++ {
		var held []*op
		queued := false
		select {
		case l.road.Places <- struct{}{}:
			held = l.attempt(ctx, ops, flushMode{road: l.road.WaitLonger(try), patience: waitLocked})
			<-l.road.Places
			queued = true
		case <-time.After(storekit.Backoff().Before(try)):
			held = l.attempt(ctx, ops, flushMode{road: l.road.WaitBriefly(), patience: skipLocked})
		case <-ctx.Done():
			l.fail(ctx, ops, errors.New("others hold the row or lock"))
		}
		l.Release(without(ops, held)...)
		if len(held) > 0 {
			l.s.endSilent(ctx, l.s.control)
		}
		if ops = held; queued && len(ops) > 1 {
			var other sync.WaitGroup
			first := ops[:len(ops)/2]
			other.Go(func() { l.retryLocked(ctx, first) })
			l.retryLocked(ctx, ops[len(ops)/2:])
			other.Wait()
			return
		}
	}
}

// attempt flushes until every op is finished or held by others.
func (l *lane) attempt(ctx context.Context, ops []*op, mode flushMode) (held []*op) {
	for try := 1; ; try++ {
		if ops = l.wanted(ctx, ops); len(ops) == 0 {
			return nil
		}
		now := mode
		now.road = mode.road.Until(l.Soonest(ops)).Try(try)
		held, err := l.flush(ctx, ops, now)
		if err == nil {
			return held
		}
		// While a write is open after a lost answer, it is worth asking for
		// until time is up.
		again := slices.ContainsFunc(ops, func(o *op) bool { return o.lost != nil })
		switch db.OutcomeOf(err) {
		case db.TxOpen:
			for _, o := range ops {
				o.lost = err
			}
			l.s.cache.Disown() // it may still be committed
			again, mode.road.OwnFirst = true, true
		case db.TxConflict:
			again = true
		case db.TxPartition:
			again, mode.parent = again || !mode.parent, true
			l.s.table.RefreshSoon()
		case db.TxNoPartition:
			l.s.table.RefreshSoon()
			if mode.parent && len(ops) > 1 { // the others have their partition
				return l.halves(ctx, ops, mode)
			}
			if mode.parent {
				err = fmt.Errorf("%w: %w", session.ErrNoPartition, err)
			}
			again, mode.parent = again || !mode.parent, true
		case db.TxLocked:
			if mode.patience == optimistic {
				mode.patience = skipLocked
				continue
			}
			if l.road.MayWait(ctx) {
				l.s.conns.Retries.Add(1)
				return ops
			}
			<-ctx.Done()
		case db.TxItem:
			if len(ops) > 1 {
				return l.halves(ctx, ops, mode)
			}
			again = false
		}
		if again && storekit.Backoff().Pause(ctx, try) {
			l.s.conns.Retries.Add(1)
			continue
		}
		l.fail(ctx, ops, err)
		return nil
	}
}

// wanted returns the ops whose callers still wait, and fails the others instead
// of keeping their data for another attempt. Logouts have no data, and are to
// happen.
func (l *lane) wanted(ctx context.Context, ops []*op) []*op {
	if l.road.Control {
		return ops
	}
	left := l.Left(ops)
	l.fail(ctx, left, errLeft)
	return without(ops, left)
}

var errLeft = errors.New("the caller has given up")

// halves flushes ops in two parts, so that what is wrong with one of them
// does not fail all.
func (l *lane) halves(ctx context.Context, ops []*op, mode flushMode) (held []*op) {
	half := len(ops) / 2
	held = l.attempt(ctx, ops[:half], mode)
	return append(held, l.attempt(ctx, ops[half:], mode)...)
}

// fail finishes ops with err, and with the reason why ctx ended if it did.
func (l *lane) fail(ctx context.Context, ops []*op, err error) {
	for _, o := range ops {
		if o.lost != nil {
			l.Finish(o, l.s.outcomeOpen(ctx, o.lost, err))
			continue
		}
		l.Finish(o, wait.Because(ctx, err))
	}
}
