package memstore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sojourn-go/sojourn/internal/record"
	"github.com/sojourn-go/sojourn/session"
)

func checkKey(key session.Key) error {
	if key.IsZero() {
		return fmt.Errorf("%w: the key is zero", session.ErrInvalid)
	}
	return nil
}

// checkUser is about users who may have sessions.
func checkUser(user string) error {
	switch {
	case !utf8.ValidString(user) || strings.ContainsRune(user, 0):
		return fmt.Errorf("%w: the user is not UTF-8 without NUL", session.ErrInvalid)
	}
	return nil
}

// check tests what can be told without looking at rows.
func (s *Store) check(rec session.Record) error {
	if len(rec.User) > s.opts.MaxUser {
		return fmt.Errorf("%w: the user has %d bytes; the limit is %d", session.ErrTooLarge, len(rec.User), s.opts.MaxUser)
	}
	return s.checkSaved(rec)
}

// checkSaved is check for a save, whose user is the session's.
func (s *Store) checkSaved(rec session.Record) error {
	if len(rec.Data) > s.opts.MaxData {
		return fmt.Errorf("%w: the data has %d bytes; the limit is %d", session.ErrTooLarge, len(rec.Data), s.opts.MaxData)
	}
	return cmp.Or(checkKey(rec.Key), checkUser(rec.User))
}

// newRow makes the row of a session to be, which is not in the table yet. It
// ends at latest at the latest.
func (s *Store) newRow(rec session.Record, latest, now time.Time) (*row, error) {
	rec.Version, rec.Created, rec.Data = record.Version(0), now, bytes.Clone(rec.Data)
	rec.Deadline, rec.Expires = utc(rec.Deadline), utc(rec.Expires)
	if rec.Expires.IsZero() {
		rec.Expires = rec.Deadline
	}
	r := &row{rec: rec, bucket: session.BucketOf(rec.Deadline)}
	switch {
	case !rec.Deadline.After(now):
		return nil, fmt.Errorf("%w: the deadline has passed", session.ErrDeadline)
	case rec.Deadline.After(latest):
		return nil, fmt.Errorf("%w: the deadline is more than the longest lifetime of %v ahead", session.ErrDeadline, s.opts.Longest)
	case !rec.Expires.After(now):
		return nil, fmt.Errorf("%w: the expiry has passed", session.ErrDeadline)
	case rec.Expires.After(rec.Deadline):
		return nil, fmt.Errorf("%w: the expiry is after the deadline", session.ErrDeadline)
	case rec.Key.Bucket != 0 && rec.Key.Bucket != r.bucket:
		return nil, fmt.Errorf("%w: the key's bucket is %d, the deadline's is %d", session.ErrInvalid, rec.Key.Bucket, r.bucket)
	case s.table.rows[rec.Key.Hash] != nil:
		return nil, session.ErrExists
	}
	return r, nil
}

// replace gives a live row new data and, if rec has one, a new expiry.
func (s *Store) replace(r *row, rec session.Record, now time.Time) session.Record {
	r.rec.Version = record.Version(r.rec.Version)
	r.rec.Data = bytes.Clone(rec.Data) // never changed in place: readers hold what was there
	if !rec.Expires.IsZero() {
		r.rec.Expires = earlier(utc(rec.Expires), r.rec.Deadline)
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
		if err := s.check(rec); err != nil {
			return err
		}
		r, err := s.newRow(rec, now.Add(s.opts.Longest), now)
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
		if grace < 0 || grace > session.MaxGrace {
			return fmt.Errorf("%w: the grace period is %v; it must be from 0 to %v", session.ErrInvalid, grace, session.MaxGrace)
		}
		if err := cmp.Or(checkKey(key), s.check(rec)); err != nil {
			return err
		}
		old, err := s.table.writable(key, now)
		if err != nil {
			return err
		}
		if old.rec.Version != rec.Version {
			return session.ErrConflict
		}
		latest := now.Add(s.opts.Longest)
		if latest.Before(old.rec.Deadline) {
			latest = old.rec.Deadline // it may keep what it has
		}
		r, err := s.newRow(rec, latest, now)
		if err != nil {
			return err
		}
		r.rec.Version = record.Version(old.rec.Version)
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
		if err := s.check(rec); err != nil {
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
			rec.Deadline = now.Add(s.opts.Longest)
		}
		rec.Expires = earlier(rec.Expires, rec.Deadline)
		r, err := s.newRow(rec, now.Add(s.opts.Longest), now)
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

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
