package mysqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"

	"github.com/sojourn-go/sojourn/internal/mysqlconn"
	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/mysqllock"
	"github.com/sojourn-go/sojourn/session"
)

// StartPruning implements session.Pruner. One node leads and does a pass now and
// then, on the very connection that holds its lock.
func (s *Store) StartPruning() { s.engine.StartPruning(s.campaign) }

// StopPruning implements session.Pruner.
func (s *Store) StopPruning(ctx context.Context) error { return s.engine.StopPruning(ctx) }

// lockKey is the number of a lock of this table.
func (s *Store) lockKey(purpose string) int64 {
	return leader.Key("sojourn", s.database, s.opts.Table, purpose)
}

func (s *Store) campaign(ctx context.Context) {
	err := leader.Run(ctx, mysqllock.FromPool(s.conns.db, s.lockKey("leader")), leader.Options{
		Logger:   s.engine.Log,
		OnChange: func(state leader.State) { s.leading.Store(&state) },
	}, s.lead)
	if err != nil && ctx.Err() == nil {
		s.engine.BackgroundError("take part in pruning", err)
	}
}

// stepLimit is how long one statement of a pass may take. It bounds how long a
// dead connection may go unnoticed.
const stepLimit = time.Minute

func (s *Store) lead(leading context.Context, term *leader.Term[*sql.Conn]) error {
	var c *conn // the term's, once it is set up
	w := table{s, func(ctx context.Context, f func(context.Context, *conn) error) error {
		return term.Do(ctx, stepLimit, func(ctx context.Context, sc *sql.Conn) (err error) {
			if c == nil {
				if c, err = adopt(ctx, sc, s.conns.texts, s.conns.charset); err != nil {
					c = nil
					return err
				}
			}
			return f(ctx, c)
		})
	}}
	s.engine.PruneNowAndThen(leading, s.opts.NextPrune, s.opts.PruneInterval, func(ctx context.Context) error {
		_, err := w.prune(ctx, true)
		if errors.Is(err, errPassTaken) { // by a PruneNow: that will do
			return nil
		}
		return err
	})
	return nil
}

// PruneNow implements session.Pruner. Unlike the passes in the background, it
// looks through the whole table.
func (s *Store) PruneNow(ctx context.Context) (session.Pruned, error) {
	done, err := s.pruneNow(ctx)
	return done, wrap("prune", err)
}

func (s *Store) pruneNow(ctx context.Context) (done session.Pruned, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return done, err
	}
	defer leave()
	for try := 1; ; try++ {
		err := s.scans.do(ctx, func(c *conn) (err error) {
			w := table{s, func(ctx context.Context, f func(context.Context, *conn) error) error { return f(ctx, c) }}
			done, err = w.prune(ctx, false)
			return err
		})
		if !errors.Is(err, errPassTaken) || !storekit.Backoff().Pause(ctx, try) {
			return done, wait.Because(ctx, err)
		}
	}
}

// table is what a pass does. Only one pass is under way at a time.
type table struct {
	s *Store
	// step calls f with the connection of the pass: all is done on one.
	step func(ctx context.Context, f func(context.Context, *conn) error) error
}

var _ sqlstore.Table = table{}

var errPassTaken = errors.New("another node prunes")

// A statement of pruning changes few rows, none of which anybody else wants, and
// then pauses for a while in proportion, so that the server has time for others.
const (
	pruneRows   = 250
	leastPause  = time.Millisecond
	mostPause   = mysqlconn.IdleTimeout / 4
	pauseFactor = 2 // of the time that the step took
)

func (w table) prune(ctx context.Context, part bool) (done session.Pruned, err error) {
	if err := w.step(ctx, w.take); err != nil {
		return done, err
	}
	done, err = w.s.engine.Prune(ctx, sqlstore.Pass{
		Table: w, Rows: pruneRows, Part: part,
		Pause: func(took time.Duration, _ int64) time.Duration {
			return min(max(leastPause, pauseFactor*took), mostPause)
		},
	})
	if err == nil {
		err = w.step(ctx, w.takeTurn)
	}
	// If that fails the connection is gone, and the lock with it.
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if gone := w.step(bye, w.give); err == nil && ctx.Err() == nil {
		err = gone
	}
	return done, err
}

// takeTurn notes in the meta row that this node has pruned.
func (w table) takeTurn(ctx context.Context, c *conn) error {
	if _, err := c.exec(ctx, one(takeTurn), []byte(w.s.opts.NodeName)); err != nil {
		return err
	}
	f, err := c.facts(ctx)
	if err == nil {
		w.s.engine.NoteTurn(f.latest)
	}
	return err
}

func (w table) Retire(ctx context.Context, most int64) (rows int64, err error) {
	err = w.step(ctx, func(ctx context.Context, c *conn) error {
		f, err := c.facts(ctx)
		if err != nil {
			return err
		}
		out, err := c.exec(ctx, one(retire), int64(session.BucketOf(f.forgotten())), most)
		rows = out.rows
		return err
	})
	return rows, err
}

// Sweep looks for idle sessions without a lock, and then locks these alone.
func (w table) Sweep(ctx context.Context, after, ids int64) (first, emptied int64, err error) {
	err = w.step(ctx, func(ctx context.Context, c *conn) (err error) {
		if first, err = c.maybeNumber(ctx, nextID, after); err != nil || first == 0 {
			return err
		}
		f, err := c.facts(ctx)
		if err != nil {
			return err
		}
		before := storekit.Micros(f.forgotten())
		var idle [][32]byte
		err = c.query(ctx, one(sweepFind), func(v []driver.Value) error {
			scan := scanner(v)
			idle = append(idle, scan.Hash())
			return scan.Err
		}, first, first+ids, before)
		if err != nil || len(idle) == 0 {
			return err
		}
		out, err := c.exec(ctx, text{sweep, sizeFor(len(idle))}, append(hashArgs(nil, idle), before)...)
		emptied = out.rows
		return err
	})
	return first, emptied, err
}

func (w table) Extent(ctx context.Context) (last, swept int64, err error) {
	err = w.step(ctx, func(ctx context.Context, c *conn) (err error) {
		if last, err = c.maybeNumber(ctx, maxID); err != nil {
			return err
		}
		f, err := c.facts(ctx)
		swept = f.latest.SweptTo
		return err
	})
	return last, swept, err
}

func (w table) SetSwept(ctx context.Context, to int64) error {
	return w.step(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, one(setSwept), to)
		return err
	})
}

// passLock is the name of the lock that a pass holds.
func (s *Store) passLock() []byte {
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], uint64(s.lockKey("pass")))
	return []byte("sojourn-prune:" + hex.EncodeToString(key[:]))
}

func (w table) take(ctx context.Context, c *conn) error {
	got, err := c.maybeNumber(ctx, takePass, w.s.passLock(), int64(0))
	if err == nil && got != 1 {
		return errPassTaken
	}
	return err
}

func (w table) give(ctx context.Context, c *conn) error {
	_, err := c.maybeNumber(ctx, givePass, w.s.passLock())
	if err != nil {
		c.broken = true
	}
	return err
}
