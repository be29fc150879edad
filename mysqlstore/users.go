package mysqlstore

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/session"
)

// ListUser implements session.UserIndex.
func (s *Store) ListUser(ctx context.Context, user string) ([]session.Record, error) {
	recs, err := s.listUser(ctx, user)
	return recs, wrap("list user", err)
}

func (s *Store) listUser(ctx context.Context, user string) (recs []session.Record, err error) {
	if err := s.begunFor(ctx, user); err != nil {
		return nil, err
	}
	err = s.scan(ctx, func(c *conn) error {
		recs = nil
		return c.ofUser(ctx, ofUser, user, func(r *sqlrow.Row) { recs = append(recs, r.Rec) })
	})
	if err != nil {
		return nil, err
	}
	return recs, nil
}

// ofUser visits the live sessions of user, those created first first.
func (c *conn) ofUser(ctx context.Context, q query, user string, visit func(*sqlrow.Row)) error {
	return c.query(ctx, one(q), func(v []driver.Value) error {
		r, err := rowOf(v)
		if err == nil {
			visit(r)
		}
		return err
	}, []byte(user))
}

// CountUser implements session.UserIndex.
func (s *Store) CountUser(ctx context.Context, user string) (int64, error) {
	if err := s.begunFor(ctx, user); err != nil {
		return 0, wrap("count user", err)
	}
	n, err := s.number(ctx, countUser, []byte(user))
	return n, wrap("count user", err)
}

func (s *Store) begunFor(ctx context.Context, user string) error {
	if err := s.begun(ctx); err != nil {
		return err
	}
	return s.limits().User("user", user)
}

// number reads one number.
func (s *Store) number(ctx context.Context, q query, args ...any) (n int64, err error) {
	err = s.scan(ctx, func(c *conn) error {
		n, _, err = c.maybeNumber(ctx, q, args...)
		return err
	})
	return n, err
}

func (c *conn) maybeNumber(ctx context.Context, q query, args ...any) (n int64, null bool, err error) {
	err = c.query(ctx, one(q), func(v []driver.Value) error {
		scan := scanner(v)
		n, null = scan.MaybeNumber()
		return scan.Err
	}, args...)
	return n, null, err
}

// DestroyUser implements session.UserIndex. It ends sessions in transactions of
// up to 500. Logins of the user, and of users who share one of 256 locks with
// that one, wait for the transaction under way. Each may take
// Options.WriteTimeout, all together as long as ctx lasts.
func (s *Store) DestroyUser(ctx context.Context, user string, except ...session.Key) (int64, error) {
	n, err := s.destroyUser(ctx, user, slices.Clone(except))
	s.stats.destroys.Add(uint64(n))
	return n, wrap("destroy user", err)
}

func (s *Store) destroyUser(ctx context.Context, user string, except []session.Key) (int64, error) {
	if err := s.begunFor(ctx, user); err != nil {
		return 0, err
	}
	spared := make(map[[32]byte][]session.Key, len(except))
	for _, key := range except {
		spared[key.Hash] = append(spared[key.Hash], key)
	}
	return bulk{
		what: "destroy user",
		// A session that is added once a step is committed has a higher id.
		guard: func(t *tx) error { return t.takeStripe(user) },
		page:  pageOfUser,
		args:  []any{[]byte(user)},
		spared: func(r *sqlrow.Row) bool {
			return r.Rec.User != user || slices.ContainsFunc(spared[r.Rec.Key.Hash], r.Is)
		},
	}.run(ctx, s)
}

func (t *tx) takeStripe(user string) error {
	return t.query(t.ctx, one(takeStripe), discard, stripeOf(user))
}

func discard([]driver.Value) error { return nil }

// admit takes the user's stripe as a creation under that limit needs it.
func (t *tx) admit(user string, limit session.UserLimit) error {
	switch {
	case user == "":
		return nil
	case limit.Max == 0:
		_, err := t.shareStripes([]int64{stripeOf(user)})
		return err
	}
	return t.takeStripe(user)
}

// makeRoom ends sessions of user, if the limit says so, until one more fits.
// The sessions of except do not count. The user's stripe is taken.
func (t *tx) makeRoom(user string, except []session.Key, limit session.UserLimit) ([]session.Key, error) {
	if limit.Max == 0 {
		return nil, nil
	}
	var live []session.Key
	err := t.ofUser(t.ctx, keysOfUser, user, func(r *sqlrow.Row) {
		if !slices.ContainsFunc(except, func(k session.Key) bool { return k.Hash == r.Rec.Key.Hash }) {
			live = append(live, r.Rec.Key)
		}
	})
	surplus := len(live) + 1 - limit.Max
	switch {
	case err != nil || surplus <= 0:
		return nil, err
	case !limit.Evict:
		return nil, fmt.Errorf("%w: the limit is %d", session.ErrUserLimit, limit.Max)
	}
	var evicted []session.Key
	for some := range slices.Chunk(live[:surplus], endBatch) {
		var hashes [][32]byte
		for _, key := range some {
			hashes = append(hashes, key.Hash)
		}
		rows, err := t.lockAll(hashes)
		if err != nil {
			return nil, err
		}
		var doomed []*sqlrow.Row
		for _, hash := range hashes { // which are sorted now
			if r := rows[hash]; r != nil && r.Ended.IsZero() {
				doomed = append(doomed, r)
			}
		}
		if err := t.endAll(doomed); err != nil {
			return nil, err
		}
		for _, key := range some {
			if r := rows[key.Hash]; r != nil && r.Live() { // else it is gone by itself
				evicted = append(evicted, key)
			}
		}
	}
	return evicted, nil
}
