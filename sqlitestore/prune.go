package sqlitestore

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// A transaction of pruning takes about as long as a write, and other writes run
// between two of them: it waits twice as long as it took. Readers do not notice it
// either.
const (
	pruneRows   = 500
	pruneStep   = 2 * time.Millisecond
	prunePause  = 2 * time.Millisecond // at least
	pauseFactor = 2                    // of the time that the step took
)

// StartPruning implements session.Pruner. It prunes at once, unless another
// process has just done so, and then each PruneInterval.
func (s *Store) StartPruning() {
	s.engine.StartPruning(func(ctx context.Context) {
		s.engine.PruneNowAndThen(ctx, s.opts.NextPrune, s.opts.PruneInterval, s.pruneIfDue)
	})
}

// StopPruning implements session.Pruner.
func (s *Store) StopPruning(ctx context.Context) error { return s.engine.StopPruning(ctx) }

// PruneNow implements session.Pruner. Unlike the passes in the background, it
// looks through the whole table.
func (s *Store) PruneNow(ctx context.Context) (session.Pruned, error) {
	done, err := s.pruneNow(ctx)
	return done, wrap("prune", err)
}

func (s *Store) pruneNow(ctx context.Context) (done session.Pruned, err error) {
	if err := s.engine.Begun(ctx); err != nil {
		return done, err
	}
	if err := s.beginPass(ctx); err != nil {
		return done, err
	}
	defer s.endPass()
	if done, err = s.prune(ctx, false); err != nil {
		return done, err
	}
	_, err = s.takeTurn(ctx, 0)
	return done, err
}

// pruneIfDue does a pass if none was done anywhere for most of the interval. Of
// the processes that use a file, the first to be due takes the turn.
func (s *Store) pruneIfDue(ctx context.Context) error {
	if err := s.beginPass(ctx); err != nil {
		return err
	}
	defer s.endPass()
	ours, err := s.takeTurn(ctx, storekit.PruneInterval(s.opts.PruneInterval)/2)
	if err == nil && ours {
		_, err = s.prune(ctx, true)
	}
	return err
}

// takeTurn notes in the meta row that this process prunes, unless the latest turn
// is younger than age.
func (s *Store) takeTurn(ctx context.Context, age time.Duration) (ours bool, err error) {
	type answer struct {
		latest sqlstore.Turn
		ours   bool
	}
	got, err := write(ctx, s, func(t *tx) (answer, error) {
		now := t.now()
		n, err := t.exec(takeTurn, storekit.Micros(now), s.opts.NodeName, storekit.Micros(now.Add(-age)))
		if err != nil {
			return answer{}, err
		}
		latest, err := t.readTurn()
		return answer{latest, n > 0}, err
	})
	if err == nil {
		s.engine.NoteTurn(got.latest)
	}
	return got.ours, err
}

func (c *conn) readTurn() (latest sqlstore.Turn, err error) {
	err = c.query(context.Background(), readTurn, func(v []driver.Value) error {
		scan := scanner(v)
		latest = sqlstore.Turn{At: scan.MaybeTime(), By: scan.Text(), SweptTo: scan.Number()}
		return scan.Err
	})
	return latest, err
}

func (s *Store) beginPass(ctx context.Context) error {
	select {
	case s.pass <- struct{}{}:
		return nil
	case <-ctx.Done():
		return wait.Ended(ctx)
	}
}

func (s *Store) endPass() { <-s.pass }

func (s *Store) prune(ctx context.Context, part bool) (session.Pruned, error) {
	return s.engine.Prune(ctx, sqlstore.Pass{
		Table: table{s}, Rows: pruneRows, Step: pruneStep, Part: part,
		Pause: func(took time.Duration, changed int64) time.Duration {
			if changed == 0 {
				return 0 // it has only read
			}
			return max(prunePause, pauseFactor*took)
		},
	})
}

// table is what a pass does.
type table struct{ s *Store }

var _ sqlstore.Table = table{}

func (p table) Retire(ctx context.Context, most int64) (int64, error) {
	return write(ctx, p.s, func(t *tx) (int64, error) {
		before, err := t.forgotten(t.now())
		if err != nil {
			return 0, err
		}
		return t.exec(retire, int64(session.BucketOf(before)), most)
	})
}

func (p table) Sweep(ctx context.Context, after, ids int64) (first, emptied int64, err error) {
	first, found, err := p.idle(ctx, after, ids)
	if err != nil || !found {
		return first, 0, err
	}
	emptied, err = write(ctx, p.s, func(t *tx) (int64, error) {
		before, err := t.forgotten(t.now())
		if err != nil {
			return 0, err
		}
		return t.exec(sweep, first, first+ids, storekit.Micros(before))
	})
	return first, emptied, err
}

// idle returns the first ID above after, and whether there is anything to sweep
// among the IDs that begin there.
func (p table) idle(ctx context.Context, after, ids int64) (first int64, found bool, err error) {
	err = p.s.scan(ctx, func(c *conn) (err error) {
		if first, err = c.maybeNumber(ctx, nextID, after); err != nil || first == 0 {
			return err
		}
		before, err := c.forgotten(p.s.Now())
		if err != nil {
			return err
		}
		n, err := c.maybeNumber(ctx, sweepFind, first, first+ids, storekit.Micros(before))
		found = n == 1
		return err
	})
	return first, found, err
}

// forgotten is the time before which nobody needs to remember what died, by the
// retire grace in force.
func (c *conn) forgotten(now time.Time) (time.Time, error) {
	seconds, err := c.maybeNumber(context.Background(), readGrace, storekit.Micros(storekit.Expiry(now)))
	return storekit.Expiry(now.Add(-time.Duration(seconds) * time.Second)), err
}

func (p table) Extent(ctx context.Context) (last, swept int64, err error) {
	err = p.s.scan(ctx, func(c *conn) (err error) {
		if last, err = c.maybeNumber(ctx, maxID); err != nil {
			return err
		}
		latest, err := c.readTurn()
		swept = latest.SweptTo
		return err
	})
	return last, swept, err
}

func (p table) SetSwept(ctx context.Context, to int64) error {
	_, err := write(ctx, p.s, func(t *tx) (int64, error) { return t.exec(setSwept, to) })
	return err
}
