package db

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Batch is statements that run as one transaction, in one round trip.
type Batch struct {
	pgx.Batch
	Began ServerTime // when it has run

	notifies bool // other nodes are notified of it
}

// ServerTime is a time by the clock of a server, which the time of its start tells
// from others.
type ServerTime struct{ Server, Clock time.Time }

// NewBatch begins a batch with the settings that all batches need.
func (r Road) NewBatch(ctx context.Context) *Batch { return r.newBatch(ctx, StartBatch) }

// NewAsyncBatch begins a batch that a crash of the server may undo. It is lone
// if each of its statements is about one row.
func (r Road) NewAsyncBatch(ctx context.Context, lone bool) *Batch {
	if lone {
		return r.newBatch(ctx, startLoneAsync)
	}
	return r.newBatch(ctx, startBatchAsync)
}

// NewNotifyingBatch begins a batch of which other nodes are notified.
func (r Road) NewNotifyingBatch(ctx context.Context, payloads ...string) *Batch {
	return r.notifyingBatch(ctx, startNotifying, payloads)
}

// NewLoneNotifyingBatch is NewNotifyingBatch for statements about one row each.
func (r Road) NewLoneNotifyingBatch(ctx context.Context, payloads ...string) *Batch {
	return r.notifyingBatch(ctx, startLoneNotifying, payloads)
}

func (r Road) notifyingBatch(ctx context.Context, start string, payloads []string) *Batch {
	b := r.newBatch(ctx, start, r.opts.Channel, payloads)
	b.notifies = true
	return b
}

func (r Road) newBatch(ctx context.Context, start string, args ...any) *Batch {
	b := &Batch{}
	b.Queue(BeginSQL)
	r.pinText(&b.Batch)
	b.Queue(start, append(r.limits(ctx), args...)...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			into := make([]any, len(rows.FieldDescriptions()))
			into[0], into[1] = &b.Began.Server, &b.Began.Clock
			if err := rows.Scan(into...); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return b
}

// pinText makes texts mean what the driver takes them for.
func (c *Conns) pinText(b *pgx.Batch) {
	if c.Text {
		b.Queue(pinTexts)
	}
}

// Send runs the statements of b. Results count only when it returns nil.
func (r Road) Send(ctx context.Context, b *Batch) error {
	return r.Do(ctx, func(ctx context.Context, conn *pgxpool.Conn) error { return b.CommitOn(ctx, conn) })
}

// CommitOn runs b, which begins a transaction or ends the one that is open, and
// commits it. A transaction that notified other nodes is then made durable.
func (b *Batch) CommitOn(ctx context.Context, conn *pgxpool.Conn) error {
	done := false
	b.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		if done = tag.String() == "COMMIT"; !done {
			return notDone{error: pgx.ErrTxCommitRollback}
		}
		return nil
	})
	if b.notifies {
		b.Queue(MakeDurable)
	}
	err := conn.SendBatch(ctx, &b.Batch).Close()
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

// Transaction takes several round trips.
type Transaction struct {
	pgx.Tx
	payloads []string
}

// Notify has other nodes notified when tx is committed.
func (tx *Transaction) Notify(payloads ...string) { tx.payloads = append(tx.payloads, payloads...) }

// Begin runs do in a transaction. do sees the limits of batches.
func (r Road) Begin(ctx context.Context, do func(context.Context, *Transaction) error) error {
	return r.Do(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		opened, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: startAlone(r.limits(ctx))})
		if err != nil {
			return notDone{err, conn.Conn().IsClosed()}
		}
		tx := &Transaction{Tx: opened}
		if err := do(ctx, tx); err != nil {
			cut := conn.Conn().IsClosed()
			// A rollback that fails closes the connection, which rolls back too.
			_ = tx.Rollback(ctx)
			return notDone{err, cut}
		}
		if len(tx.payloads) == 0 {
			return tx.Commit(ctx)
		}
		last := &Batch{notifies: true}
		last.Queue(notifyAtLast, r.opts.Channel, tx.payloads)
		return last.CommitOn(ctx, conn)
	})
}
