package invalidation

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"
)

// simProfile is what kind of a world a seed is.
type simProfile struct {
	nodes    int
	slow     float64       // share of steps that may take longer than a lease
	failing  float64       // share of writes, reads and heartbeats that fail
	stalling float64       // share of writes whose answers are held up
	crashing float64       // share of writes with which the server crashes
	refuse   float64       // share of connections that are refused
	writes   time.Duration // mean time between two writes
	faults   time.Duration // mean time between two faults
	clocks   int           // what the clocks do, per node: see clockFault
}

func newProfile(rng *rand.Rand) simProfile {
	pick := func(of ...float64) float64 { return of[rng.IntN(len(of))] }
	return simProfile{
		nodes:    2 + rng.IntN(2),
		slow:     pick(0, 0.01, 0.03, 0.1),
		failing:  pick(0, 0.02, 0.1),
		stalling: pick(0, 0.05, 0.3),
		crashing: pick(0, 0, 0.03, 0.1),
		refuse:   pick(0, 0.2),
		writes:   time.Duration(pick(0.15, 0.4, 1) * float64(time.Second)),
		faults:   time.Duration(pick(0.4, 1, 3) * float64(time.Second)),
		clocks:   rng.IntN(4),
	}
}

func (simProfile) idle(s *sim) time.Duration     { return s.between(time.Second, 10*time.Second) }
func (simProfile) lifetime(s *sim) time.Duration { return s.between(3*time.Second, 25*time.Second) }

// poisson does something again and again while faults happen.
func (s *sim) poisson(mean time.Duration, do func()) {
	var again func()
	plan := func() { s.after(time.Duration(s.rng.ExpFloat64()*float64(mean)), nil, again) }
	again = func() {
		if s.now < modelActive {
			do()
			plan()
		}
	}
	plan()
}

func (s *sim) someNode() *simNode { return s.nodes[s.rng.IntN(len(s.nodes))] }

func (s *sim) someUser() string { return [...]string{"", "ada", "bob"}[s.rng.IntN(3)] }

// someWrite is one that any of the nodes begins.
func (s *sim) someWrite() {
	n := s.someNode()
	s.after(0, n, func() {
		r := n.someRow()
		switch p := s.rng.IntN(20); {
		case r == nil || p < 4:
			n.create()
		case p < 9:
			n.save(r, s.chance(0.3))
		case p < 12:
			n.destroy(r)
		case p < 14:
			n.renew(r)
		case p < 16:
			n.touch(r)
		case p < 19:
			if user := s.someUser(); user == "" {
				return
			} else if s.chance(0.3) {
				n.limit(user)
			} else {
				n.endUser(user)
			}
		case s.chance(0.3):
			n.clear()
		}
	})
}

// someFault happens to a node or to all.
func (s *sim) someFault() {
	n := s.someNode()
	switch p := s.rng.IntN(20); {
	case p < 3:
		if n.link != nil {
			n.link.slow = min(s.now+s.between(0, 4*modelLease), modelActive)
			s.logf(n, "its link is slow until %.4fs", n.link.slow.Seconds())
		}
	case p < 7:
		if n.link != nil {
			n.link.stalled = s.now + s.between(0, 2*modelLease)
			s.logf(n, "its link stalls until %.4fs", n.link.stalled.Seconds())
		}
	case p < 12:
		if n.link != nil {
			n.link.drop(s.chance(0.5))
		}
	case p < 14:
		n.pause(s.between(0, 2*modelLease), false)
	case p < 17:
		s.clockFault(n)
	case p < 18:
		s.garbage()
	case p < 19:
		if len(s.db.rows) > 0 {
			s.db.writtenByStranger(n.someRow())
		}
	case s.chance(0.5):
		s.db.crash()
	default:
		s.db.restart()
	}
}

// clockFault is a suspended machine or a clock that is set; on one node never
// both, which nobody could tell from nothing. There are also machines that are
// suspended often, but too shortly to be noticed.
func (s *sim) clockFault(n *simNode) {
	switch s.profile.clocks {
	case 1:
		n.pause(s.between(0, 3*modelLease), true)
	case 2:
		n.wall += s.between(-2*modelLease, 2*modelLease)
		s.logf(n, "its clock is set")
	}
}

// pause stops a node. What happens meanwhile is done when it goes on: what
// came in in its order, the rest in any. The monotonic clock stands still
// while a machine is suspended.
func (n *simNode) pause(d time.Duration, suspended bool) {
	if n.paused {
		return
	}
	d = min(d, modelActive+time.Second-n.now)
	n.logf(n, "stops for %v; suspended: %v", d, suspended)
	n.paused = true
	n.after(d, nil, func() {
		n.logf(n, "goes on")
		n.paused = false
		if suspended {
			n.suspended += d
		}
		var received, others []simEvent
		for _, e := range n.backlog {
			if e.receive {
				received = append(received, e)
			} else {
				others = append(others, e)
			}
		}
		n.backlog = nil
		n.rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		for len(received)+len(others) > 0 {
			from := &others
			if n.rng.IntN(len(received)+len(others)) < len(received) {
				from = &received
			}
			e := (*from)[0]
			*from = (*from)[1:]
			e.at = n.now
			n.push(e)
		}
	})
}

// garbage is what anybody who may connect to the database can send.
func (s *sim) garbage() {
	var spoofed Sender
	var forged Heartbeat
	for i := range spoofed {
		spoofed[i] = byte(s.rng.Uint32())
	}
	for i := range forged.nonce {
		forged.nonce[i] = byte(s.rng.IntN(4))
	}
	s.db.notify([]string{
		forged.Payload(), spoofed.All(), spoofed.User("ada"), spoofed.Partitions(), "1h", "3", s.nodes[0].c.Sender().All(),
	}[s.rng.IntN(7)])
}

// newSim makes a world from a seed. Caches are used for many seeds, as a new
// one is large.
func newSim(seed uint64, caches *simCaches, tracing bool) *sim {
	hash := sha256.Sum256(fmt.Append(nil, seed))
	s := &sim{rng: rand.New(rand.NewChaCha8(hash)), tracing: tracing}
	s.profile = newProfile(s.rng)
	caches.join(s, s.profile.nodes)
	for range 3 {
		s.db.create(s.db.newKey(), s.someUser(), s.profile.idle(s), s.profile.lifetime(s))
	}
	s.db.unflushed = nil
	for _, n := range s.nodes {
		s.at(s.between(0, modelLease), n, n.start)
	}
	s.poisson(s.profile.writes, s.someWrite)
	s.poisson(s.profile.faults, s.someFault)
	if s.profile.clocks == 3 {
		s.poisson(300*time.Millisecond, func() { s.someNode().pause(s.between(0, clockSlack), true) })
	}
	return s
}
