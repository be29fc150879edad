package invalidation

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

type cacheStats struct {
	reads                               [16]readCounter
	refusedByGeneration, refusedByEpoch atomic.Uint64
	messages, lostEchoes                atomic.Uint64
	gaps                                [causeCount]atomic.Uint64
	echoes                              [len(session.EchoTimes) + 1]atomic.Uint64
}

// readCounter has a cache line of its own: a counter that all readers share
// would be what they wait for.
type readCounter struct {
	hits, misses atomic.Uint64
	_            [48]byte
}

func (s *cacheStats) hit(key session.Key)  { s.reads[key.Hash[16]%16].hits.Add(1) }
func (s *cacheStats) miss(key session.Key) { s.reads[key.Hash[16]%16].misses.Add(1) }

func (s *cacheStats) echo(took time.Duration) {
	for i, limit := range session.EchoTimes {
		if took <= limit {
			s.echoes[i].Add(1)
			return
		}
	}
	s.echoes[len(session.EchoTimes)].Add(1)
}

// lost counts the beats that were committed: they should have come back.
func (s *cacheStats) lost(beats []beat) {
	for _, b := range beats {
		if b.committed {
			s.lostEchoes.Add(1)
		}
	}
}

// Stats returns a snapshot.
func (c *Cache) Stats() session.CacheStats {
	s := &c.stats
	out := session.CacheStats{
		RefusedByGeneration: s.refusedByGeneration.Load(),
		RefusedByEpoch:      s.refusedByEpoch.Load(),
		Messages:            s.messages.Load(),
		LostEchoes:          s.lostEchoes.Load(),
		Disconnects:         s.gaps[CauseDisconnect].Load(),
		Silences:            s.gaps[CauseSilence].Load(),
		ClockJumps:          s.gaps[CauseClock].Load(),
		UnknownPayloads:     s.gaps[CausePayload].Load(),
	}
	for i := range s.reads {
		out.Hits += s.reads[i].hits.Load()
		out.Misses += s.reads[i].misses.Load()
	}
	for i := range s.echoes {
		out.Echoes[i] = s.echoes[i].Load()
	}
	if ep := c.epoch.Load(); ep != nil {
		out.Entries, out.Bytes = ep.entries.EstimatedSize(), int64(ep.entries.WeightedSize())
	}
	out.LeaseAge = math.MaxInt64
	if p, now := c.proof.Load(), c.now(); p.holds(now) {
		out.Leased, out.LeaseAge = true, now.Mono-p.sent.Mono
	}
	return out
}
