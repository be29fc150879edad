package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

const readTries = 4

// Ask runs a read, within Options.ReadTimeout. It repeats the read on another
// connection when one is lost or falls silent, and when others made the read
// fail.
func (r Road) Ask(ctx context.Context, read func(context.Context, *pgxpool.Conn) error) error {
	if r.limit != 0 {
		var cancel context.CancelFunc
		ctx, cancel = r.WithinRead(ctx)
		defer cancel()
		end, _ := ctx.Deadline()
		r.limit = attemptLimit(time.Until(end))
	}
	for try := 1; ; try++ {
		err := r.Try(try).Do(ctx, read)
		if err == nil {
			return nil
		}
		again := try < readTries && ctx.Err() == nil && r.Cut.Err() == nil
		switch f := OutcomeOf(err); {
		case again && isLost(err):
			r.OwnFirst = true
		case again && (f == TxConflict || f == TxLocked) && storekit.Backoff().Pause(ctx, try):
		default:
			return wait.Because(ctx, err)
		}
		r.Retries.Add(1)
	}
}

// Query runs a statement that only reads, on every row of which each is called.
func (r Road) Query(ctx context.Context, each func(pgx.Rows) error, sql string, args ...any) error {
	return r.Ask(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		b := r.NewRead()
		b.Queue(sql, args...).Query(each)
		return conn.SendBatch(ctx, b).Close()
	})
}

// QueryRow is Query for one row. Without one scan gets pgx.ErrNoRows.
func (r Road) QueryRow(ctx context.Context, scan func(pgx.Row) error, sql string, args ...any) error {
	return r.Ask(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		b := r.NewRead()
		b.Queue(sql, args...).QueryRow(scan)
		return conn.SendBatch(ctx, b).Close()
	})
}

// NewRead begins a batch that only reads. It is one transaction too, in one
// round trip.
func (c *Conns) NewRead() *pgx.Batch {
	b := &pgx.Batch{}
	c.pinText(b)
	b.Queue(startRead)
	return b
}

// WithinRead bounds a read by Options.ReadTimeout, as long as ctx does not do so.
func (c *Conns) WithinRead(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= c.opts.ReadTimeout {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, c.opts.ReadTimeout,
		fmt.Errorf("the database did not answer within Options.ReadTimeout, %v: %w", c.opts.ReadTimeout, context.DeadlineExceeded))
}

// Within bounds a write by Options.WriteTimeout, and by the store's end.
func (c *Conns) Within(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	return c.Lasting(ctx, what, time.Now().Add(c.opts.WriteTimeout))
}

// Lasting is Within for a write that began earlier, or that has later callers.
func (c *Conns) Lasting(ctx context.Context, what string, until time.Time) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadlineCause(ctx, until,
		fmt.Errorf("%s took longer than Options.WriteTimeout, %v: %w", what, c.opts.WriteTimeout, context.DeadlineExceeded))
	ctx, end := context.WithCancelCause(ctx)
	lasts := context.AfterFunc(c.Cut, func() { end(session.ErrClosed) })
	return ctx, func() { lasts(); end(nil); cancel() }
}
