package pgstore

import (
	"context"
	"errors"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/session"
)

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, rec session.Record) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, wrap("create", err)
	}
	rec, err := s.newRecord(ctx, rec, s.limits)
	if err != nil {
		return session.Record{}, wrap("create", err)
	}
	if rec.Key.Bucket == 0 {
		rec, err = s.putForeign(ctx, rec, false)
		return rec, wrap("create", s.correct(ctx, err))
	}
	rec.Version = storekit.Version(0)
	var o *batch.Op
	err = s.table.In(ctx, rec.Key.Bucket, func() error {
		o = &batch.Op{Key: rec.Key, Rec: rec}
		t := s.cache.Reserve(rec.Key)
		o.After = func(err error) {
			if err == nil {
				s.cache.Fill(t, written(t.Server(), o.Rec, o.Ran))
			}
		}
		return s.writes.Creates.Do(ctx, o)
	})
	if err != nil {
		return session.Record{}, wrap("create", s.correct(ctx, s.refused(err)))
	}
	s.stats.creates.Add(1)
	return o.Rec, nil
}

// newRecord checks the record of a new session for Create and Renew, and
// returns it as it is kept. It refuses a time only by a clock that it has read
// during the call.
func (s *Store) newRecord(ctx context.Context, rec session.Record, limits func() storekit.Limits) (session.Record, error) {
	rec.Data = notNull(rec.Data)
	made, err := limits().New(rec, s.Now())
	if !errors.Is(err, session.ErrDeadline) || rec.Deadline.IsZero() {
		return made, err
	}
	if _, err := s.table.Refresh(ctx); err != nil {
		return rec, err
	}
	return limits().New(rec, s.Now())
}
