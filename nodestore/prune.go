package nodestore

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Prune removes the sessions that have expired, whatever their prefix, and
// returns how many. It looks through the whole table, and each statement removes
// up to Options.PruneBatch rows, which it finds first, so that no other row is
// locked. The next pass by time is due an interval later.
func (s *Store) Prune(ctx context.Context) (int64, error) {
	start := time.Now()
	n, err := s.removeExpired(ctx)
	if err == nil {
		s.waitAnew()
	}
	return n, s.done("prune", start, written(ctx, err))
}

func (s *Store) removeExpired(ctx context.Context) (int64, error) {
	return s.removeAll(ctx, s.q.pageExpired, s.q.removeExpired, func(string) bool { return true })
}

// Clear removes all sessions of this layout's prefix, live or not, and returns
// how many rows that were. Sessions that are created meanwhile may stay.
func (s *Store) Clear(ctx context.Context) (int64, error) {
	start := time.Now()
	n, err := s.removeAll(ctx, s.q.pageAll, s.q.remove, s.mine)
	return n, s.done("clear", start, written(ctx, err))
}

// removeAll removes the rows that page lists and want wants.
func (s *Store) removeAll(ctx context.Context, page pageQuery, remove *query, want func(key string) bool) (total int64, err error) {
	size, from, after := s.opts.PruneBatch, page.first, ""
	for read := size; read == size; from = page.next {
		if err := s.begun(ctx); err != nil {
			return total, err
		}
		v := s.mineNow()
		v["after"], v["limit"] = after, int64(size)
		var keys []string
		err := s.query(ctx, from, v, func() { read, keys = 0, nil }, func(rows *sql.Rows) error {
			key, _, err := scanID(rows)
			read, after = read+1, key
			if want(key) {
				keys = append(keys, key)
			}
			return err
		})
		if err != nil {
			return total, err
		}
		if len(keys) == 0 {
			continue
		}
		for i := range size { // the last one is repeated: the text is always the same
			v[nth("id", i)] = keys[min(i, len(keys)-1)]
		}
		err = s.retry(ctx, func() error {
			n, err := s.exec(ctx, nil, remove, v)
			total += n
			return err
		})
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// StartPruning has expired sessions removed in the background: each
// Options.PruneInterval, and for Options.PruneRequests, by the process that
// Options.Leader chooses. It does nothing if that is so already.
func (s *Store) StartPruning() {
	byTime := s.timed.Swap(true)
	s.pruning.Start(s.prune)
	if !byTime && s.opts.PruneRequests > 0 { // it may run already, without a time
		s.waitAnew()
	}
}

// StopPruning ends what StartPruning began, and waits for it no longer than ctx
// lasts.
func (s *Store) StopPruning(ctx context.Context) error {
	if s.closed.Load() {
		return wrap("stop pruning", session.ErrClosed)
	}
	return wrap("stop pruning", s.pruning.Stop(ctx))
}

func (s *Store) prune(ctx context.Context) {
	if s.opts.Leader == nil {
		_ = s.keepPruning(ctx) // it ends with ctx
		return
	}
	for {
		if err := s.opts.Leader(ctx, s.keepPruning); err != nil && ctx.Err() == nil {
			s.backgroundError("elect who prunes", err)
		}
		if !wait.Sleep(ctx, s.opts.nextPrune()) {
			return
		}
	}
}

// keepPruning prunes until ctx ends.
func (s *Store) keepPruning(ctx context.Context) error {
	for s.waitForPass(ctx) {
		n, err := s.removeExpired(ctx)
		if err != nil && ctx.Err() == nil && !s.closed.Load() {
			s.backgroundError("prune", err)
		}
		if n > 0 {
			s.log.Info("pruned", zap.Int64("rows", n))
		}
	}
	return nil
}

// waitForPass waits until a pass is due. It reports whether ctx lasted.
func (s *Store) waitForPass(ctx context.Context) bool {
	for {
		var due <-chan time.Time
		stop := func() bool { return true }
		if s.timed.Load() {
			timer := time.NewTimer(s.opts.nextPrune())
			due, stop = timer.C, timer.Stop
		}
		select {
		case <-due:
			return true
		case <-s.asked:
			stop()
			return true
		case <-s.anew:
			stop()
		case <-ctx.Done():
			stop()
			return false
		}
	}
}

// waitAnew begins the wait for the next pass by time again.
func (s *Store) waitAnew() { signal(s.anew) }

// signal leaves a signal, if there is none.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// countRequest asks for a pass with one of so many calls.
func (s *Store) countRequest() {
	if n := s.opts.PruneRequests; n > 0 && rand.N(n) == 0 {
		signal(s.asked)
	}
}

// backgroundError reports a failure that no caller is waiting for.
func (s *Store) backgroundError(doing string, err error) {
	err = wrap(doing, err)
	s.log.Error("background work failed", zap.String("work", doing), zap.Error(err))
	if s.opts.OnError != nil {
		s.opts.OnError(err)
	}
}
