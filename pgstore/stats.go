package pgstore

import (
	"sync/atomic"

	"github.com/sojourn-go/sojourn/session"
)

type counters struct {
	gets, probes                              atomic.Uint64
	creates, saves, touches, renews, destroys atomic.Uint64
	refused                                   atomic.Uint64
	flushes, retries, unknown                 atomic.Uint64
	backgroundErrors                          atomic.Uint64
}

// Stats implements session.Statser.
func (s *Store) Stats() session.Stats {
	f := s.facts.Load()
	c := &s.stats
	st := session.Stats{
		Gets: c.gets.Load(), Probes: c.probes.Load(),
		Creates: c.creates.Load(), Saves: c.saves.Load(), Touches: c.touches.Load(),
		Renews: c.renews.Load(), Destroys: c.destroys.Load(), Refused: c.refused.Load(),
		Flushes: c.flushes.Load(), Retries: c.retries.Load(), Unknown: c.unknown.Load(),
		BackgroundErrors: c.backgroundErrors.Load(),
		Partitions:       len(f.leaves),
		Maintained:       f.maintained, MaintainedBy: f.maintainedBy,
	}
	s.pruning.report(&st)
	return st
}
