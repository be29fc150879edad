package memstore

import (
	"context"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// StartPruning implements session.Pruner.
func (s *Store) StartPruning() {
	interval := s.opts.PruneInterval
	if interval < 0 {
		interval = time.Minute
	}
	s.prune.Start(func(ctx context.Context) {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if _, err := s.PruneNow(ctx); err != nil {
					return // stopped or closed; nothing else can fail
				}
			}
		}
	})
}

// StopPruning implements session.Pruner.
func (s *Store) StopPruning(ctx context.Context) error {
	return wrap("stop pruning", s.prune.Stop(ctx))
}

// PruneNow implements session.Pruner. It empties the rows of expired sessions,
// and forgets dead ones when RetireGrace after their bucket has passed.
func (s *Store) PruneNow(ctx context.Context) (p session.Pruned, err error) {
	err = s.read(ctx, "prune", func(now time.Time) error {
		oldest := session.BucketOf(now.Add(-s.opts.RetireGrace))
		for hash, r := range s.table.rows {
			if !r.ended && !r.live(now) {
				s.table.end(r)
				r.expired = true
				p.Emptied++
			}
			// The bucket, not the deadline: until it has passed, another
			// deadline would make the key good again.
			if r.bucket < oldest {
				delete(s.table.rows, hash)
				p.Rows++
			}
		}
		s.stats.Pruned.Rows += p.Rows
		s.stats.Pruned.Emptied += p.Emptied
		s.stats.Maintained = now
		return nil
	})
	return p, err
}
