package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// batch is statements that run as one transaction, in one round trip.
type batch struct {
	pgx.Batch
	notifies bool       // other nodes are notified of it
	began    serverTime // when it has run
}

// serverTime is a time by the clock of a server, which the time of its start tells
// from others.
type serverTime struct{ server, clock time.Time }

// newBatch begins a batch with the settings that all batches need.
func (s *Store) newBatch(ctx context.Context, r road) *batch {
	return s.batchFrom(startBatch, r.limits(ctx))
}

func (s *Store) batchFrom(start string, limits []any) *batch {
	b := &batch{}
	b.Queue(beginSQL)
	s.pinText(&b.Batch)
	b.first(start, limits...)
	return b
}

// newNotifyingBatch begins a batch of which other nodes are notified.
func (s *Store) newNotifyingBatch(ctx context.Context, r road, payloads ...string) *batch {
	return s.notifyingFrom(startNotifying, r.limits(ctx), payloads)
}

func (s *Store) notifyingFrom(start string, limits []any, payloads []string) *batch {
	b := &batch{notifies: true}
	b.Queue(beginSQL)
	s.pinText(&b.Batch)
	b.first(start, append(limits, s.channel, payloads)...)
	return b
}

// pinText makes texts mean what the driver takes them for.
func (s *Store) pinText(b *pgx.Batch) {
	if s.text {
		b.Queue(pinText)
	}
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
	answerTime = 500 * time.Millisecond

	// longestHold is how long a transaction may last where the server can bound
	// it. A transaction that waits for one lock at a time needs less.
	longestHold = 8 * time.Second
)

// lastWait is how long before its end a write waits for a lock for the last
// time. all is how long the write may take; a busy machine takes long for an
// answer too.
func lastWait(all time.Duration) time.Duration { return min(answerTime+all/8, all/2) }

// limits returns how long the server lets a statement wait for a lock and run,
// and the transaction last. They end before ctx does: the server must have time
// to say what came of it, or the outcome would be unknown.
func (r road) limits(ctx context.Context) []any {
	wait, run, hold := r.lockWait, time.Duration(0), time.Duration(0) // without a bound
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		run = max(left-answerTime, left/2, time.Millisecond)
		wait, hold = min(wait, run), longestHold
	}
	return []any{millis(wait), millis(run), millis(hold)}
}

// millis is d as the server wants it. It does not take fractions.
func millis(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// mayWait reports whether there is time to wait for a lock once more.
func (r road) mayWait(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(end) > r.lastWait)
}

// send runs the statements of b. Results count only when it returns nil.
func send(ctx context.Context, r road, b *batch) error {
	return r.do(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return commit(ctx, conn, &b.Batch, b.notifies)
	})
}

// commit runs b, which begins a transaction or ends the one that is open, and
// commits it. A transaction that notified other nodes is then made durable.
func commit(ctx context.Context, conn *pgxpool.Conn, b *pgx.Batch, notified bool) error {
	done := false
	b.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		if done = tag.String() == "COMMIT"; !done {
			return notDone{error: pgx.ErrTxCommitRollback}
		}
		return nil
	})
	if notified {
		b.Queue(makeDurable)
	}
	err := conn.SendBatch(ctx, b).Close()
	switch {
	case err == nil:
		return nil
	case done:
		return committed{err}
	}
	if _, before := errors.AsType[pgx.ErrPreprocessingBatch](err); before { // what comes last was not sent
		err = notDone{err, conn.Conn().IsClosed()}
	}
	if !conn.Conn().IsClosed() && conn.Conn().PgConn().TxStatus() != 'I' {
		// The pool closes a connection that is left in a transaction.
		_, _ = conn.Exec(ctx, `ROLLBACK`)
	}
	return err
}

// transaction takes several round trips.
type transaction struct {
	pgx.Tx
	payloads []string
}

// notify has other nodes notified when it is committed.
func (tx *transaction) notify(payloads ...string) { tx.payloads = append(tx.payloads, payloads...) }

// begin runs do in a transaction. do sees the limits of batches.
func (s *Store) begin(ctx context.Context, r road, do func(context.Context, *transaction) error) error {
	return r.do(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return s.beginOn(ctx, conn, r, do)
	})
}

func (s *Store) beginOn(ctx context.Context, conn *pgxpool.Conn, r road, do func(context.Context, *transaction) error) error {
	opened, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: startAlone(r.limits(ctx))})
	if err != nil {
		return notDone{err, conn.Conn().IsClosed()}
	}
	tx := &transaction{Tx: opened}
	if err := do(ctx, tx); err != nil {
		cut := conn.Conn().IsClosed()
		// A rollback that fails closes the connection, which rolls back too.
		_ = tx.Rollback(ctx)
		return notDone{err, cut}
	}
	if len(tx.payloads) == 0 {
		return tx.Commit(ctx)
	}
	var last pgx.Batch
	last.Queue(notifyAtLast, s.channel, tx.payloads)
	return commit(ctx, conn, &last, true)
}

// query runs a statement that only reads, on every row of which each is called.
func (s *Store) query(ctx context.Context, r road, each func(pgx.Rows) error, sql string, args ...any) error {
	return s.ask(ctx, r, func(ctx context.Context, conn *pgxpool.Conn) error {
		b := s.newRead()
		b.Queue(sql, args...).Query(each)
		return conn.SendBatch(ctx, b).Close()
	})
}

// queryRow is query for one row. Without one scan gets pgx.ErrNoRows.
func (s *Store) queryRow(ctx context.Context, r road, scan func(pgx.Row) error, sql string, args ...any) error {
	return s.ask(ctx, r, func(ctx context.Context, conn *pgxpool.Conn) error {
		b := s.newRead()
		b.Queue(sql, args...).QueryRow(scan)
		return conn.SendBatch(ctx, b).Close()
	})
}

// newRead begins a batch that only reads. It is one transaction too, in one
// round trip.
func (s *Store) newRead() *pgx.Batch {
	b := &pgx.Batch{}
	s.pinText(b)
	b.Queue(startRead)
	return b
}

// within bounds a write by Options.WriteTimeout, and by the store's end.
func (s *Store) within(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	return s.lasting(ctx, what, time.Now().Add(s.opts.WriteTimeout))
}

// lasting is within for a write that began earlier, or that has later callers.
func (s *Store) lasting(ctx context.Context, what string, until time.Time) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadlineCause(ctx, until,
		fmt.Errorf("%s took longer than Options.WriteTimeout, %v: %w", what, s.opts.WriteTimeout, context.DeadlineExceeded))
	ctx, end := context.WithCancelCause(ctx)
	lasts := context.AfterFunc(s.conns.cut, func() { end(session.ErrClosed) })
	return ctx, func() { lasts(); end(nil); cancel() }
}

// untilKnown runs a transaction until its outcome is known: it is repeated when
// others made it fail, and when its answer was lost. After a lost answer it asks
// landed, if that is not nil, whether the transaction happened; an error of landed
// means that it cannot tell. Calls with an equal same need one lock, so they take
// turns.
func (s *Store) untilKnown(ctx context.Context, r road, same any, attempt func(context.Context, road) error, landed func(context.Context) (bool, error)) error {
	ctx, cancel := s.within(ctx, "the write")
	defer cancel()
	end, _ := ctx.Deadline() // the caller's may come before the option's
	r = r.until(end)
	r.lastWait = lastWait(time.Until(end))
	var lost error
	locked := 0
	for try := 1; ; try++ {
		err := s.inTurn(ctx, same, func() error {
			return r.try(try).forLocks(ctx, locked, attempt)
		})
		if err == nil {
			return nil
		}
		f := outcomeOf(err)
		switch f {
		case txOpen:
			lost, r.own = err, true
			s.cache.Disown() // it may still be committed
		case txLocked:
			if locked++; locked > 1 {
				s.endSilent(ctx, s.control)
			}
		}
		again := lost != nil || f == txConflict || f == txLocked && r.mayWait(ctx)
		if lost != nil {
			did, cannotSay := false, error(nil)
			if landed != nil {
				did, cannotSay = landed(ctx)
			}
			switch {
			case did:
				return nil
			case !isRefusal(err):
			case landed == nil, errors.Is(cannotSay, session.ErrUnknown):
				again = false
			case cannotSay == nil:
				return err // this attempt came after the lost one
			}
		}
		if again && (f == txLocked || storekit.Backoff().Pause(ctx, try)) {
			s.stats.retries.Add(1)
			continue
		}
		if lost != nil {
			return s.outcomeOpen(ctx, lost, err)
		}
		return wait.Because(ctx, err)
	}
}

// inTurn runs do when nobody else of this node has the turn. A nil turn is
// nobody's.
func (s *Store) inTurn(ctx context.Context, of any, do func() error) error {
	if of == nil {
		return do()
	}
	end, err := s.turns.take(ctx, of)
	if err != nil {
		return notDone{error: fmt.Errorf("others wait for the same lock: %w", err)}
	}
	defer end()
	return do()
}
