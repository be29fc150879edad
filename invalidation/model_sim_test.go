package invalidation

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// The model runs the Cache itself, on several nodes, against a database and
// connections that are simulated: one goroutine, a virtual clock, and every
// choice made by one seed.

const (
	modelLease  = 2 * time.Second
	modelBeat   = 500 * time.Millisecond
	modelActive = 10 * time.Second // faults and writes happen
	modelCalm   = 7 * time.Second  // then all heals, and caches have to answer again
)

type sim struct {
	rng     *rand.Rand
	profile simProfile
	now     time.Duration
	events  []simEvent // a heap
	count   uint64
	db      *simDB
	nodes   []*simNode
	failure string
	tracing bool
	history []string
}

// simEvent is something that is done at a time, by a node or, if that is nil, by
// the world.
type simEvent struct {
	at      time.Duration
	count   uint64
	node    *simNode
	receive bool // by the node's receiving goroutine
	do      func()
}

func (e simEvent) before(o simEvent) bool { return e.at < o.at || e.at == o.at && e.count < o.count }

// at plans do. Events of the same time happen in the order in which they were
// planned.
func (s *sim) at(t time.Duration, n *simNode, do func()) {
	s.push(simEvent{at: max(t, s.now), node: n, do: do})
}

func (s *sim) after(d time.Duration, n *simNode, do func()) { s.at(s.now+d, n, do) }

func (s *sim) push(e simEvent) {
	s.count++
	e.count = s.count
	h := append(s.events, e)
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
	s.events = h
}

func (s *sim) pop() simEvent {
	h := s.events
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], simEvent{}
	h = h[:last]
	for i := 0; ; {
		least := i
		for _, child := range [...]int{2*i + 1, 2*i + 2} {
			if child < last && h[child].before(h[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	s.events = h
	return first
}

// run lets everything happen that is planned up to the given time, or until
// the first violation.
func (s *sim) run(until time.Duration) {
	for len(s.events) > 0 && s.events[0].at <= until && s.failure == "" {
		e := s.pop()
		s.now = e.at
		if e.node != nil && e.node.paused {
			e.node.backlog = append(e.node.backlog, e)
			continue
		}
		e.do()
	}
	if s.failure == "" {
		s.now = until
	}
}

// chance is true with probability p.
func (s *sim) chance(p float64) bool { return s.rng.Float64() < p }

func (s *sim) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rng.Int64N(int64(most-least)+1))
}

// delay is how long something takes on its way through a network or a server:
// mostly little, sometimes longer than a lease.
func (s *sim) delay() time.Duration {
	switch p := s.rng.Float64(); {
	case s.now >= modelActive:
		return s.between(0, 3*time.Millisecond)
	case p < s.profile.slow:
		return s.between(0, 3*modelLease)
	case p < 3*s.profile.slow:
		return s.between(0, modelLease/4)
	}
	return s.between(0, 3*time.Millisecond)
}

// logf notes what happens, when a seed is run again to show why it failed.
func (s *sim) logf(n *simNode, format string, args ...any) {
	if !s.tracing {
		return
	}
	who := "-"
	if n != nil {
		who = n.name
	}
	s.history = append(s.history, fmt.Sprintf("%9.4fs %s %s", s.now.Seconds(), who, fmt.Sprintf(format, args...)))
}

func (s *sim) fail(n *simNode, format string, args ...any) {
	if s.failure == "" {
		s.failure = fmt.Sprintf("at %.4fs node %s: %s", s.now.Seconds(), n.name, fmt.Sprintf(format, args...))
	}
}

// report is the violation and what led to it.
func (s *sim) report(most int) string {
	lines := s.history[max(0, len(s.history)-most):]
	return s.failure + "\n" + strings.Join(lines, "\n")
}
