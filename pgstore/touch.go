package pgstore

import (
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
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
	if err := s.touches.Do(ctx, o); err != nil {
		return time.Time{}, wrap("touch", s.refused(err))
	}
	s.stats.touches.Add(1)
	return o.rec.Expires, nil
}

func (s *Store) newTouch(at session.Key, expires time.Time) *op {
	o := &op{key: at, rec: session.Record{Expires: expires}}
	o.After = func(err error) {
		if err != nil { // what TouchLater has promised is not kept either
			s.cache.Invalidate(at)
			return
		}
		s.cache.Extend(at, o.rec.Expires)
	}
	return o
}

func (s *Store) flushTouches(ctx context.Context, ops []*op, mode flushMode) ([]*op, error) {
	w := s.newWrite(ctx, ops, mode, false)
	err := w.send(ctx, func(q *texts) batchTexts { return q.touch }, inputOf(func(o *op) time.Time { return o.rec.Expires }))
	if err != nil {
		return nil, err
	}
	var held []*op
	for _, o := range ops {
		was, there := w.was[o]
		now, written := w.now[o]
		switch {
		case written:
			o.rec.Expires = now.expires
			s.touches.Finish(o, nil)
		case w.held(o):
			held = append(held, o)
		case there && was.live && !was.expires.Before(storekit.Earlier(o.rec.Expires, was.deadline)):
			o.rec.Expires = was.expires // already further
			s.touches.Finish(o, nil)
		case there && was.live && mode.patience == skipLocked:
			held = append(held, o) // see flushSaves
		default:
			o.expired = there && !was.live && !was.expires.After(w.batch.Began.Clock)
			s.touches.Finish(o, session.ErrNotFound)
		}
	}
	return held, nil
}
