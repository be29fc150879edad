package mysqlstore

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Get implements session.Store.
func (s *Store) Get(ctx context.Context, key session.Key) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, wrap("get", err)
	}
	s.stats.gets.Add(1)
	if !storekit.Possible(key) {
		return session.Record{}, wrap("get", session.ErrNotFound)
	}
	var rec session.Record
	err := s.read(ctx, func(c *conn) error {
		asked, err := c.find(ctx, key)
		r := asked
		for err == nil && r != nil && r.InGrace() {
			r, err = c.find(ctx, session.Key{Hash: [32]byte(r.Next)})
		}
		switch {
		case err != nil:
			return err
		case r == nil || !r.Live():
			return session.ErrNotFound
		}
		rec = r.Rec
		if r == asked {
			rec.Key = key
		}
		return nil
	})
	if err != nil {
		return session.Record{}, wrap("get", err)
	}
	return rec, nil
}

// Fate implements session.Explainer.
func (s *Store) Fate(ctx context.Context, key session.Key) (session.Fate, error) {
	if err := s.begun(ctx); err != nil {
		return session.FateUnknown, wrap("fate", err)
	}
	s.stats.gets.Add(1)
	if !storekit.Possible(key) {
		return session.FateUnknown, nil
	}
	var fate session.Fate
	err := s.read(ctx, func(c *conn) error {
		r, err := c.find(ctx, key)
		switch {
		case err != nil:
			return err
		case r == nil:
			fate = session.FateUnknown
		default:
			fate = r.Fate()
		}
		return nil
	})
	if err != nil {
		return session.FateUnknown, wrap("fate", err)
	}
	return fate, nil
}

// find returns the committed row of key, dead or alive, or nil.
func (c *conn) find(ctx context.Context, key session.Key) (*sqlrow.Row, error) {
	return c.rowOf(ctx, get, key)
}

func (c *conn) rowOf(ctx context.Context, q query, key session.Key) (r *sqlrow.Row, err error) {
	err = c.query(ctx, one(q), func(v []driver.Value) error {
		r, err = rowOf(v)
		return err
	}, key.Hash[:])
	if err != nil || r == nil || !r.Is(key) {
		return nil, err
	}
	r.Rec.Key.Hash = key.Hash
	return r, nil
}

// read calls f with a connection for lookups, and again when that was lost.
func (s *Store) read(ctx context.Context, f func(*conn) error) error {
	return s.ask(ctx, s.reads, f)
}

// scan is read for what may take long.
func (s *Store) scan(ctx context.Context, f func(*conn) error) error {
	return s.ask(ctx, s.scans, f)
}

// askAgain is how often a question is repeated: each connection may have been
// lost since it was used last.
const askAgain = 3

func (s *Store) ask(ctx context.Context, g *gate, f func(*conn) error) error {
	if err := s.begun(ctx); err != nil {
		return err
	}
	until := time.Now().Add(s.opts.WriteTimeout)
	for try := 1; ; try++ {
		err := g.do(ctx, f)
		if err == nil || storekit.IsRefusal(err) {
			return err
		}
		again := false
		switch outcomeOf(err) {
		case txCut, txOpen:
			again = try < askAgain
		case txConflict, txBusy:
			again = time.Now().Before(until)
		}
		if !again || !storekit.Backoff().Pause(ctx, try) {
			return wait.Because(ctx, err)
		}
	}
}
