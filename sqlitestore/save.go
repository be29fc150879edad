package sqlitestore

import (
	"bytes"
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/record"
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
	rec.Data = bytes.Clone(rec.Data)
	out, err := write(ctx, s, len(rec.Data), func(t *tx) (session.Record, error) {
		now := t.now()
		if t.lost != nil {
			if done, err := t.saved(rec); done.Version != 0 || err != nil {
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
		return t.replace(r, rec, now)
	})
	if err == nil {
		s.stats.saves.Add(1)
	}
	return out, err
}

// replace gives a live row new data and, if rec has one, a new expiry.
func (t *tx) replace(r *row, rec session.Record, now time.Time) (session.Record, error) {
	out := r.rec
	out.Key, out.Data = rec.Key, rec.Data
	out.Version++
	if !rec.Expires.IsZero() {
		out.Expires = record.Earlier(record.Expiry(rec.Expires), r.rec.Deadline)
	}
	if !now.Before(out.Expires) {
		return out, t.end(r, now)
	}
	_, err := t.exec(save, r.id, record.Micros(out.Expires), nullBytes(rec.Data))
	return out, err
}

// end makes r a tombstone.
func (t *tx) end(r *row, now time.Time) error {
	_, err := t.exec(end, r.id, record.Micros(now))
	return err
}

// saved returns the session, if a save whose outcome was open has taken place.
// If the session has changed further since, only the next version could have
// told.
func (t *tx) saved(rec session.Record) (session.Record, error) {
	r, err := t.find(rec.Key, find)
	switch {
	case err != nil || r == nil || r.ended.IsZero() && r.rec.Version <= rec.Version:
		return session.Record{}, err
	case !r.ended.IsZero() || r.rec.Version != rec.Version+1:
		return session.Record{}, unknown(t.lost)
	case r.rec.User != rec.User || !bytes.Equal(r.rec.Data, rec.Data):
		return session.Record{}, session.ErrConflict
	}
	out := r.rec
	out.Key = rec.Key
	return out, nil
}
