package invalidation

import (
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// simCaches are the Caches of the nodes, by the order of the nodes.
type simCaches struct {
	all  []*Cache
	node []*simNode // that use them now
}

// join gives s a database and nodes whose caches are as good as new.
func (cs *simCaches) join(s *sim, nodes int) {
	s.db = &simDB{
		sim: s, epoch: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), byKey: map[session.Key]*simRow{},
	}
	s.db.server = s.db.clock(-time.Hour)
	for i := range nodes {
		n := &simNode{
			sim: s, name: string(rune('A' + i)), wall: time.Duration(i+1) * 1000 * time.Hour,
			reading: map[*Flight][]simRead{}, seen: map[*simRow]int{}, known: map[*simRow]simBasis{},
		}
		if i == len(cs.all) {
			cs.add()
		}
		cs.node[i] = n
		cs.all[i].renew()
		n.c = cs.all[i]
		s.nodes = append(s.nodes, n)
	}
}

func (cs *simCaches) add() {
	i := len(cs.all)
	cs.node = append(cs.node, nil)
	c, err := NewCache(CacheOptions{
		MaxAge:  24 * time.Hour, // its jitter is not from the seed
		Clock:   func() Instant { return cs.node[i].clock() },
		OnLease: func(change LeaseChange) { cs.node[i].onLease(change) },
	})
	if err != nil {
		panic(err)
	}
	cs.all = append(cs.all, c)
}

// renew makes c as good as new, except that its counters go on.
func (c *Cache) renew() {
	c.proof.Store(nil)
	c.epoch.Store(nil)
	c.lease = leaseState{}
	for stripe := range c.userWrites.open {
		c.users[stripe].Store(0)
	}
	c.userWrites.open = nil
	for i := range c.stripes {
		if c.stripes[i].flights != nil {
			c.stripes[i].flights = nil
		}
		if c.stripes[i].writes != nil {
			c.stripes[i].writes = nil
		}
	}
	c.Disown()
}
