package sqlitestore

import (
	"context"
	"time"

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
		now := t.now()
		if t.lost != nil {
			if done, err := t.saved(rec, becomes); done.Version != 0 || err != nil {
				return done, err
			}
		}
		r, err := t.writable(rec.Key, now)
		switch {
		case err != nil:
			return session.Record{}, err
		case r.rec.Version != rec.Version:
			return session.Record{}, session.ErrConflict
		case r.rec.User != rec.User:
			return session.Record{}, session.ErrUserChanged
		}
		out := replacing(r, rec, becomes)
		return out, t.replace(r, out, now)
	})
	if err == nil {
		s.stats.saves.Add(1)
	}
	return out, err
}

// replacing is a live row with new data and, if rec has one, a new expiry.
func replacing(r *row, rec session.Record, becomes int64) session.Record {
	out := r.rec
	out.Key, out.Data, out.Version = rec.Key, rec.Data, becomes
	if !rec.Expires.IsZero() {
		out.Expires = storekit.Earlier(storekit.Expiry(rec.Expires), r.rec.Deadline)
	}
	return out
}

// replace writes what replacing came to.
func (t *tx) replace(r *row, out session.Record, now time.Time) error {
	if !now.Before(out.Expires) {
		return t.end(r, now)
	}
	_, err := t.exec(save, r.id, storekit.Micros(out.Expires), nullBytes(out.Data), out.Version)
	return err
}

// end makes r a tombstone.
func (t *tx) end(r *row, now time.Time) error {
	_, err := t.exec(end, r.id, storekit.Micros(now))
	return err
}

// saved returns the session, if a save whose outcome was open has taken place:
// its version tells, whatever came after it.
func (t *tx) saved(rec session.Record, becomes int64) (session.Record, error) {
	r, err := t.find(rec.Key, find)
	switch {
	case err != nil || r == nil:
		return session.Record{}, err
	case r.rec.Version == becomes:
		return replacing(r, rec, becomes), nil
	case r.rec.Version > becomes, !r.ended.IsZero():
		return session.Record{}, storekit.Unknown(t.lost) // it may have come after this one, or be its doing
	}
	return session.Record{}, nil
}
