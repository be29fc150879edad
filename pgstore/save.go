package pgstore

import (
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
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
	o := &op{key: at, rec: rec, becomes: storekit.Version(rec.Version)}
	o.rec.Data = notNull(rec.Data)
	if !rec.Expires.IsZero() {
		o.rec.Expires = storekit.Expiry(rec.Expires)
	}
	w := s.cache.Begin(at)
	o.After = func(err error) {
		if err == nil {
			w.Wrote(written(w.Server(), o.rec, o.ran))
		}
		w.End()
	}
	if err := s.saves.Do(ctx, o); err != nil {
		return session.Record{}, wrap("save", s.correct(ctx, s.refused(err)))
	}
	s.stats.saves.Add(1)
	return o.rec, nil
}

func (s *Store) flushSaves(ctx context.Context, ops []*op, mode flushMode) ([]*op, error) {
	w := s.newWrite(ctx, ops, mode, true)
	soon := s.Now().Add(storekit.ClockError)
	ends := func(o *op) bool { return !o.rec.Expires.After(soon) }
	err := w.send(ctx, func(q *texts) batchTexts { return q.save },
		inputOf(func(o *op) int64 { return o.rec.Version }),
		inputOf(func(o *op) *time.Time { return nullTime(o.rec.Expires) }),
		inputOf(func(o *op) *string { return nullText(o.rec.User) }),
		inputOf(func(o *op) []byte { return o.rec.Data }),
		inputOf(ends),
		inputOf(func(o *op) int64 { return o.becomes }))
	if err != nil {
		return nil, err
	}
	var held []*op
	for _, o := range ops {
		was, there := w.was[o]
		now, written := w.now[o]
		switch {
		case written:
			o.saved(now)
			o.ran = w.batch.Began
			s.saves.Finish(o, nil)
		case w.held(o):
			held = append(held, o)
		case o.lost != nil && there && was.version == o.becomes: // it was written, whatever came after it
			o.saved(was)
			s.saves.Finish(o, nil)
		case o.lost != nil && !(there && was.version < o.becomes): // it may have been
			s.saves.Finish(o, s.outcomeOpen(ctx, o.lost, nil))
		case !there:
			s.saves.Finish(o, session.ErrNotFound)
		case !was.live && was.inGrace:
			s.saves.Finish(o, session.ErrConflict)
		case !was.live:
			s.saves.Finish(o, session.ErrNotFound)
		case was.user != o.rec.User:
			s.saves.Finish(o, session.ErrUserChanged)
		case was.version != o.rec.Version:
			s.saves.Finish(o, session.ErrConflict)
		case !ends(o) && !o.rec.Expires.After(w.batch.Began.Clock):
			s.saves.Finish(o, errLags)
		case mode.patience == skipLocked:
			// Another write came between the statement's snapshot and its lock.
			// That cannot be if the lock was taken before.
			held = append(held, o)
		default: // it expired within the statement
			s.saves.Finish(o, session.ErrNotFound)
		}
	}
	return held, nil
}

// saved completes the record by the row as this save has left it.
func (o *op) saved(row state) {
	o.rec.Version, o.rec.Expires, o.rec.Deadline, o.rec.Created = o.becomes, row.expires, row.deadline, row.created
}
