package mysqlstore

import (
	"sync/atomic"

	"github.com/sojourn-go/sojourn/session"
)

type counters struct {
	gets                                      atomic.Uint64
	creates, saves, touches, renews, destroys atomic.Uint64
	refused, backgroundErrors                 atomic.Uint64
	flushes, retries, unknown                 atomic.Uint64
}

// Stats implements session.Statser.
func (s *Store) Stats() session.Stats {
	c := &s.stats
	st := session.Stats{
		Gets:    c.gets.Load(),
		Creates: c.creates.Load(), Saves: c.saves.Load(), Touches: c.touches.Load(),
		Renews: c.renews.Load(), Destroys: c.destroys.Load(), Refused: c.refused.Load(),
		Flushes: c.flushes.Load(), Retries: c.retries.Load(), Unknown: c.unknown.Load(),
		BackgroundErrors: c.backgroundErrors.Load(),
	}
	for _, l := range s.allLanes() {
		st.Queue = st.Queue.Add(l.Queue.Stats())
	}
	s.pruning.report(&st)
	return st
}
