package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/session"
)

// batch is statements that run as one transaction, in one round trip.
type batch struct {
	pgx.Batch
	telling bool   // other nodes are told of it
	began   moment // when it has run
}

// moment is a time by the clock of a server, which the time of its start tells
// from others.
type moment struct{ server, clock time.Time }

// newBatch begins a batch with the settings that all of them need.
func newBatch(ctx context.Context) *batch {
	return batchFrom(startBatch, lockTimeout(ctx, longestLockWait))
}

func batchFrom(start, lockTimeout string) *batch {
	b := &batch{}
	b.first(start, lockTimeout)
	return b
}

// newTellingBatch begins a batch of which other nodes are told.
func (s *Store) newTellingBatch(ctx context.Context, payloads ...string) *batch {
	return s.tellingFrom(startTelling, lockTimeout(ctx, longestLockWait), payloads)
}

func (s *Store) tellingFrom(start, lockTimeout string, payloads []string) *batch {
	b := &batch{telling: true}
	b.first(start, lockTimeout, s.channel, payloads)
	return b
}

func (b *batch) first(sql string, args ...any) {
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			into := make([]any, len(rows.FieldDescriptions()))
			into[0], into[1] = &b.began.server, &b.began.clock
			if err := rows.Scan(into...); err != nil {
				return err
			}
		}
		return rows.Err()
	})
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

// send runs the statements of b. Those of a pipeline are one transaction.
// Results count only when it returns nil.
func send(ctx context.Context, pool *pgxpool.Pool, b *batch) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return notDone{error: err}
	}
	defer conn.Release()
	if !b.telling {
		return conn.SendBatch(ctx, &b.Batch).Close()
	}
	// It takes over the transaction of the pipeline. At the start of it, a
	// statement that fails would leave a transaction behind.
	b.Queue(`BEGIN`)
	return commitTelling(ctx, conn, &b.Batch)
}

// commitTelling commits what b, or the transaction that is open, has written and
// notified, and then waits until it is durable.
func commitTelling(ctx context.Context, conn *pgxpool.Conn, b *pgx.Batch) error {
	committed := false
	b.Queue(`COMMIT`).Exec(func(pgconn.CommandTag) error {
		committed = true
		return nil
	})
	b.Queue(makeDurable)
	err := conn.SendBatch(ctx, b).Close()
	if err != nil && committed {
		return notDurable{err}
	}
	return err
}

// transaction is one that takes several round trips.
type transaction struct {
	pgx.Tx
	payloads []string
}

// tell has other nodes told when it is committed.
func (tx *transaction) tell(payloads ...string) { tx.payloads = append(tx.payloads, payloads...) }

// begin runs do in a transaction. do sees the lock timeout of batches.
func (s *Store) begin(ctx context.Context, pool *pgxpool.Pool, do func(*transaction) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return notDone{error: err}
	}
	defer conn.Release()
	opened, err := conn.Begin(ctx)
	if err != nil {
		return notDone{error: err}
	}
	tx := &transaction{Tx: opened}
	err = tx.SendBatch(ctx, &newBatch(ctx).Batch).Close()
	if err == nil {
		err = do(tx)
	}
	if err != nil {
		cut := conn.Conn().IsClosed()
		// A rollback that fails closes the connection, which rolls back too.
		_ = tx.Rollback(ctx)
		return notDone{err, cut}
	}
	if len(tx.payloads) == 0 {
		return tx.Commit(ctx)
	}
	var last pgx.Batch
	last.Queue(notifyAtLast, "off", s.channel, tx.payloads)
	return commitTelling(ctx, conn, &last)
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
			s.cache.Disown() // it may still be committed
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
