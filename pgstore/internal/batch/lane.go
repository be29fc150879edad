package batch

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

// Op is one caller's write on its way through a lane.
type Op struct {
	handover.Op

	Key     session.Key    // with the bucket that the row is in
	Rec     session.Record // what to write; then what was written
	Becomes int64          // save: the version that it gives the session
	Live    bool           // destroy: whether it was live
	Next    session.Key    // destroy: the session that this one was renewed to
	Gone    bool           // destroy: there is no such row
	Expired bool           // touch: it was not ended, its time was over
	Ran     db.ServerTime  // the transaction that wrote it

	lost error // of an earlier answer: it may be written already
}

func (o *Op) size() int { return len(o.Rec.Data) + 200 }

// own copies what the caller may use again as soon as it is told.
func (o *Op) own() { o.Rec.Data = bytes.Clone(o.Rec.Data) }

// Lane writes what arrives for one kind of write in batches. No two writes to
// one key are under way at once.
type Lane struct {
	*handover.Queue[session.Key, *Op]
	Road    db.Road
	Overdue chan struct{} // places for batches that the lane has left behind

	w     *Writer
	kind  string
	flush flushFunc
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
	// the next one, and MaxOverdue how many it leaves behind.
	overdueAfter = 250 * time.Millisecond
	MaxOverdue   = 3
)

// flushFunc writes ops, sorted by key, in one transaction. A flushFunc that
// returns an error leaves all of ops unfinished. Otherwise it finishes what it
// wrote or refused, and returns as held what needs more patience.
type flushFunc func(ctx context.Context, ops []*Op, mode flushMode) (held []*Op, err error)

func (w *Writer) newLane(kind string, flush flushFunc, road db.Road) *Lane {
	return &Lane{
		Queue: handover.New(handover.Rules[session.Key, *Op]{
			Items: w.opts.Items, Bytes: w.opts.Bytes,
			Size:     (*Op).size,
			Key:      func(o *Op) session.Key { return o.Key },
			Own:      (*Op).own,
			Patience: w.opts.WriteTimeout, What: kind,
		}),
		Road: road, Overdue: make(chan struct{}, MaxOverdue),
		w: w, kind: kind, flush: flush,
	}
}

// run writes until the lane is closed and empty. When ctx ends, writes fail.
// While a batch is overdue another goroutine runs the lane. So a connection
// that has fallen silent holds up only the writes that are on it.
func (l *Lane) run(ctx context.Context) {
	for {
		ops := l.Take()
		if len(ops) == 0 {
			if !l.Wait() {
				return
			}
			continue
		}
		slices.SortFunc(ops, func(a, b *Op) int { return a.Key.Compare(b.Key) })
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
func (l *Lane) replacedWhenOverdue(ctx context.Context) (replaced func() bool) {
	ended, decided := make(chan struct{}), make(chan struct{})
	left := false
	timer := time.AfterFunc(overdueAfter, func() {
		defer close(decided)
		select {
		case l.Overdue <- struct{}{}:
		case <-ended:
			return
		}
		left = true
		if !l.Road.Control {
			l.Road.Doubt()
		}
		l.w.running.Go(func() { l.run(ctx) })
	})
	return func() bool {
		if timer.Stop() {
			return false
		}
		close(ended)
		<-decided
		if left {
			<-l.Overdue
		}
		return left
	}
}

// write finishes ops, at the latest when the last caller's time is over. write
// looks beside the lane into what was not written at once, and waits for it
// there.
func (l *Lane) write(ctx context.Context, ops []*Op) {
	call, cancel := l.Road.Lasting(ctx, l.kind, l.Until(ops))
	held := l.attempt(call, ops, flushMode{road: l.Road.WaitBriefly()})
	l.Release(without(ops, held)...)
	if len(held) == 0 {
		cancel()
		return
	}
	l.w.running.Go(func() {
		defer cancel()
		rest := l.attempt(call, held, flushMode{road: l.Road.WaitBriefly(), patience: skipLocked})
		l.Release(without(held, rest)...)
		l.retryLocked(call, rest)
	})
}

func without(ops, held []*Op) []*Op {
	if len(held) == 0 {
		return ops
	}
	return slices.DeleteFunc(slices.Clone(ops), func(o *Op) bool { return slices.Contains(held, o) })
}

// retryLocked writes ops whose rows or locks others hold. With a place it
// blocks for one lock timeout. Then it tries in two halves what is still
// locked, so that one long lock does not delay writes to other rows. Without a
// place it looks again and again.
func (l *Lane) retryLocked(ctx context.Context, ops []*Op) {
	for try := 1; len(ops) > 0; try++ {
		var held []*Op
		queued := false
		select {
		case l.Road.Places <- struct{}{}:
			held = l.attempt(ctx, ops, flushMode{road: l.Road.WaitLonger(try), patience: waitLocked})
			<-l.Road.Places
			queued = true
		case <-time.After(storekit.Backoff().Before(try)):
			held = l.attempt(ctx, ops, flushMode{road: l.Road.WaitBriefly(), patience: skipLocked})
		case <-ctx.Done():
			l.fail(ctx, ops, errors.New("others hold the row or lock"))
		}
		l.Release(without(ops, held)...)
		if len(held) > 0 {
			l.w.endSilent(ctx)
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
func (l *Lane) attempt(ctx context.Context, ops []*Op, mode flushMode) (held []*Op) {
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
		var next step
		next, mode, err = l.afterFailure(ctx, ops, mode, err)
		switch {
		case next == tryAtOnce:
		case next == leaveHeld:
			l.Road.Retries.Add(1)
			return ops
		case next == tryHalves:
			half := len(ops) / 2
			held = l.attempt(ctx, ops[:half], mode)
			return append(held, l.attempt(ctx, ops[half:], mode)...)
		case next == tryAgain && storekit.Backoff().Pause(ctx, try):
			l.Road.Retries.Add(1)
		default:
			l.fail(ctx, ops, err)
			return nil
		}
	}
}

// step is what is done with a batch that failed.
type step int

const (
	giveUp    step = iota
	tryAgain       // after a pause, if time is left
	tryAtOnce      // with more patience
	tryHalves      // so that what is wrong with one op does not fail all
	leaveHeld      // to who waits for locks beside the lane
)

// afterFailure decides by the outcome of a flush what is done with its ops, and
// how the next flush is to be done. It returns err as callers are to see it.
func (l *Lane) afterFailure(ctx context.Context, ops []*Op, mode flushMode, err error) (step, flushMode, error) {
	// While a write is open after a lost answer, it is worth asking for until
	// time is up.
	orAsk := giveUp
	if slices.ContainsFunc(ops, func(o *Op) bool { return o.lost != nil }) {
		orAsk = tryAgain
	}
	switch db.OutcomeOf(err) {
	case db.TxOpen:
		for _, o := range ops {
			o.lost = err
		}
		l.w.opts.Disown() // it may still be committed
		mode.road.OwnFirst = true
		return tryAgain, mode, err
	case db.TxConflict:
		return tryAgain, mode, err
	case db.TxPartition:
		l.w.opts.Stale()
		if mode.parent {
			return orAsk, mode, err
		}
		mode.parent = true
		return tryAgain, mode, err
	case db.TxNoPartition:
		l.w.opts.Stale()
		switch {
		case !mode.parent:
			mode.parent = true
			return tryAgain, mode, err
		case len(ops) > 1: // the others have their partition
			return tryHalves, mode, err
		}
		return orAsk, mode, fmt.Errorf("%w: %w", session.ErrNoPartition, err)
	case db.TxLocked:
		switch {
		case mode.patience == optimistic:
			mode.patience = skipLocked
			return tryAtOnce, mode, err
		case l.Road.MayWait(ctx):
			return leaveHeld, mode, err
		}
		<-ctx.Done()
		return giveUp, mode, err
	case db.TxItem:
		if len(ops) > 1 {
			return tryHalves, mode, err
		}
		return giveUp, mode, err
	}
	return orAsk, mode, err
}

// wanted returns the ops whose callers still wait, and fails the others instead
// of keeping their data for another attempt. Logouts have no data, and are to
// happen.
func (l *Lane) wanted(ctx context.Context, ops []*Op) []*Op {
	if l.Road.Control {
		return ops
	}
	left := l.Left(ops)
	l.fail(ctx, left, errLeft)
	return without(ops, left)
}

var errLeft = errors.New("the caller has given up")

// fail finishes ops with err, and with the reason why ctx ended if it did.
func (l *Lane) fail(ctx context.Context, ops []*Op, err error) {
	for _, o := range ops {
		if o.lost != nil {
			l.Finish(o, l.w.outcomeOpen(ctx, o.lost, err))
			continue
		}
		l.Finish(o, wait.Because(ctx, err))
	}
}
