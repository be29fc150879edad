package pgstore

import (
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/session"
)

// Touch implements session.Store. It commits asynchronously: a crash of the
// server can undo the last touches, and those sessions end a little early.
func (s *Store) Touch(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	if err := s.begun(ctx); err != nil {
		return time.Time{}, wrap("touch", err)
	}
	at, err := s.locateToWrite(ctx, s.app, key)
	if err != nil {
		return time.Time{}, wrap("touch", s.refused(err))
	}
	o := s.newTouch(at, storekit.Expiry(expires))
	if err := s.writes.Touches.Do(ctx, o); err != nil {
		return time.Time{}, wrap("touch", s.refused(err))
	}
	s.stats.touches.Add(1)
	return o.Rec.Expires, nil
}

func (s *Store) newTouch(at session.Key, expires time.Time) *batch.Op {
	o := &batch.Op{Key: at, Rec: session.Record{Expires: expires}}
	o.After = func(err error) {
		if err != nil { // what TouchLater has promised is not kept either
			s.cache.Invalidate(at)
			return
		}
		s.cache.Extend(at, o.Rec.Expires)
	}
	return o
}
