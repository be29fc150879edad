package sqlitestore

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// ListUser implements session.UserIndex.
func (s *Store) ListUser(ctx context.Context, user string) ([]session.Record, error) {
	recs, err := s.listUser(ctx, user)
	return recs, wrap("list user", err)
}

func (s *Store) listUser(ctx context.Context, user string) (recs []session.Record, err error) {
	if err := s.limits.User("user", user); err != nil {
		return nil, err
	}
	err = s.scan(ctx, func(c *conn) error {
		recs = nil
		now := s.Now()
		return c.query(ctx, ofUser, func(v []driver.Value) error {
			r, err := rowOf(v, now)
			if err == nil && r.Live() {
				recs = append(recs, r.Rec)
			}
			return err
		}, user)
	})
	if err != nil {
		return nil, err
	}
	return recs, nil
}

// CountUser implements session.UserIndex.
func (s *Store) CountUser(ctx context.Context, user string) (int64, error) {
	if err := s.limits.User("user", user); err != nil {
		return 0, wrap("count user", err)
	}
	n, err := s.number(ctx, countUser, user, storekit.Micros(s.Now()))
	return n, wrap("count user", err)
}

// number reads one number.
func (s *Store) number(ctx context.Context, q query, args ...any) (n int64, err error) {
	err = s.scan(ctx, func(c *conn) error {
		return c.query(ctx, q, func(v []driver.Value) error {
			scan := scanner(v)
			n = scan.Number()
			return scan.Err
		}, args...)
	})
	return n, err
}

// DestroyUser implements session.UserIndex. It ends sessions in transactions of
// up to 500, so that other writes get in between; all together may take as long as
// ctx lasts.
func (s *Store) DestroyUser(ctx context.Context, user string, except ...session.Key) (int64, error) {
	n, err := s.destroyUser(ctx, user, slices.Clone(except))
	s.stats.destroys.Add(uint64(n))
	return n, wrap("destroy user", err)
}

func (s *Store) destroyUser(ctx context.Context, user string, except []session.Key) (int64, error) {
	if err := s.limits.User("user", user); err != nil {
		return 0, err
	}
	spared := make(map[[32]byte][]session.Key, len(except))
	for _, key := range except {
		spared[key.Hash] = append(spared[key.Hash], key)
	}
	return bulk{
		page:   pageOfUser,
		args:   []any{user},
		spared: func(r *sqlrow.Row) bool { return slices.ContainsFunc(spared[r.Rec.Key.Hash], r.Is) },
	}.run(ctx, s)
}

// ofUser returns the rows of a user that were not ended, those created first
// first.
func (t *tx) ofUser(user string, now time.Time) (rows []*sqlrow.Row, err error) {
	err = t.query(context.Background(), ofUserBare, func(v []driver.Value) error {
		r, err := rowOf(v, now)
		rows = append(rows, r)
		return err
	}, user)
	return rows, err
}

// makeRoom ends sessions of rec's user, if the limit says so, until rec fits.
// The row that rec replaces, if any, does not count.
func (t *tx) makeRoom(rec session.Record, replaced *sqlrow.Row, limit session.UserLimit, now time.Time) ([]session.Key, error) {
	if limit.Max == 0 {
		return nil, nil
	}
	rows, err := t.ofUser(rec.User, now)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(r *sqlrow.Row) bool {
		return !r.Live() || replaced != nil && r.ID == replaced.ID
	})
	surplus := len(rows) + 1 - limit.Max
	if surplus <= 0 {
		return nil, nil
	}
	if !limit.Evict {
		return nil, fmt.Errorf("%w: the limit is %d", session.ErrUserLimit, limit.Max)
	}
	var keys []session.Key
	for _, r := range rows[:surplus] {
		keys = append(keys, r.Rec.Key)
		if err := t.end(r); err != nil {
			return nil, err
		}
	}
	return keys, nil
}
