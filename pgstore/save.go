package pgstore

import (
	"bytes"
	"context"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Save implements session.Store.
func (s *Store) Save(ctx context.Context, rec session.Record) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, wrap("save", err)
	}
	if err := s.checkSaved(rec); err != nil {
		return session.Record{}, wrap("save", err)
	}
	at, err := s.locate(ctx, s.pool, rec.Key)
	if err != nil {
		return session.Record{}, wrap("save", s.refused(err))
	}
	o := &op{key: at, rec: rec}
	o.rec.Data = bytes.Clone(notNull(rec.Data))
	if !rec.Expires.IsZero() {
		o.rec.Expires = storable(rec.Expires)
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
	w := s.newWrite(ctx, s.pool, ops, mode, true)
	soon := s.Now().Add(clockError)
	ends := func(o *op) bool { return !o.rec.Expires.After(soon) }
	err := w.send(ctx, func(q *queries) batchTexts { return q.save },
		inputOf(func(o *op) int64 { return o.rec.Version }),
		inputOf(func(o *op) *time.Time { return nullTime(o.rec.Expires) }),
		inputOf(func(o *op) *string { return nullText(o.rec.User) }),
		inputOf(func(o *op) []byte { return o.rec.Data }),
		inputOf(ends))
	if err != nil {
		return nil, err
	}
	var held []*op
	for _, o := range ops {
		was, there := w.was[o]
		now, written := w.now[o]
		switch {
		case written:
			o.rec.Version, o.rec.Expires, o.rec.Deadline, o.rec.Created = now.version, now.expires, now.deadline, now.created
			o.ran = w.batch.began
			s.saves.Settle(o, nil)
		case w.held(o):
			held = append(held, o)
		case o.lost != nil && !(there && was.version <= o.rec.Version):
			s.saves.Settle(o, s.savedAfterAll(ctx, o))
		case !there:
			s.saves.Settle(o, session.ErrNotFound)
		case !was.live && was.inGrace:
			s.saves.Settle(o, session.ErrConflict)
		case !was.live:
			s.saves.Settle(o, session.ErrNotFound)
		case was.user != o.rec.User:
			s.saves.Settle(o, session.ErrUserChanged)
		case was.version != o.rec.Version:
			s.saves.Settle(o, session.ErrConflict)
		case !ends(o) && !o.rec.Expires.After(w.batch.began.clock):
			s.saves.Settle(o, errLags)
		case mode.patience == careful:
			// Another write came between the statement's snapshot and its lock. With
			// the lock taken before, there is no such thing.
			held = append(held, o)
		default: // it expired within the statement
			s.saves.Settle(o, session.ErrNotFound)
		}
	}
	return held, nil
}

// savedAfterAll decides about a save whose first answer was lost and whose
// session has a later version now. Only the next one tells whose it is.
func (s *Store) savedAfterAll(ctx context.Context, o *op) error {
	rec, err := s.read(ctx, o.key)
	switch {
	case err != nil || rec.Key != o.key || rec.Version != o.rec.Version+1:
		return s.outcomeOpen(ctx, o.lost, err)
	case rec.User != o.rec.User:
		return session.ErrUserChanged
	case !bytes.Equal(rec.Data, o.rec.Data):
		return session.ErrConflict
	}
	rec.Key = o.rec.Key
	o.rec = rec
	return nil
}
