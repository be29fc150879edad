package sqlitestore

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
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
		asked, err := c.find(key, get, s.Now)
		r := asked
		for err == nil && r != nil && r.InGrace() {
			r, err = c.find(r.Successor(), get, s.Now)
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
		r, err := c.find(key, find, s.Now)
		if err == nil {
			fate = r.Fate()
		}
		return err
	})
	return fate, wrap("fate", err)
}

// find returns the row of key, dead or alive, or nil, as it is at the time that now
// tells. It is too short to be worth a context.
func (c *conn) find(key session.Key, with query, now func() time.Time) (r *sqlrow.Row, err error) {
	err = c.query(context.Background(), with, func(v []driver.Value) error {
		r, err = rowOf(v, now())
		return err
	}, key.Hash[:])
	if err != nil || r == nil || !r.Is(key) {
		return nil, err
	}
	r.Rec.Key.Hash = key.Hash
	return r, nil
}

// now is the time by which a transaction decides, read under its lock and as
// precise as what is stored.
func (t *tx) now() time.Time { return storekit.Expiry(t.s.Now()) }

// find returns the row of key itself, dead or alive, or nil.
func (t *tx) find(key session.Key) (*sqlrow.Row, error) {
	if !storekit.Possible(key) {
		return nil, nil
	}
	return t.conn.find(key, find, t.now)
}
