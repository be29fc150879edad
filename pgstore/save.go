package pgstore

import (
	"context"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/session"
)

// Save implements session.Store.
func (s *Store) Save(ctx context.Context, rec session.Record) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, wrap("save", err)
	}
	if err := s.limits().Saved(rec); err != nil {
		return session.Record{}, wrap("save", err)
	}
	at, err := s.locate(ctx, s.app, rec.Key)
	if err != nil {
		return session.Record{}, wrap("save", s.refused(err))
	}
	o := &batch.Op{Key: at, Rec: rec, Becomes: storekit.Version(rec.Version)}
	o.Rec.Data = notNull(rec.Data)
	if !rec.Expires.IsZero() {
		o.Rec.Expires = storekit.Expiry(rec.Expires)
	}
	w := s.cache.BeginSave(at)
	o.After = func(err error) {
		if err == nil {
			w.Wrote(written(w.Server(), o.Rec, o.Ran))
		}
		w.End()
	}
	if err := s.writes.Saves.Do(ctx, o); err != nil {
		return session.Record{}, wrap("save", s.correct(ctx, s.refused(err)))
	}
	s.stats.saves.Add(1)
	return o.Rec, nil
}
