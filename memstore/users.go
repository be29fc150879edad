package memstore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// ofUser returns the live rows of a user, those created first first.
func (t *table) ofUser(user string, now time.Time) []*row {
	rows := slices.Collect(maps.Keys(t.users[user]))
	rows = slices.DeleteFunc(rows, func(r *row) bool { return !r.live(now) })
	slices.SortFunc(rows, func(a, b *row) int {
		return cmp.Or(a.rec.Created.Compare(b.rec.Created), cmp.Compare(a.seq, b.seq))
	})
	return rows
}

// byCreation is the order in which a user's sessions are listed.
func byCreation(a, b session.Record) int {
	return cmp.Or(a.Created.Compare(b.Created), bytes.Compare(a.Key.Hash[:], b.Key.Hash[:]))
}

// makeRoom ends sessions of r's user, if the limit says so, until r fits. The
// row r replaces, if any, does not count.
func (s *Store) makeRoom(r, replaced *row, limit session.UserLimit, now time.Time) ([]session.Key, error) {
	if limit.Max == 0 {
		return nil, nil
	}
	rows := s.table.ofUser(r.rec.User, now)
	rows = slices.DeleteFunc(rows, func(r *row) bool { return r == replaced })
	surplus := len(rows) + 1 - limit.Max
	if surplus <= 0 {
		return nil, nil
	}
	if !limit.Evict {
		return nil, fmt.Errorf("%w: the limit is %d", session.ErrUserLimit, limit.Max)
	}
	var keys []session.Key
	for _, r := range rows[:surplus] {
		keys = append(keys, r.rec.Key)
	}
	s.end(now, rows[:surplus]...)
	return keys, nil
}

// ListUser implements session.UserIndex.
func (s *Store) ListUser(ctx context.Context, user string, after session.Record, most int) (recs []session.Record, err error) {
	err = s.read(ctx, "list user", func(now time.Time) error {
		if err := s.limits.Page(user, most); err != nil {
			return err
		}
		for r := range s.table.users[user] {
			if r.live(now) && byCreation(r.rec, after) > 0 {
				recs = append(recs, r.rec)
			}
		}
		slices.SortFunc(recs, byCreation)
		recs = slices.Clone(recs[:min(most, len(recs))])
		return nil
	})
	return recs, err
}

// CountUser implements session.UserIndex.
func (s *Store) CountUser(ctx context.Context, user string) (n int64, err error) {
	err = s.read(ctx, "count user", func(now time.Time) error {
		n = int64(len(s.table.ofUser(user, now)))
		return s.limits.User("user", user)
	})
	return n, err
}

// endedAtOnce is how many sessions are ended while others wait.
const endedAtOnce = 1000

// DestroyUser implements session.UserIndex.
func (s *Store) DestroyUser(ctx context.Context, user string, except ...session.Key) (total int64, err error) {
	for more := true; more && err == nil; {
		err = s.write(ctx, "destroy user", func(now time.Time) error {
			if err := s.limits.User("user", user); err != nil {
				return err
			}
			spared := map[*row]bool{}
			for _, key := range except {
				spared[s.table.head(key)] = true
			}
			var rows []*row
			for r := range s.table.users[user] {
				if r.live(now) && !spared[r] && len(rows) < endedAtOnce {
					rows = append(rows, r)
				}
			}
			total += s.end(now, rows...)
			more = len(rows) == endedAtOnce
			return nil
		})
	}
	return total, err
}

// CreateLimited implements session.UserIndex.
func (s *Store) CreateLimited(ctx context.Context, rec session.Record, limit session.UserLimit) (session.Record, []session.Key, error) {
	if err := s.limits.UserLimit(rec.User, limit); err != nil {
		return session.Record{}, nil, wrap("create", err)
	}
	return s.create(ctx, rec, limit)
}

// RenewLimited implements session.UserIndex.
func (s *Store) RenewLimited(ctx context.Context, old session.Key, rec session.Record, grace time.Duration, limit session.UserLimit) (session.Record, []session.Key, error) {
	if err := s.limits.UserLimit(rec.User, limit); err != nil {
		return session.Record{}, nil, wrap("renew", err)
	}
	return s.renew(ctx, old, rec, grace, limit)
}
