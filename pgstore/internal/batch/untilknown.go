package batch

import (
	"context"
	"errors"
	"fmt"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// UntilKnown runs a transaction until its outcome is known: it is repeated when
// others made it fail, and when its answer was lost. After a lost answer it asks
// landed, if that is not nil, whether the transaction happened; an error of landed
// means that it cannot tell. Calls with an equal same need one lock, so they take
// turns.
func (w *Writer) UntilKnown(ctx context.Context, r db.Road, same any, attempt func(context.Context, db.Road) error, landed func(context.Context) (bool, error)) error {
	ctx, cancel := r.Within(ctx, "the write")
	defer cancel()
	end, _ := ctx.Deadline() // the caller's may come before the option's
	r = r.EndsAt(end)
	var lost error
	locked := 0
	for try := 1; ; try++ {
		err := w.inTurn(ctx, same, func() error {
			return r.Try(try).ForLocks(ctx, locked, attempt)
		})
		if err == nil {
			return nil
		}
		outcome := db.OutcomeOf(err)
		switch outcome {
		case db.TxOpen:
			lost, r.OwnFirst = err, true
			w.opts.Disown() // it may still be committed
		case db.TxLocked:
			if locked++; locked > 1 {
				w.endSilent(ctx)
			}
		}
		again := outcome == db.TxConflict || outcome == db.TxLocked && r.MayWait(ctx)
		if lost != nil {
			switch afterLost(ctx, err, landed) {
			case happened:
				return nil
			case refused:
				return err
			case undecided:
				again = true
			case undecidable:
				again = false
			}
		}
		if again && (outcome == db.TxLocked || storekit.Backoff().Pause(ctx, try)) {
			r.Retries.Add(1)
			continue
		}
		if lost != nil {
			return w.outcomeOpen(ctx, lost, err)
		}
		return wait.Because(ctx, err)
	}
}

// verdict is what is known of a transaction whose answer was lost.
type verdict int

const (
	happened    verdict = iota
	refused             // it did not happen, and repeated it is refused
	undecided           // the next attempt may tell
	undecidable         // a later write hides what became of it
)

// afterLost judges a transaction that has lost an answer, by the error of its
// last attempt. A refusal says nothing by itself: what refuses may be the very
// write whose answer was lost.
func afterLost(ctx context.Context, err error, landed func(context.Context) (bool, error)) verdict {
	var did bool
	var cannotSay error
	if landed != nil {
		did, cannotSay = landed(ctx)
	}
	switch {
	case did:
		return happened
	case !db.IsRefusal(err):
		return undecided
	case landed == nil, errors.Is(cannotSay, session.ErrUnknown):
		return undecidable
	case cannotSay != nil:
		return undecided
	}
	return refused
}

// inTurn runs do when nobody else of this node has the turn. A nil turn is
// nobody's.
func (w *Writer) inTurn(ctx context.Context, of any, do func() error) error {
	if of == nil {
		return do()
	}
	end, err := w.turns.take(ctx, of)
	if err != nil {
		return db.NotDone(fmt.Errorf("others wait for the same lock: %w", err))
	}
	defer end()
	return do()
}
