package sqlitestore

import (
	"context"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Save implements session.Store.
func (s *Store) Save(ctx context.Context, rec session.Record) (session.Record, error) {
	out, err := s.save(ctx, rec)
	return out, wrap("save", err)
}

func (s *Store) save(ctx context.Context, rec session.Record) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, err
	}
	if err := s.limits.Saved(rec); err != nil {
		return session.Record{}, err
	}
	becomes := storekit.Version(rec.Version)
	out, err := writeData(ctx, s, &rec.Data, func(t *tx) (session.Record, error) {
		r, err := t.find(rec.Key)
		if err != nil {
			return session.Record{}, err
		}
		if t.lost != nil {
			done, err := r.WasSaved(rec, becomes, t.lost)
			if done != nil {
				return *done, nil
			}
			if err != nil {
				return session.Record{}, err
			}
		}
		out, err := r.Save(rec, becomes)
		if err != nil {
			return session.Record{}, err
		}
		return out, t.replace(r, out)
	})
	if err == nil {
		s.stats.saves.Add(1)
	}
	return out, err
}

// replace writes what a save or a Put came to.
func (t *tx) replace(r *sqlrow.Row, out session.Record) error {
	if !r.Now.Before(out.Expires) {
		return t.end(r)
	}
	_, err := t.exec(save, r.ID, storekit.Micros(out.Expires), sqlrow.NullBytes(out.Data), out.Version)
	return err
}

// end makes r a tombstone.
func (t *tx) end(r *sqlrow.Row) error {
	_, err := t.exec(end, r.ID, storekit.Micros(r.Now))
	return err
}
