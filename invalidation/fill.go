package invalidation

import (
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Ticket is taken before the database is asked, and says what the answer may
// be used for: only what has not been invalidated since may be stored.
type Ticket struct {
	key    session.Key
	gen    uint64
	epoch  *epoch
	moment uint64
	at     Instant
}

// Server is when that server was started from which the row has to come. It is
// zero while nobody listens; nothing is stored then.
func (t Ticket) Server() time.Time {
	if t.epoch == nil {
		return time.Time{}
	}
	return t.epoch.server
}

// ticket returns the ticket of a read that begins now. The caller holds the
// stripe.
func (c *Cache) ticket(s *stripe, key session.Key) Ticket {
	return Ticket{key: key, gen: s.gen, epoch: c.epoch.Load(), moment: c.moment.Load(), at: c.now()}
}

// store keeps the row if nothing has invalidated it. The caller holds the
// stripe.
func (c *Cache) store(s *stripe, t Ticket, row Row) {
	if row.Life <= 0 || t.epoch == nil {
		return
	}
	e, name := newEntry(t.key, row), keyToken(t.key)
	switch {
	case s.gen != t.gen, c.users[e.userStripe].Load() > t.moment:
		c.stats.refusedByGeneration.Add(1)
		return
	case s.writes[name] != nil: // it may have been read before the commit
		c.stats.refusedByGeneration.Add(1)
		return
	case c.epoch.Load() != t.epoch, t.epoch.sealed:
		c.stats.refusedByEpoch.Add(1)
		return
	}
	e.moment, e.until = t.moment, c.until(t.at, row.Life)
	if old, ok := t.epoch.entries.GetEntryQuietly(name); ok && old.Value.key == t.key && e.older(old.Value) {
		return
	}
	t.epoch.entries.Set(name, e)
}

// Flight is a read of the database that several callers wait for.
type Flight struct {
	Ticket
	done      chan struct{}
	row       Row
	err       error
	abandoned bool // its caller gave up; this says nothing about the row
}

// Join returns the read of key that is under way, or a new one that the caller
// must make and Finish. A read is joined only if everything that was known when
// it began is still true, and only for the length of a lease. A longer one
// would hand out what was ended since, while the message is on its way.
func (c *Cache) Join(key session.Key) (f *Flight, mine bool) {
	s := &c.stripes[keyToken(key).stripe()]
	s.mu.Lock()
	defer s.mu.Unlock()
	t := c.ticket(s, key)
	if f := s.flights[key]; f != nil && f.gen == t.gen && f.epoch == t.epoch && f.moment == t.moment && f.at.recent(t.at, c.lease.length()) {
		return f, false
	}
	f = &Flight{Ticket: t, done: make(chan struct{})}
	if s.flights == nil {
		s.flights = map[session.Key]*Flight{}
	}
	s.flights[key] = f
	return f, true
}

// Finish hands the row to all callers that joined. abandoned tells them that
// the read ended because its own caller gave up. Then one of them reads again.
func (c *Cache) Finish(f *Flight, row Row, err error, abandoned bool) {
	s := &c.stripes[keyToken(f.key).stripe()]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights[f.key] == f {
		delete(s.flights, f.key)
	}
	f.row, f.err, f.abandoned = row, err, abandoned
	if err == nil {
		c.store(s, f.Ticket, row)
	}
	close(f.done)
}

// Load reads the row of key through read. read is given the time at which that
// server was started from which a row has a life; see Ticket.Server. Callers
// share a read. Load returns when ctx ends, or with what read returns.
func (c *Cache) Load(ctx context.Context, key session.Key, read func(ctx context.Context, key session.Key, server time.Time) (Row, error)) (Row, error) {
	for {
		f, mine := c.Join(key)
		if mine {
			return c.lead(ctx, f, read)
		}
		select {
		case <-f.done:
			if !f.abandoned {
				return f.row, f.err
			}
		case <-ctx.Done():
			return Row{}, wait.Ended(ctx)
		}
	}
}

func (c *Cache) lead(ctx context.Context, f *Flight, read func(context.Context, session.Key, time.Time) (Row, error)) (row Row, err error) {
	finished := false
	defer func() { // also when read panics
		c.Finish(f, row, err, !finished || ctx.Err() != nil && err != nil)
	}()
	row, err = read(ctx, f.key, f.Server())
	finished = true
	return row, err
}

// Reserve returns a ticket for a read that is not shared, or for a write that
// creates the session, whose key nobody else knows yet. Fill stores what came of
// it.
func (c *Cache) Reserve(key session.Key) Ticket {
	s := &c.stripes[keyToken(key).stripe()]
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.ticket(s, key)
}

// Fill stores what was read under t, if nothing has invalidated it.
func (c *Cache) Fill(t Ticket, row Row) {
	s := &c.stripes[keyToken(t.key).stripe()]
	s.mu.Lock()
	defer s.mu.Unlock()
	c.store(s, t, row)
}
