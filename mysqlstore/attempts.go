package mysqlstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// within bounds a write by Options.WriteTimeout.
func (s *Store) within(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	return s.lasting(ctx, what, time.Now().Add(s.opts.WriteTimeout))
}

// lasting is within for a write that began earlier, or that has later callers.
func (s *Store) lasting(ctx context.Context, what string, until time.Time) (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(ctx, until,
		fmt.Errorf("%s took longer than Options.WriteTimeout, %v: %w", what, s.opts.WriteTimeout, context.DeadlineExceeded))
}

// retryReadOnly is how long a server that takes no writes is tried, by new
// connections: they may lead to another one after a failover.
const retryReadOnly = 500 * time.Millisecond

// untilKnown makes attempts until the outcome is known, or ctx ends. Each
// attempt is told the error of an earlier one whose outcome is open; lost is
// such an error from before the call.
func (s *Store) untilKnown(ctx context.Context, lost, kept error, attempt func(lost error) error) error {
	cuts, began := 0, time.Now()
	for try := 1; ; try++ {
		err := attempt(lost)
		if err == nil {
			return nil
		}
		if storekit.IsRefusal(err) || errors.Is(err, session.ErrUnknown) {
			return s.engine.CountUnknown(err)
		}
		again := lost != nil
		switch outcomeOf(err) {
		case txOpen:
			lost, again = err, true
		case txConflict, txBusy:
			again = true
		case txCut:
			cuts++
			again = again || cuts < askAgain
		case txLocked:
			again = mayWait(ctx)
		case txReadOnly:
			again = again || time.Since(began) < retryReadOnly
		}
		if again && storekit.Backoff().Pause(ctx, try) {
			s.engine.Retries.Add(1)
			kept = telling(err, kept)
			continue
		}
		return s.engine.Failed(ctx, lost, after(ctx, err, kept))
	}
}

// after is wait.After where the server has not said what is wrong: a lock may be
// kept, or the server full.
func after(ctx context.Context, err, kept error) error {
	if numberOf(err) != 0 {
		return err
	}
	return wait.After(ctx, err, kept)
}

// telling is the error of the last attempt, or of one before it if only that has the
// server's word: what comes to no answer does not say that the server is full.
func telling(err, kept error) error {
	if numberOf(err) == 0 && numberOf(kept) != 0 {
		return kept
	}
	return err
}

// lockWaitSeconds is how long the server lets the store's connections wait for the
// lock of a row.
const lockWaitSeconds = 1

// lockWait is lockWaitSeconds with time for the answer: MySQL looks but once in a
// second. A write that has less time left does not begin to
// wait: if ctx ended first, the outcome would be unknown.
const lockWait = 2200 * time.Millisecond

func mayWait(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(end) > lockWait)
}
