package mysqlstore

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/internal/worker"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/mysqllock"
	"github.com/sojourn-go/sojourn/session"
)

// pruning is this node's part in removing dead sessions. One node leads and
// does a pass now and then, on the very connection that holds its lock.
type pruning struct {
	s      *Store
	worker worker.Worker

	mu     sync.Mutex
	state  leader.State
	total  session.Pruned
	latest turn
}

// turn is which node pruned last and when, as this node knows it.
type turn struct {
	at      time.Time
	by      string
	sweptTo int64
}

func newPruning(s *Store) *pruning { return &pruning{s: s} }

// StartPruning implements session.Pruner.
func (s *Store) StartPruning() { s.pruning.worker.Start(s.pruning.run) }

// StopPruning implements session.Pruner.
func (s *Store) StopPruning(ctx context.Context) error {
	if s.closed.Load() {
		return wrap("stop pruning", session.ErrClosed)
	}
	return wrap("stop pruning", s.pruning.worker.Stop(ctx))
}

func (p *pruning) report(st *session.Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st.Pruned = p.total
	st.Leading, st.Term = p.state.Leading, uint64(p.state.Term)
	st.Maintained, st.MaintainedBy = p.latest.at, p.latest.by
}

func (p *pruning) note(latest turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latest = latest
}

func (p *pruning) add(some session.Pruned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total.Rows += some.Rows
	p.total.Emptied += some.Emptied
}

// lockKey is the number of a lock of this table.
func (s *Store) lockKey(purpose string) int64 {
	return leader.Key("sojourn", s.database, s.opts.Table, purpose)
}

func (p *pruning) run(ctx context.Context) {
	s := p.s
	err := leader.Run(ctx, mysqllock.FromPool(s.conns.db, s.lockKey("leader")), leader.Options{
		Logger: s.log,
		OnChange: func(state leader.State) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.state = state
		},
	}, p.lead)
	if err != nil && ctx.Err() == nil {
		s.backgroundError("take part in pruning", err)
	}
}

// stepLimit is how long one statement of a pass may take. It bounds how long a
// dead connection may go unnoticed.
const stepLimit = time.Minute

func (p *pruning) lead(leading context.Context, term *leader.Term[*sql.Conn]) error {
	s := p.s
	var c *conn // the term's, once it is set up
	step := func(ctx context.Context, f func(context.Context, *conn) error) error {
		return term.Do(ctx, stepLimit, func(ctx context.Context, sc *sql.Conn) (err error) {
			if c == nil {
				if c, err = adopt(ctx, sc, s.conns.texts, s.conns.charset); err != nil {
					c = nil
					return err
				}
			}
			return f(ctx, c)
		})
	}
	for {
		_, err := (&pass{p: p, step: step, part: true}).run(leading)
		switch {
		case leading.Err() != nil:
			return nil
		case errors.Is(err, errPassTaken): // by a PruneNow: that will do
		case err != nil:
			s.backgroundError("prune", err)
		}
		if !wait.Sleep(leading, storekit.NextPrune(s.opts.NextPrune, storekit.PruneInterval(s.opts.PruneInterval))) {
			return nil
		}
	}
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
			step := func(ctx context.Context, f func(context.Context, *conn) error) error { return f(ctx, c) }
			done, err = (&pass{p: s.pruning, step: step}).run(ctx)
			return err
		})
		if !errors.Is(err, errPassTaken) || !storekit.Backoff().Pause(ctx, try) {
			return done, wait.Because(ctx, err)
		}
	}
}

// pass is one of pruning. Only one is under way at a time.
type pass struct {
	p *pruning
	// step calls f with the connection of the pass: all is done on one.
	step func(ctx context.Context, f func(context.Context, *conn) error) error
	part bool // look through a part of the table only
	done session.Pruned
}

var errPassTaken = errors.New("another node prunes")

func (w *pass) run(ctx context.Context) (session.Pruned, error) {
	s := w.p.s
	if err := w.step(ctx, w.take); err != nil {
		return w.done, err
	}
	err := w.all(ctx)
	if w.done != (session.Pruned{}) {
		s.log.Info("pruned", zap.Int64("rows", w.done.Rows), zap.Int64("emptied", w.done.Emptied))
	}
	// If that fails the connection is gone, and the lock with it.
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if gone := w.step(bye, w.give); err == nil && ctx.Err() == nil {
		err = gone
	}
	return w.done, err
}

func (w *pass) all(ctx context.Context) error {
	if err := w.retire(ctx); err != nil {
		return fmt.Errorf("delete what is past its deadline: %w", err)
	}
	if err := w.sweep(ctx); err != nil {
		return fmt.Errorf("empty what has long been idle: %w", err)
	}
	return w.step(ctx, func(ctx context.Context, c *conn) error {
		if _, err := c.exec(ctx, one(takeTurn), []byte(w.p.s.opts.NodeName)); err != nil {
			return err
		}
		f, err := c.facts(ctx)
		if err == nil {
			w.p.note(f.latest)
		}
		return err
	})
}

// passLock is the name of the lock that a pass holds.
func (s *Store) passLock() []byte {
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], uint64(s.lockKey("pass")))
	return []byte("sojourn-prune:" + hex.EncodeToString(key[:]))
}

func (w *pass) take(ctx context.Context, c *conn) error {
	got, _, err := c.maybeNumber(ctx, takePass, w.p.s.passLock(), int64(0))
	if err == nil && got != 1 {
		return errPassTaken
	}
	return err
}

func (w *pass) give(ctx context.Context, c *conn) error {
	_, _, err := c.maybeNumber(ctx, givePass, w.p.s.passLock())
	if err != nil {
		c.broken = true
	}
	return err
}

// backgroundError reports a failure that no caller is waiting for.
func (s *Store) backgroundError(doing string, err error) {
	err = wrap(doing, err)
	s.log.Error("background work failed", zap.String("work", doing), zap.Error(err))
	s.stats.backgroundErrors.Add(1)
	if s.opts.OnError != nil {
		s.opts.OnError(err)
	}
}
