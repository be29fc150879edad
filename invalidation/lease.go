package invalidation

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Cause is why the cache was emptied.
type Cause int

const (
	CauseDisconnect Cause = iota // the listening connection was lost
	CauseSilence                 // it was cut because heartbeats did not come back
	CauseClock                   // the machine was suspended, or its clock set
	CausePayload                 // a message that this version does not know
	causeCount
)

// String returns the cause in a word.
func (c Cause) String() string {
	switch c {
	case CauseDisconnect:
		return "disconnect"
	case CauseSilence:
		return "silence"
	case CauseClock:
		return "clock"
	case CausePayload:
		return "payload"
	}
	return "unknown"
}

// LeaseChange says that the cache began to answer, or stopped.
type LeaseChange struct {
	Held bool
	// Err is why it stopped.
	Err error
}

var errClocks = errors.New("the machine was suspended or its clock was set")

// leaseState is what the proof comes from.
type leaseState struct {
	mu     sync.Mutex
	beats  []beat // that have not come back, the oldest first
	held   bool
	last   *Instant     // when the newest heartbeat came back
	joined atomic.Int64 // the lease as a time.Duration, for Join
	clears int          // Writes of all that have not come to their End
}

type beat struct {
	nonce     nonce
	sent      Instant
	lease     time.Duration
	committed bool
}

// maxBeats is how many heartbeats may be on their way.
const maxBeats = 64

func (l *leaseState) length() time.Duration { return time.Duration(l.joined.Load()) }

// Heartbeat is a message that a node sends to itself.
type Heartbeat struct{ nonce nonce }

// Payload is what has to be sent.
func (h Heartbeat) Payload() string { return payload(kindHeartbeat, h.nonce[:]) }

// Beat returns a new heartbeat, which has to be sent through the connections
// that write. The time counts from now: once the heartbeat comes back, the
// messages of everything that was acknowledged before have come in. lease is
// for how long the heartbeat proves that.
func (c *Cache) Beat(lease time.Duration) Heartbeat {
	b := beat{lease: lease, sent: c.now()}
	rand.Read(b.nonce[:]) // never fails: crypto/rand ends the program instead
	l := &c.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	l.joined.Store(int64(lease))
	if len(l.beats) == maxBeats {
		c.stats.lost(l.beats[:1])
		l.beats = l.beats[1:]
	}
	l.beats = append(l.beats, b)
	return Heartbeat{b.nonce}
}

// Committed says that h has been sent and committed, so that it has to come
// back.
func (c *Cache) Committed(h Heartbeat) {
	l := &c.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.beats {
		if l.beats[i].nonce == h.nonce {
			l.beats[i].committed = true
		}
	}
}

// Silent reports whether a heartbeat that was committed has not come back for
// longer than its lease: the connection that listens is not to be trusted.
func (c *Cache) Silent() bool {
	l := &c.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	now := c.now()
	for _, b := range l.beats {
		if b.committed && !b.sent.recent(now, b.lease) {
			return true
		}
	}
	return false
}

// Listening says that notifications come in from now on, from the server that
// was started at the given time. It must be called when LISTEN was committed
// and before the first Receive. Then reads that begin now see what was written
// before, and entries of an earlier time are not used any more.
func (c *Cache) Listening(server time.Time) error {
	l := &c.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	ep, err := c.newEpoch(server)
	if err != nil {
		return err
	}
	c.proof.Store(nil)
	c.stats.lost(l.beats)
	l.beats = nil
	c.epoch.Store(ep)
	return nil
}

// Gap says that notifications may have been missed. Nothing is answered or
// stored until Listening is called again.
func (c *Cache) Gap(cause Cause, err error) {
	c.proof.Store(nil) // before anything else
	l := &c.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	c.proof.Store(nil) // an echo may just have come in
	if c.epoch.Swap(nil) != nil {
		c.stats.gaps[cause].Add(1)
	}
	c.stats.lost(l.beats)
	l.beats = nil
	c.drop(fmt.Errorf("invalidation: %v: %w", cause, err))
}

// flush empties the cache while notifications go on coming in. The caller holds
// l.mu.
func (c *Cache) flush(cause Cause, why error) {
	c.proof.Store(nil)
	if ep := c.epoch.Load(); ep != nil {
		next, err := c.newEpoch(ep.server)
		if err != nil { // then nothing is stored until Listening
			next = nil
		}
		c.epoch.Store(next)
		c.stats.gaps[cause].Add(1)
	}
	c.drop(fmt.Errorf("invalidation: %v: %w", cause, why))
}

// drop reports that the lease is gone, if it was there.
func (c *Cache) drop(why error) {
	l := &c.lease
	if !l.held {
		return
	}
	l.held = false
	if c.onLease != nil {
		c.onLease(LeaseChange{Err: why})
	}
}

// Check reports to OnLease what no message tells: that the lease has lapsed, or
// that the clocks have jumped. Get sees both by itself; without Check OnLease
// would be called late.
func (c *Cache) Check() {
	l := &c.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	now, p := c.now(), c.proof.Load()
	switch {
	case p == nil:
	case p.sent.jumped(now):
		c.flush(CauseClock, errClocks)
		l.last = &now // the next echo shall not find the same jump
	case !p.holds(now):
		c.proof.Store(nil)
		c.drop(ErrLapsed)
	}
}

// Receive applies a payload. Payloads must be given to it in the order in which
// they come in, by the goroutine that receives them. Otherwise the echo of a
// heartbeat could overtake what it vouches for. partitions says that the
// partitions have changed. An error says that the payload was not understood;
// the cache was emptied then.
func (c *Cache) Receive(payload string) (partitions bool, err error) {
	m, err := parse(payload)
	switch {
	case err != nil:
		c.lease.mu.Lock()
		defer c.lease.mu.Unlock()
		c.flush(CausePayload, err)
		return false, fmt.Errorf("invalidation: %w", err)
	case m.kind == kindHeartbeat:
		c.echo(m.nonce)
	case m.kind == kindPartitions:
		return true, nil
	case m.sender == c.Sender():
		if m.kind == kindKeys {
			c.hide(m.tokens)
		}
	default:
		c.apply(m)
	}
	return false, nil
}

func (c *Cache) apply(m message) {
	c.stats.messages.Add(1)
	switch m.kind {
	case kindKeys:
		for _, t := range m.tokens {
			c.invalidate(t)
		}
	case kindUser:
		c.invalidateUser(m.tokens[0])
	case kindAll:
		c.invalidateAll()
	}
}

// echo takes a heartbeat that has come back. Heartbeats of other nodes, and
// heartbeats that were sent before a gap, are of no use.
func (c *Cache) echo(n nonce) {
	l := &c.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.beats, func(b beat) bool { return b.nonce == n })
	if i < 0 {
		return
	}
	b, now := l.beats[i], c.now()
	c.stats.lost(l.beats[:i])
	l.beats = l.beats[i+1:]
	c.stats.echo(now.Mono - b.sent.Mono)
	if l.last != nil && l.last.jumped(now) {
		c.flush(CauseClock, errClocks)
	}
	l.last = &now
	ep := c.epoch.Load()
	if ep == nil || !b.sent.recent(now, b.lease) {
		return
	}
	c.proof.Store(&proof{epoch: ep, sent: b.sent, lease: b.lease})
	if !l.held {
		l.held = true
		if c.onLease != nil {
			c.onLease(LeaseChange{Held: true})
		}
	}
}

// invalidateAll takes everything out of the cache, and out of the reads that
// are under way. The lease stays: what is read from now on is current.
func (c *Cache) invalidateAll() {
	l := &c.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	c.empty()
}

// empty does the work of invalidateAll. The caller holds l.mu.
func (c *Cache) empty() {
	c.moment.Add(1) // nobody joins a read that is under way, listening or not
	ep, p := c.epoch.Load(), c.proof.Load()
	if ep == nil {
		return
	}
	next, err := c.newEpoch(ep.server)
	c.proof.Store(nil)
	c.epoch.Store(next)
	if p != nil && err == nil {
		c.proof.Store(&proof{epoch: next, sent: p.sent, lease: p.lease})
	}
}
