package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/session"
)

// newBatch begins a batch with the settings that all of them need.
func newBatch(ctx context.Context) *pgx.Batch { return batchFrom(ctx, startBatch, longestLockWait) }

// batchFrom begins a batch whose statements wait for locks no longer than wait.
func batchFrom(ctx context.Context, start string, wait time.Duration) *pgx.Batch {
	b := &pgx.Batch{}
	b.Queue(start, lockTimeout(ctx, wait))
	return b
}

const (
	longestLockWait = time.Second
	answerTime      = 500 * time.Millisecond
)

// lockTimeout is wait as the server wants it, or less if ctx ends soon: the
// server must have time to say that it got no lock. If ctx ended first, the
// outcome would be unknown.
func lockTimeout(ctx context.Context, wait time.Duration) string {
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		wait = min(wait, max(left-answerTime, left/2, time.Millisecond))
	}
	return fmt.Sprintf("%dms", wait.Milliseconds())
}

// mayWait reports whether there is time to wait for a lock once more.
func mayWait(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(end) > answerTime)
}

// send runs the statements of b as one transaction in one round trip: without
// a BEGIN, those of a pipeline are one. Results count only when it returns nil.
func send(ctx context.Context, pool *pgxpool.Pool, b *pgx.Batch) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return notDone{error: err}
	}
	defer conn.Release()
	return conn.SendBatch(ctx, b).Close()
}

// begin runs do in a transaction. do sees the lock timeout of batches.
func begin(ctx context.Context, pool *pgxpool.Pool, do func(pgx.Tx) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return notDone{error: err}
	}
	defer conn.Release()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return notDone{error: err}
	}
	err = tx.SendBatch(ctx, newBatch(ctx)).Close()
	if err == nil {
		err = do(tx)
	}
	if err != nil {
		cut := conn.Conn().IsClosed()
		// A rollback that fails closes the connection, which rolls back too.
		_ = tx.Rollback(ctx)
		return notDone{err, cut}
	}
	return tx.Commit(ctx)
}

// within bounds a write by Options.WriteTimeout.
func (s *Store) within(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.opts.WriteTimeout,
		fmt.Errorf("%s took longer than Options.WriteTimeout, %v: %w", what, s.opts.WriteTimeout, context.DeadlineExceeded))
}

// settle runs a transaction until its outcome is known: it is repeated when
// others made it fail, and when its answer was lost. Then landed, if not nil,
// is asked whether it happened; an error means that it cannot tell.
func (s *Store) settle(ctx context.Context, attempt func(context.Context) error, landed func(context.Context) (bool, error)) error {
	ctx, cancel := s.within(ctx, "the write")
	defer cancel()
	var lost error
	for try := 1; ; try++ {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		f := fateOf(err)
		if f == fateOpen {
			lost = err
		}
		again := lost != nil || f == fateConflict || f == fateLocked && mayWait(ctx)
		if lost != nil {
			did, cannotTell := false, error(nil)
			if landed != nil {
				did, cannotTell = landed(ctx)
			}
			switch {
			case did:
				return nil
			case !isRefusal(err):
			case landed == nil, errors.Is(cannotTell, session.ErrUnknown):
				again = false
			case cannotTell == nil:
				return err // this attempt came after the lost one
			}
		}
		if again && pause(ctx, try) {
			s.stats.retries.Add(1)
			continue
		}
		if lost != nil {
			return s.outcomeOpen(ctx, lost, err)
		}
		return because(ctx, err)
	}
}
