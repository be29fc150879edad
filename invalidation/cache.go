package invalidation

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/sojourn-go/sojourn/session"
)

// CacheOptions configure a Cache.
type CacheOptions struct {
	// MaxBytes bounds what the entries take in memory, by an estimate that is
	// rather too high. Default 64 MiB.
	MaxBytes int64
	// MaxAge is for how long an entry is kept before it is read again, whatever
	// happens. Up to a sixth of it is taken off, by chance. Default 60 s.
	MaxAge time.Duration
	// Clock reads the node's clocks. Default: those of the system.
	Clock func() Instant
	// OnLease, if set, is told when the cache begins to answer and when it
	// stops. It is called by one goroutine at a time and must not block.
	OnLease func(LeaseChange)
}

// Cache holds sessions of which it can prove that they are current. It is a
// passive part and never blocks: the listener tells it what comes in, and the
// store tells it what is read and written. All methods may be called
// concurrently.
type Cache struct {
	maxBytes int64
	maxAge   time.Duration
	now      func() Instant
	onLease  func(LeaseChange)
	sender   atomic.Pointer[Sender]

	proof   atomic.Pointer[proof] // nil: nothing may be answered
	epoch   atomic.Pointer[epoch] // nil: nobody listens
	stripes [stripeCount]stripe
	// moment counts the messages about users, and users has the last of each
	// stripe. An entry keeps the moment at which it was read, because a reader
	// learns the user only from the row.
	moment     atomic.Uint64
	users      [stripeCount]atomic.Uint64
	userWrites userWrites

	lease leaseState
	stats cacheStats
}

// epoch is an uninterrupted time of listening. Its entries are out of reach
// when the next one begins.
type epoch struct {
	server  time.Time // when the server that is listened to was started
	sealed  bool      // nothing is stored in it: a Write of all was under way when it began
	entries *otter.Cache[token, *entry]
}

// proof says that everything that was acknowledged before its heartbeat was
// sent has been taken out of the epoch's entries.
type proof struct {
	epoch *epoch
	sent  Instant
	lease time.Duration
}

func (p *proof) holds(now Instant) bool { return p != nil && p.sent.recent(now, p.lease) }

const stripeCount = 4096

// stripe guards the keys whose token begins alike.
type stripe struct {
	mu      sync.Mutex
	gen     uint64 // grows whenever one of its keys may have been written
	flights map[session.Key]*Flight
	writes  map[token]*writing // of this process, under way
	_       [32]byte           // so that stripes do not share cache lines
}

func (t token) stripe() uint32 { return binary.LittleEndian.Uint32(t[:]) % stripeCount }

// NewCache returns a cache that answers nothing until it is told that somebody
// listens and a heartbeat has come back.
func NewCache(opts CacheOptions) (*Cache, error) {
	c := &Cache{
		maxBytes: cmp.Or(opts.MaxBytes, 64<<20),
		maxAge:   cmp.Or(opts.MaxAge, time.Minute),
		now:      opts.Clock,
		onLease:  opts.OnLease,
	}
	c.Disown()
	if c.maxBytes < 1 {
		return nil, fmt.Errorf("invalidation: CacheOptions.MaxBytes is %d; it must be positive", c.maxBytes)
	}
	if c.maxAge < 0 {
		return nil, fmt.Errorf("invalidation: CacheOptions.MaxAge is %v; it must not be negative", c.maxAge)
	}
	if c.now == nil {
		c.now = systemClock()
	}
	if _, err := c.newEpoch(time.Time{}); err != nil { // for the options
		return nil, err
	}
	return c, nil
}

// newEpoch makes an empty epoch. The caller holds c.lease.mu.
func (c *Cache) newEpoch(server time.Time) (*epoch, error) {
	entries, err := otter.New(&otter.Options[token, *entry]{
		MaximumWeight: uint64(c.maxBytes),
		Weigher:       func(_ token, e *entry) uint32 { return e.weight() },
		// Evictions are short, and a goroutine would have no owner.
		Executor: func(do func()) { do() },
	})
	if err != nil {
		return nil, fmt.Errorf("invalidation: %w", err)
	}
	return &epoch{server: server, sealed: c.lease.clears > 0, entries: entries}, nil
}

// Sender returns the name under which this process sends messages now. They
// come back to it and are ignored, since each of its own writes is a Write.
func (c *Cache) Sender() Sender { return *c.sender.Load() }

// Disown changes the name. A store calls Disown when the outcome of a write is
// unknown, before the End of its Write. If the write is committed after all,
// its message counts like that of another node.
func (c *Cache) Disown() {
	s := newSender()
	c.sender.Store(&s)
}

// Get returns the row of key if the cache can prove that it is current.
func (c *Cache) Get(key session.Key) (Row, bool) {
	if e, _ := c.find(key); e != nil {
		c.stats.hit(key)
		return e.row(), true
	}
	c.stats.miss(key)
	return Row{}, false
}

// Session is the fast path of Get: it answers only entries that are sessions,
// not those that lead to a successor. It counts hits only: after a miss the
// caller goes on with Get, which counts that.
func (c *Cache) Session(key session.Key) (session.Record, bool) {
	e, _ := c.find(key)
	if e == nil || e.next != nil {
		return session.Record{}, false
	}
	c.stats.hit(key)
	return e.record(), true
}

// find returns the entry of key and the epoch that it belongs to.
func (c *Cache) find(key session.Key) (*entry, *epoch) {
	// The proof is for what is looked up after the clock was read.
	p, now := c.proof.Load(), c.now()
	if !p.holds(now) {
		return nil, nil
	}
	e, ok := p.epoch.entries.GetIfPresent(keyToken(key))
	if !ok || e.key != key || e.until.reached(now) || c.users[e.userStripe].Load() > e.moment {
		return nil, nil
	}
	return e, p.epoch
}

// Invalidate takes the sessions of keys out of the cache, and out of the reads
// that are under way.
func (c *Cache) Invalidate(keys ...session.Key) {
	for _, key := range keys {
		c.invalidate(keyToken(key))
	}
}

func (c *Cache) invalidate(t token) {
	s := &c.stripes[t.stripe()]
	s.mu.Lock()
	defer s.mu.Unlock()
	c.bump(s, t)
}

// bump invalidates t. The caller holds the stripe.
func (c *Cache) bump(s *stripe, t token) {
	s.gen++
	if w := s.writes[t]; w != nil {
		w.count++
	}
	if ep := c.epoch.Load(); ep != nil {
		ep.entries.Invalidate(t)
	}
}

// hide is what a message of this process does. Its Write may have stored what is
// new, unless it is still under way: then the cache may have what was before.
func (c *Cache) hide(tokens []token) {
	for _, t := range tokens {
		s := &c.stripes[t.stripe()]
		s.mu.Lock()
		if ep := c.epoch.Load(); ep != nil && s.writes[t] != nil {
			ep.entries.Invalidate(t)
		}
		s.mu.Unlock()
	}
}

// invalidateUser takes the sessions of a user out of the cache, and out of the
// reads that are under way. Sessions of a few other users go with them.
func (c *Cache) invalidateUser(t token) {
	moment, last := c.moment.Add(1), &c.users[t.stripe()]
	for {
		was := last.Load()
		if was >= moment || last.CompareAndSwap(was, moment) {
			return
		}
	}
}

// Extend tells the cache that the session of key expires at expires now, or
// later. It returns the expiry that readers see, and false if the cache cannot
// prove that the session is live.
func (c *Cache) Extend(key session.Key, expires time.Time) (time.Time, bool) {
	t := keyToken(key)
	s := &c.stripes[t.stripe()]
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ep := c.find(key)
	if e == nil || e.next != nil {
		return time.Time{}, false
	}
	nano := min(expires.UnixNano(), e.deadline)
	if nano > e.expires {
		later := *e
		later.expires = nano // until stays: it may only be early
		e = &later
		ep.entries.Set(t, e) // not into the present epoch: that may have begun meanwhile
	}
	return utc(e.expires), true
}

// until is how long what was read at the given time may be answered from the
// cache.
func (c *Cache) until(read Instant, life time.Duration) Instant {
	age := c.maxAge - rand.N(c.maxAge/6+1)
	return read.add(min(age, life))
}
