package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
)

const (
	shortestAttempt = time.Second
	longestAttempt  = 2500 * time.Millisecond
)

// attemptLimit is how long an attempt may wait for an answer before another
// connection is tried, given the time that is left for all attempts. Later
// attempts get more.
func attemptLimit(all time.Duration) time.Duration {
	return min(all, max(shortestAttempt, min(all/4, longestAttempt)))
}

const readTries = 4

// ask runs a read, within Options.ReadTimeout. It repeats the read on another
// connection when one is lost or falls silent, and when others made the read
// fail.
func (s *Store) ask(ctx context.Context, r road, read func(context.Context, *pgxpool.Conn) error) error {
	if r.limit != 0 {
		var cancel context.CancelFunc
		ctx, cancel = s.withinRead(ctx)
		defer cancel()
		end, _ := ctx.Deadline()
		r.limit = attemptLimit(time.Until(end))
	}
	for try := 1; ; try++ {
		err := r.try(try).do(ctx, read)
		if err == nil {
			return nil
		}
		again := try < readTries && ctx.Err() == nil && s.conns.cut.Err() == nil
		switch f := outcomeOf(err); {
		case again && isLost(err):
			r.own = true
		case again && (f == txConflict || f == txLocked) && storekit.Backoff().Pause(ctx, try):
		default:
			return wait.Because(ctx, err)
		}
		s.stats.retries.Add(1)
	}
}

func isLost(err error) bool {
	_, lost := errors.AsType[lostConn](err)
	return lost
}

// withinRead bounds a read by Options.ReadTimeout, as long as ctx does not do so.
func (s *Store) withinRead(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= s.opts.ReadTimeout {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, s.opts.ReadTimeout,
		fmt.Errorf("the database did not answer within Options.ReadTimeout, %v: %w", s.opts.ReadTimeout, context.DeadlineExceeded))
}
