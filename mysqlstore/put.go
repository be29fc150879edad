package mysqlstore

import (
	"bytes"
	"context"
	"errors"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Put implements session.Putter. When the answer to a commit was lost, it is
// written again, with another version.
func (s *Store) Put(ctx context.Context, rec session.Record) (session.Record, error) {
	out, err := s.put(ctx, rec)
	return out, wrap("put", err)
}

func (s *Store) put(ctx context.Context, rec session.Record) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, err
	}
	if err := s.limits().Content(rec); err != nil {
		return session.Record{}, err
	}
	rec.Data = bytes.Clone(rec.Data)
	rec.Version = storekit.Step() // also of a new one, from 0
	ends := s.ends(rec)
	type result struct {
		rec session.Record
		new bool
	}
	out, err := write(ctx, s, "put", func(t *tx) (result, error) {
		// By the hash alone: with another bucket it would be another session's.
		r, err := t.lock(rec.Key.Hash)
		if err != nil {
			return result{}, err
		}
		if r == nil {
			rec, err := t.putNew(rec)
			if !errors.Is(err, session.ErrExists) {
				return result{rec, true}, err
			}
			// It was made just now.
			if r, err = t.lock(rec.Key.Hash); err != nil || r == nil {
				return result{}, errors.Join(err, errLate)
			}
		}
		out, err := r.Put(rec, ends, t.lost)
		if err != nil {
			return result{}, err
		}
		return result{out, false}, t.replace(r, out)
	})
	switch {
	case err != nil:
		return session.Record{}, err
	case out.new:
		s.stats.creates.Add(1)
	default:
		s.stats.saves.Add(1)
	}
	return out.rec, nil
}

// putNew goes by the database's clock alone.
func (t *tx) putNew(rec session.Record) (session.Record, error) {
	// A row of this session is locked already. A transaction that ends the
	// user's sessions takes the stripe first, and then finds this row, or waits
	// for it.
	if err := t.admit(rec.User, session.UserLimit{}); err != nil {
		return session.Record{}, err
	}
	now, err := t.now()
	if err != nil {
		return session.Record{}, err
	}
	limits := t.s.limits()
	if rec, err = sqlrow.PutNew(rec, limits, now); err != nil {
		return session.Record{}, err
	}
	return t.insert(rec, 0, now, now, limits)
}
