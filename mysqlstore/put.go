package mysqlstore

import (
	"bytes"
	"context"
	"errors"
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
	if err := s.limits().Content(rec); err != nil {
		return session.Record{}, err
	}
	rec.Data = bytes.Clone(rec.Data)
	rec.Version = storekit.Step() // also of a new one, from 0
	ends := s.ends(rec)
	type result struct {
		rec session.Record
		new bool
	}
	out, err := write(ctx, s, "put", func(t *tx) (result, error) {
		// By the hash alone: with another bucket it would be another session's.
		r, err := t.lock(rec.Key.Hash)
		if err != nil {
			return result{}, err
		}
		if r == nil {
			rec, err := t.putNew(rec)
			if !errors.Is(err, session.ErrExists) {
				return result{rec, true}, err
			}
			// It was made just now.
			if r, err = t.lock(rec.Key.Hash); err != nil || r == nil {
				return result{}, errors.Join(err, errLate)
			}
		}
		switch {
		case !r.is(rec.Key):
			return result{}, storekit.Invalid("Record.Key has bucket %d; that of its deadline is %d", rec.Key.Bucket, r.rec.Key.Bucket)
		case !r.live(r.now) && t.lost != nil:
			return result{}, storekit.Unknown(t.lost) // it may have been this one that ended it
		case !r.live(r.now):
			return result{}, session.ErrNotFound // also in the grace period of a renewal
		case rec.User != "" && rec.User != r.rec.User:
			return result{}, session.ErrUserChanged
		}
		if err := lags(r, rec, ends); err != nil {
			return result{}, err
		}
		out := replacing(r, rec, r.rec.Version+rec.Version)
		return result{out, false}, t.replace(r, out)
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

// putNew goes by the database's clock alone.
func (t *tx) putNew(rec session.Record) (session.Record, error) {
	// A row of its own is locked already: who ends the user's sessions has the
	// stripe first, and then finds this one, or waits for it.
	if err := t.admit(rec.User, session.UserLimit{}); err != nil {
		return session.Record{}, err
	}
	now, err := t.now()
	if err != nil {
		return session.Record{}, err
	}
	if rec.Deadline.IsZero() {
		rec.Deadline = now.Add(t.s.Longest())
		if rec.Key.Bucket != 0 { // the key says when
			rec.Deadline = time.Unix(int64(rec.Key.Bucket)*3600, 0)
		}
	}
	if rec.Expires.After(rec.Deadline) {
		rec.Expires = time.Time{} // the deadline, as it is kept
	}
	limits := t.s.limits()
	if rec, err = limits.New(rec, now); err != nil {
		return session.Record{}, err
	}
	return t.insert(rec, 0, now, now, limits)
}
