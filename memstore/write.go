package memstore

import (
	"bytes"
	"cmp"
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// newRow makes the row of a session to be, which is not in the table yet.
func (s *Store) newRow(rec session.Record, limits storekit.Limits, now time.Time) (*row, error) {
	rec, err := limits.NewExact(rec, now)
	if err != nil {
		return nil, err
	}
	if s.table.rows[rec.Key.Hash] != nil {
		return nil, session.ErrExists
	}
	rec.Version, rec.Created, rec.Data = storekit.Version(0), now, bytes.Clone(rec.Data)
	return &row{rec: rec, bucket: session.BucketOf(rec.Deadline)}, nil
}

// replace gives a live row new data and, if rec has one, a new expiry.
func (s *Store) replace(r *row, rec session.Record, now time.Time) session.Record {
	r.rec.Version = storekit.Version(r.rec.Version)
	r.rec.Data = bytes.Clone(rec.Data) // never changed in place: readers hold what was there
	if !rec.Expires.IsZero() {
		r.rec.Expires = storekit.Earlier(storekit.Exact(rec.Expires), r.rec.Deadline)
	}
	s.stats.Saves++
	out := r.rec
	out.Key = rec.Key
	if !r.live(now) {
		s.table.end(r)
	}
	return out
}

// end ends a row and returns how many sessions that were.
func (s *Store) end(now time.Time, rows ...*row) (n int64) {
	for _, r := range rows {
		if r.live(now) {
			n++
		}
		s.table.end(r)
	}
	s.stats.Destroys += uint64(n)
	return n
}

func (s *Store) create(ctx context.Context, rec session.Record, limit session.UserLimit) (out session.Record, evicted []session.Key, err error) {
	err = s.write(ctx, "create", func(now time.Time) error {
		r, err := s.newRow(rec, s.limits, now)
		if err != nil {
			return err
		}
		if evicted, err = s.makeRoom(r, nil, limit, now); err != nil {
			return err
		}
		s.table.insert(r)
		s.stats.Creates++
		out = r.rec
		return nil
	})
	return out, evicted, err
}

func (s *Store) renew(ctx context.Context, key session.Key, rec session.Record, grace time.Duration, limit session.UserLimit) (out session.Record, evicted []session.Key, err error) {
	err = s.write(ctx, "renew", func(now time.Time) error {
		if err := cmp.Or(storekit.Grace(grace), storekit.Key("the old key", key), s.limits.Content(rec)); err != nil {
			return err
		}
		old, err := s.table.writable(key, now)
		if err != nil {
			return err
		}
		if old.rec.Version != rec.Version {
			return session.ErrConflict
		}
		r, err := s.newRow(rec, s.limits.Replacing(old.rec.Deadline, now), now)
		if err != nil {
			return err
		}
		r.rec.Version = storekit.Version(old.rec.Version)
		if r.rec.User == old.rec.User {
			r.rec.Created = old.rec.Created
		}
		if evicted, err = s.makeRoom(r, old, limit, now); err != nil {
			return err
		}
		s.table.renew(old, r, now, grace)
		s.stats.Renews++
		out = r.rec
		return nil
	})
	return out, evicted, err
}

// Put implements session.Putter.
func (s *Store) Put(ctx context.Context, rec session.Record) (out session.Record, err error) {
	err = s.write(ctx, "put", func(now time.Time) error {
		if err := s.limits.Content(rec); err != nil {
			return err
		}
		if s.table.find(rec.Key) != nil {
			r, err := s.table.writable(rec.Key, now)
			switch {
			case err != nil:
				return session.ErrNotFound // also in the grace period of a renewal
			case rec.User != "" && rec.User != r.rec.User:
				return session.ErrUserChanged
			}
			out = s.replace(r, rec, now)
			return nil
		}
		if rec.Deadline.IsZero() {
			rec.Deadline = s.limits.PutDeadline(rec.Key, now)
		}
		rec.Expires = storekit.Earlier(rec.Expires, rec.Deadline)
		r, err := s.newRow(rec, s.limits, now)
		if err != nil {
			return err
		}
		s.table.insert(r)
		s.stats.Creates++
		out = r.rec
		return nil
	})
	return out, err
}
