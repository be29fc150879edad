package sqlitestore

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// A transaction of pruning changes few rows, and other writes may run between
// two of them. Readers do not notice it either.
const (
	retireBatch = 500
	sweepBatch  = 500 // ids
	prunePause  = 2 * time.Millisecond
)

// retire deletes the rows whose bucket has passed, and the buckets of all keys
// that lead to them. It goes by the bucket, not the deadline: until the bucket
// has passed, another deadline would make the key good again.
func (p *pruning) retire(ctx context.Context) (done session.Pruned, err error) {
	for {
		n, err := write(ctx, p.s, func(t *tx) (int64, error) {
			before, err := t.forgotten(t.now())
			if err != nil {
				return 0, err
			}
			return t.exec(retire, int64(session.BucketOf(before)), int64(retireBatch))
		})
		done.Rows += n
		if err != nil || n < retireBatch {
			return done, err
		}
		if !wait.Sleep(ctx, prunePause) {
			return done, wait.Ended(ctx)
		}
	}
}

// sweepPart looks through the next part of the table, and begins again at its
// end.
func (p *pruning) sweepPart(ctx context.Context, after int64, done *session.Pruned) error {
	last, err := p.s.lastID(ctx)
	if err != nil {
		return err
	}
	to := min(last, after+max(last/sweepPasses, 20*sweepBatch))
	if after, err = p.sweep(ctx, after, to, done); err != nil {
		return err
	}
	if after >= last {
		after = 0
	}
	_, err = write(ctx, p.s, func(t *tx) (int64, error) { return t.exec(setSwept, after) })
	return err
}

// sweep makes tombstones of sessions with ids above after, up to to, that have
// been idle for longer than any write that began before can last. It returns up
// to where it came.
func (p *pruning) sweep(ctx context.Context, after, to int64, done *session.Pruned) (int64, error) {
	for after < to {
		first, found, err := p.s.idle(ctx, after)
		if err != nil {
			return after, err
		}
		if first == 0 { // no row is left
			return to, nil
		}
		after = first + sweepBatch - 1
		if !found {
			continue
		}
		n, err := write(ctx, p.s, func(t *tx) (int64, error) {
			before, err := t.forgotten(t.now())
			if err != nil {
				return 0, err
			}
			return t.exec(sweep, first, first+sweepBatch, storekit.Micros(before))
		})
		done.Emptied += n
		if err != nil {
			return after, err
		}
		if !wait.Sleep(ctx, prunePause) {
			return after, wait.Ended(ctx)
		}
	}
	return after, nil
}

// forgotten is the time before which nobody needs to remember what died, by the
// retire grace in force.
func (c *conn) forgotten(now time.Time) (before time.Time, err error) {
	err = c.query(context.Background(), readGrace, func(v []driver.Value) error {
		scan := scanner(v)
		before = storekit.Expiry(now.Add(-time.Duration(scan.Number()) * time.Second))
		return scan.Err
	}, storekit.Micros(storekit.Expiry(now)))
	return before, err
}

// idle returns the first id above after, and whether there is anything to sweep
// in the batch that begins there.
func (s *Store) idle(ctx context.Context, after int64) (first int64, found bool, err error) {
	err = s.scan(ctx, func(c *conn) error {
		err := c.query(ctx, nextID, func(v []driver.Value) error {
			first, _ = v[0].(int64) // NULL in an empty table
			return nil
		}, after)
		if err != nil || first == 0 {
			return err
		}
		before, err := c.forgotten(s.Now())
		if err != nil {
			return err
		}
		return c.query(ctx, sweepFind, func(v []driver.Value) error {
			scan := scanner(v)
			found = scan.Number() == 1
			return scan.Err
		}, first, first+sweepBatch, storekit.Micros(before))
	})
	return first, found, err
}

func (s *Store) lastID(ctx context.Context) (last int64, err error) {
	err = s.scan(ctx, func(c *conn) error {
		return c.query(ctx, maxID, func(v []driver.Value) error {
			last, _ = v[0].(int64) // NULL in an empty table
			return nil
		})
	})
	return last, err
}
