package pgstore

import (
	"sync/atomic"

	"github.com/sojourn-go/sojourn/session"
)

type counters struct {
	gets                                      reads
	probes                                    atomic.Uint64
	creates, saves, touches, renews, destroys atomic.Uint64
	refused                                   atomic.Uint64
	backgroundErrors, lateFailures            atomic.Uint64
	refusedByServer                           atomic.Uint64
}

// reads is a counter whose parts have cache lines of their own: one that all
// readers share would be what they wait for.
type reads [16]struct {
	n atomic.Uint64
	_ [56]byte
}

func (r *reads) add(key session.Key) { r[key.Hash[len(key.Hash)-1]%16].n.Add(1) }

func (r *reads) load() (n uint64) {
	for i := range r {
		n += r[i].n.Load()
	}
	return n
}

// Stats implements session.Statser.
func (s *Store) Stats() session.Stats {
	f := s.table.Known.Load()
	c := &s.stats
	st := session.Stats{
		Gets: c.gets.load(), Probes: c.probes.Load(),
		Creates: c.creates.Load(), Saves: c.saves.Load(), Touches: c.touches.Load(),
		Renews: c.renews.Load(), Destroys: c.destroys.Load(), Refused: c.refused.Load(),
		Flushes: s.writes.Flushes.Load(), Retries: s.conns.Retries.Load(), Unknown: s.writes.Unknown.Load(),
		BackgroundErrors: c.backgroundErrors.Load(),
		LateTouches:      s.promised.len(), LateTouchFailures: c.lateFailures.Load(),
		Partitions: len(f.Partitions),
		Maintained: f.Maintained.Done, MaintainedBy: f.Maintained.By,
		MadeAhead: f.Made, Retired: f.Retired, Thinned: f.Thinned,
		Refreshed: f.ReadAt,
	}
	for _, l := range s.writes.Lanes() {
		st.Queue = st.Queue.Add(l.Queue.Stats())
	}
	s.pruning.Report(&st)
	st.Cache = s.cache.Stats()
	st.Cache.RefusedByServer, st.Cache.QueueUsage = c.refusedByServer.Load(), f.QueueUsage
	return st
}
