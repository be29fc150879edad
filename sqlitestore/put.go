package sqlitestore

import (
	"context"
	"time"

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
	if err := s.limits.Content(rec); err != nil {
		return session.Record{}, err
	}
	rec.Version = storekit.Step() // also of a new one, from 0
	type result struct {
		rec session.Record
		new bool
	}
	out, err := writeData(ctx, s, &rec.Data, func(t *tx) (result, error) {
		// By the hash alone: with another bucket it would be another session's.
		r, err := t.find(session.Key{Hash: rec.Key.Hash})
		if err != nil {
			return result{}, err
		}
		if r == nil {
			rec, err := t.putNew(rec, t.now())
			return result{rec, true}, err
		}
		out, err := r.Put(rec, t.lost)
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

func (t *tx) putNew(rec session.Record, now time.Time) (session.Record, error) {
	rec, err := sqlrow.PutNew(rec, t.s.limits, now)
	if err != nil {
		return session.Record{}, err
	}
	rec.Created = now
	return rec, t.insert(rec, 0)
}
