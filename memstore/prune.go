package memstore

import (
	"context"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// pruner owns the goroutine that prunes.
type pruner struct {
	mu     sync.Mutex
	closed bool
	cancel context.CancelFunc // nil: it does not run
	done   <-chan struct{}    // of the latest one, which awaits those before it
}

func (p *pruner) start(run func(ctx context.Context)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	before, done := p.done, make(chan struct{})
	p.cancel, p.done = cancel, done
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		run(ctx)
	}()
}

// stop ends the goroutine, if there is one, and awaits it until ctx ends.
func (p *pruner) stop(ctx context.Context, forever bool) error {
	p.mu.Lock()
	p.closed = p.closed || forever
	if p.cancel != nil {
		p.cancel()
		p.cancel = nil
	}
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// StartPruning implements session.Pruner.
func (s *Store) StartPruning() {
	interval := s.opts.PruneInterval
	if interval < 0 {
		interval = time.Minute
	}
	s.prune.start(func(ctx context.Context) {
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
	return wrap("stop pruning", s.prune.stop(ctx, false))
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
			}
			// The bucket, not the deadline: until it has passed, another
			// deadline would make the key good again.
			if r.bucket < oldest {
				delete(s.table.rows, hash)
				p.Rows++
			}
		}
		s.stats.Pruned.Rows += p.Rows
		s.stats.Maintained = now
		return nil
	})
	return p, err
}
