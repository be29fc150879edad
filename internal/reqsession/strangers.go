package reqsession

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
)

const (
	// strangersPerSecond is how many look-ups a second may find nothing, for long;
	// strangersAtOnce how many may after a time in which fewer did.
	strangersPerSecond = 250
	strangersAtOnce    = 500
	// acquaintances is how many sessions are remembered, at most.
	acquaintances = 1 << 14
)

// Strangers bounds what a node spends on IDs of which there never was a session:
// anybody can make them up. A look-up of one uses up a share, of which there are so
// many a second. While none is left, a request with an ID that this node has not
// met lately waits for one. It is looked up then: no session is hidden. IDs that
// have been met take no share and do not wait, as long as their session is there.
//
// Those who wait ask again at random. So those who give up leave nothing, and one
// of many waits no longer than their number explains.
type Strangers struct {
	waiting atomic.Int64
	mu      sync.Mutex
	shares  float64   // at the time of at
	at      time.Time // zero: all are there
	met     [acquaintances]atomic.Uint64
}

// LookedUp is what came of a look-up.
type LookedUp int

// The outcomes of a look-up.
const (
	Stranger   LookedUp = iota // there never was such a session
	Met                        // there is, or was
	Unanswered                 // nobody knows
)

// LookUp runs a look-up of the session whose key has that hash, when it may. The
// error is that of ctx if ctx ends before.
func (s *Strangers) LookUp(ctx context.Context, hash [32]byte, lookUp func() LookedUp) error {
	mark := binary.BigEndian.Uint64(hash[:8])
	place := &s.met[binary.BigEndian.Uint64(hash[8:16])%acquaintances]
	if place.Load() == mark {
		if lookUp() == Stranger {
			place.CompareAndSwap(mark, 0)
			s.take()
		}
		return nil
	}
	for !s.take() {
		if !s.pause(ctx) {
			return wait.Ended(ctx)
		}
	}
	switch lookUp() {
	case Met:
		place.Store(mark)
		s.giveBack()
	case Unanswered:
		s.giveBack()
	}
	return nil
}

// pause waits, the longer the more do. It reports whether ctx lasted.
func (s *Strangers) pause(ctx context.Context) bool {
	const least, most = 20 * time.Millisecond, time.Second
	waiting := s.waiting.Add(1)
	defer s.waiting.Add(-1)
	return wait.Sleep(ctx, rand.N(2*min(least+time.Duration(waiting)*time.Second/strangersPerSecond/4, most)))
}

// take takes a share, if there is one.
func (s *Strangers) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.at.IsZero() {
		s.shares = strangersAtOnce
	}
	s.shares = min(s.shares+now.Sub(s.at).Seconds()*strangersPerSecond, strangersAtOnce)
	s.at = now
	if s.shares < 1 {
		return false
	}
	s.shares--
	return true
}

func (s *Strangers) giveBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares++
}
