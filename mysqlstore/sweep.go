package mysqlstore

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// A statement of pruning changes few rows, none of which anybody else wants, and
// then pauses for a while in proportion, so that the server has time for others.
const (
	retireBatch = 250
	sweepBatch  = 250 // ids
	sweepPasses = 60  // that look through the whole table: in an hour, by default
	leastPause  = time.Millisecond
	pauseFactor = 2 // of the time that the step took
)

// paced does a step and pauses.
func (w *pass) paced(ctx context.Context, f func(context.Context, *conn) error) error {
	began := time.Now()
	err := w.step(ctx, f)
	if err == nil && !wait.Sleep(ctx, max(leastPause, pauseFactor*time.Since(began))) {
		return wait.Ended(ctx)
	}
	return err
}

func (w *pass) count(some session.Pruned) {
	w.done.Rows += some.Rows
	w.done.Emptied += some.Emptied
	w.p.add(some)
}

// retire deletes the rows whose bucket has passed, and the buckets of all keys
// that lead to them. It goes by the bucket, not the deadline: until the bucket
// has passed, another deadline would make the key good again.
func (w *pass) retire(ctx context.Context) error {
	for rows := int64(retireBatch); rows == retireBatch; {
		err := w.paced(ctx, func(ctx context.Context, c *conn) error {
			f, err := c.facts(ctx)
			if err != nil {
				return err
			}
			oldest := session.BucketOf(f.forgotten())
			out, err := c.exec(ctx, one(retire), int64(oldest), int64(retireBatch))
			rows = out.rows
			w.count(session.Pruned{Rows: rows})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep makes tombstones of sessions that have been idle for longer than any
// write that began before can last. It walks through the whole table or, in the
// background, through the next part of it.
func (w *pass) sweep(ctx context.Context) error {
	var last, after int64
	err := w.step(ctx, func(ctx context.Context, c *conn) (err error) {
		if last, _, err = c.maybeNumber(ctx, maxID); err != nil || !w.part {
			return err
		}
		f, err := c.facts(ctx)
		after = f.latest.sweptTo
		return err
	})
	if err != nil {
		return err
	}
	to := last
	if w.part {
		to = min(last, after+max(last/sweepPasses, 20*sweepBatch))
	}
	for after < to {
		err := w.paced(ctx, func(ctx context.Context, c *conn) error {
			first, none, err := c.maybeNumber(ctx, nextID, after)
			if err != nil || none {
				after = to
				return err
			}
			after = first + sweepBatch - 1
			return w.sweepIDs(ctx, c, first, first+sweepBatch)
		})
		if err != nil {
			return err
		}
	}
	if !w.part {
		return nil
	}
	if after >= last {
		after = 0
	}
	return w.step(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, one(setSwept), after)
		return err
	})
}

// sweepIDs looks for idle sessions without a lock, and then locks these alone.
func (w *pass) sweepIDs(ctx context.Context, c *conn, first, end int64) error {
	f, err := c.facts(ctx)
	if err != nil {
		return err
	}
	before := storekit.Micros(f.forgotten())
	var idle [][32]byte
	err = c.query(ctx, one(sweepFind), func(v []driver.Value) error {
		scan := scanner(v)
		idle = append(idle, [32]byte(scan.Hash()))
		return scan.Err
	}, first, end, before)
	if err != nil || len(idle) == 0 {
		return err
	}
	out, err := c.exec(ctx, text{sweep, sizeFor(len(idle))}, append(hashArgs(nil, idle), before)...)
	w.count(session.Pruned{Emptied: out.rows})
	return err
}
