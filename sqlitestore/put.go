package sqlitestore

import (
	"context"
	"time"

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
		now := t.now()
		// By the hash alone: with another bucket it would be another session's.
		r, err := t.find(session.Key{Hash: rec.Key.Hash}, find)
		switch {
		case err != nil:
			return result{}, err
		case r == nil:
			rec, err := t.putNew(rec, now)
			return result{rec, true}, err
		case !r.is(rec.Key):
			return result{}, storekit.Invalid("Record.Key has bucket %d; that of its deadline is %d", rec.Key.Bucket, r.rec.Key.Bucket)
		case !r.live(now) && t.lost != nil:
			return result{}, storekit.Unknown(t.lost) // it may have been this one that ended it
		case !r.live(now):
			return result{}, session.ErrNotFound // also in the grace period of a renewal
		case rec.User != "" && rec.User != r.rec.User:
			return result{}, session.ErrUserChanged
		}
		out := replacing(r, rec, r.rec.Version+rec.Version)
		return result{out, false}, t.replace(r, out, now)
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
	if rec.Deadline.IsZero() {
		rec.Deadline = now.Add(t.s.opts.Longest)
		if rec.Key.Bucket != 0 { // the key says when
			rec.Deadline = time.Unix(int64(rec.Key.Bucket)*3600, 0)
		}
	}
	if rec.Expires.After(rec.Deadline) {
		rec.Expires = time.Time{} // the deadline, as it is kept
	}
	rec, err := t.s.limits.New(rec, now)
	if err != nil {
		return session.Record{}, err
	}
	rec.Created = now
	return rec, t.insert(rec, 0)
}
