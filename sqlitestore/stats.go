package sqlitestore

import (
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

type counters struct {
	gets                                      atomic.Uint64
	creates, saves, touches, renews, destroys atomic.Uint64
	refused, backgroundErrors                 atomic.Uint64
}

// Stats implements session.Statser.
func (s *Store) Stats() session.Stats {
	c := &s.stats
	st := session.Stats{
		Gets:    c.gets.Load(),
		Creates: c.creates.Load(), Saves: c.saves.Load(), Touches: c.touches.Load(),
		Renews: c.renews.Load(), Destroys: c.destroys.Load(), Refused: c.refused.Load(),
		Flushes: s.writer.flushes.Load(), Retries: s.writer.retries.Load(), Unknown: s.writer.unknown.Load(),
		BackgroundErrors: c.backgroundErrors.Load(),
		Queue:            s.writer.Queue.Stats(),
	}
	s.pruning.report(&st)
	return st
}

// turn is which process pruned last and when, as this process knows it.
type turn struct {
	at      time.Time
	by      string
	sweptTo int64
}
