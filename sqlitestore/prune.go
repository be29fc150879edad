package sqlitestore

import (
	"context"
	"database/sql/driver"
	"sync"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/internal/worker"
	"github.com/sojourn-go/sojourn/session"
)

// pruning is this process's part in removing dead sessions. Of the processes
// that use a file, the first to be due takes the turn.
type pruning struct {
	s    *Store
	pass chan struct{} // held by the pass under way

	worker worker.Worker

	mu     sync.Mutex
	total  session.Pruned
	latest turn
}

func newPruning(s *Store) *pruning { return &pruning{s: s, pass: make(chan struct{}, 1)} }

// StartPruning implements session.Pruner. It prunes at once, unless another
// process has just done so, and then each PruneInterval.
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
	st.Maintained, st.MaintainedBy = p.latest.at, p.latest.by
}

func (p *pruning) run(ctx context.Context) {
	for {
		if err := p.due(ctx); err != nil && ctx.Err() == nil && !p.s.closed.Load() {
			p.s.backgroundError("prune", err)
		}
		if !wait.Sleep(ctx, storekit.NextPrune(p.s.opts.NextPrune, storekit.PruneInterval(p.s.opts.PruneInterval))) {
			return
		}
	}
}

// sweepPasses is how many passes look through the whole table for sessions that
// have been idle for long: about as many as there are in an hour by default.
const sweepPasses = 60

// due does a pass if none was done anywhere for most of the interval.
func (p *pruning) due(ctx context.Context) error {
	s := p.s
	if err := p.acquire(ctx); err != nil {
		return err
	}
	defer p.release()
	type answer struct {
		turn turn
		ours bool
	}
	got, err := write(ctx, s, func(t *tx) (answer, error) {
		now := t.now()
		n, err := t.exec(takeTurn, storekit.Micros(now), s.opts.NodeName, storekit.Micros(now.Add(-storekit.PruneInterval(s.opts.PruneInterval)/2)))
		if err != nil {
			return answer{}, err
		}
		latest, err := t.readTurn()
		return answer{latest, n > 0}, err
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.latest = got.turn
	p.mu.Unlock()
	if !got.ours {
		return nil
	}
	done, err := p.retire(ctx)
	if err == nil {
		err = p.sweepPart(ctx, got.turn.sweptTo, &done)
	}
	p.add(done)
	return err
}

// PruneNow implements session.Pruner. Unlike the passes in the background, it
// looks through the whole table.
func (s *Store) PruneNow(ctx context.Context) (session.Pruned, error) {
	done, err := s.pruning.now(ctx)
	return done, wrap("prune", err)
}

func (p *pruning) now(ctx context.Context) (done session.Pruned, err error) {
	s := p.s
	if err := s.begun(ctx); err != nil {
		return done, err
	}
	if err := p.acquire(ctx); err != nil {
		return done, err
	}
	defer p.release()
	defer func() { p.add(done) }()
	if done, err = p.retire(ctx); err != nil {
		return done, err
	}
	last, err := s.lastID(ctx)
	if err != nil {
		return done, err
	}
	if _, err := p.sweep(ctx, 0, last, &done); err != nil {
		return done, err
	}
	latest, err := write(ctx, s, func(t *tx) (turn, error) {
		now := storekit.Micros(t.now())
		if _, err := t.exec(takeTurn, now, s.opts.NodeName, now); err != nil {
			return turn{}, err
		}
		return t.readTurn()
	})
	if err != nil {
		return done, err
	}
	p.mu.Lock()
	p.latest = latest
	p.mu.Unlock()
	return done, nil
}

func (p *pruning) acquire(ctx context.Context) error {
	select {
	case p.pass <- struct{}{}:
		return nil
	case <-ctx.Done():
		return wait.Ended(ctx)
	}
}

func (p *pruning) release() { <-p.pass }

func (p *pruning) add(done session.Pruned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total.Rows += done.Rows
	p.total.Emptied += done.Emptied
	if done != (session.Pruned{}) {
		p.s.log.Info("pruned", zap.Int64("rows", done.Rows), zap.Int64("emptied", done.Emptied))
	}
}

func (t *tx) readTurn() (latest turn, err error) {
	err = t.query(context.Background(), readTurn, func(v []driver.Value) error {
		scan := scanner(v)
		latest = turn{at: scan.MaybeTime(), by: scan.Text(), sweptTo: scan.Number()}
		return scan.Err
	})
	return latest, err
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
