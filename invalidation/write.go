package invalidation

import (
	"math"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Write is a write of this process, from before it is sent until its outcome is
// known or nobody waits for it any more. In between it may be committed at any
// time. So nothing that is read meanwhile of the sessions that the write may
// change is stored.
//
// Begin, BeginSave, BeginUser and BeginAll return a Write, and every Write must come to
// its End. If the outcome is unknown, Cache.Disown must be called before End:
// from then on a message of the write counts like that of another node. The
// methods must not be called concurrently.
type Write struct {
	cache  *Cache
	keys   []writtenKey
	ticket Ticket // of the first key
	user   *uint32
	all    bool
}

// writtenKey is a key of a Write, with the number of its writes that this
// process knew of when the Write began.
type writtenKey struct {
	token token
	count uint64
}

// writing counts the Writes of a key that have not come to their End, and all
// writes that this process has heard of meanwhile.
type writing struct {
	open  int
	count uint64
}

// Begin is called before a write to the sessions of keys is sent. These
// sessions are not answered from the cache until they are read after the End of
// the Write, or until Wrote.
func (c *Cache) Begin(keys ...session.Key) *Write {
	w := &Write{cache: c}
	w.Add(keys...)
	return w
}

// Add is Begin for keys that a transaction finds out about. It is called before
// the commit is sent.
func (w *Write) Add(keys ...session.Key) {
	for _, key := range keys {
		w.add(key, false)
	}
}

// BeginSave is Begin for a write that ends no session. Until its message comes
// in, which may be before its End, the session as it was is still answered from
// the cache, as on all other nodes.
func (c *Cache) BeginSave(key session.Key) *Write {
	w := &Write{cache: c}
	w.add(key, true)
	return w
}

func (w *Write) add(key session.Key, kept bool) {
	t := keyToken(key)
	s := &w.cache.stripes[t.stripe()]
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.writes[t]
	if k == nil {
		k = &writing{}
		if s.writes == nil {
			s.writes = map[token]*writing{}
		}
		s.writes[t] = k
	}
	k.open++
	if !kept {
		w.cache.bump(s, t)
	}
	if len(w.keys) == 0 {
		w.ticket = w.cache.ticket(s, key)
	}
	w.keys = append(w.keys, writtenKey{t, k.count})
}

// Server is when the server was started that a row for Wrote has to come from.
// It is zero while nobody listens; nothing is stored then.
func (w *Write) Server() time.Time { return w.ticket.Server() }

// Wrote is End for a write to one key that has been committed. The row as the
// write has left it is stored if nobody else has written meanwhile.
func (w *Write) Wrote(row Row) {
	key := w.keys[0]
	s := &w.cache.stripes[key.token.stripe()]
	s.mu.Lock()
	defer s.mu.Unlock()
	alone := s.writes[key.token].count == key.count
	w.cache.endKey(s, key.token)
	w.keys = nil
	if alone {
		w.ticket.gen = s.gen
	}
	w.cache.store(s, w.ticket, row)
}

// End says that the outcome is known, or has become unknown. Called again it
// does nothing.
func (w *Write) End() {
	for _, key := range w.keys {
		s := &w.cache.stripes[key.token.stripe()]
		s.mu.Lock()
		w.cache.endKey(s, key.token)
		s.mu.Unlock()
	}
	if w.user != nil {
		w.cache.endUser(*w.user)
	}
	if w.all {
		w.cache.endAll()
	}
	w.keys, w.user, w.all = nil, nil, false
}

// endKey ends one Write of a key. The caller holds the stripe.
func (c *Cache) endKey(s *stripe, t token) {
	k := s.writes[t]
	if k.open--; k.open == 0 {
		delete(s.writes, t)
	}
	c.bump(s, t) // what was read before may be of before the write
}

// userWrites counts the Writes about users that have not come to their End, by
// stripe.
type userWrites struct {
	mu   sync.Mutex
	open map[uint32]int
}

// never is later than every moment.
const never = math.MaxUint64

// BeginUser is Begin for a write to all sessions of a user.
func (c *Cache) BeginUser(user string) *Write {
	stripe := userStripe(user)
	u := &c.userWrites
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open == nil {
		u.open = map[uint32]int{}
	}
	u.open[stripe]++
	c.moment.Add(1) // nobody joins a read that is under way
	c.users[stripe].Store(never)
	return &Write{cache: c, user: &stripe}
}

func (c *Cache) endUser(stripe uint32) {
	u := &c.userWrites
	u.mu.Lock()
	defer u.mu.Unlock()
	moment := c.moment.Add(1)
	if u.open[stripe]--; u.open[stripe] == 0 {
		delete(u.open, stripe)
		c.users[stripe].Store(moment)
	}
}

// BeginAll is Begin for a write to any session.
func (c *Cache) BeginAll() *Write {
	l := &c.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clears++
	c.empty()
	return &Write{cache: c, all: true}
}

func (c *Cache) endAll() {
	l := &c.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clears--
	c.empty()
}
