package sqlitestore

import (
	"context"
	"database/sql/driver"
	"time"

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
		asked, err := c.find(key, get)
		r := asked
		now := s.Now()
		for err == nil && r != nil && r.inGrace(now) {
			r, err = c.find(session.Key{Hash: [32]byte(r.next)}, get)
			now = s.Now()
		}
		switch {
		case err != nil:
			return err
		case r == nil || !r.live(now):
			return session.ErrNotFound
		}
		rec = r.rec
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
		r, err := c.find(key, find)
		if err == nil {
			fate = r.fate(s.Now())
		}
		return err
	})
	return fate, wrap("fate", err)
}

// find returns the row of key, dead or alive, or nil. It is too short to be
// worth a context.
func (c *conn) find(key session.Key, with query) (r *row, err error) {
	err = c.query(context.Background(), with, func(v []driver.Value) error {
		r, err = rowOf(v)
		return err
	}, key.Hash[:])
	if err != nil || r == nil || !r.is(key) {
		return nil, err
	}
	r.rec.Key.Hash = key.Hash
	return r, nil
}

// now is the time by which a transaction decides, read under its lock and as
// precise as what is stored.
func (t *tx) now() time.Time { return storekit.Expiry(t.s.Now()) }

// writable returns the live row of key itself. It is ErrConflict in the grace
// period of a renewal, and else ErrNotFound.
func (t *tx) writable(key session.Key, now time.Time) (*row, error) {
	if !storekit.Possible(key) {
		return nil, session.ErrNotFound
	}
	r, err := t.find(key, find)
	switch {
	case err != nil:
		return nil, err
	case r == nil:
		return nil, session.ErrNotFound
	case r.live(now):
		return r, nil
	case r.inGrace(now):
		return r, session.ErrConflict
	}
	return r, session.ErrNotFound
}
