package mysqlstore

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"

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
		return c.ofUser(ctx, user, func(r *row) { recs = append(recs, r.rec) })
	})
	if err != nil {
		return nil, err
	}
	return recs, nil
}

// ofUser visits the live sessions of user, those created first first.
func (c *conn) ofUser(ctx context.Context, user string, visit func(*row)) error {
	return c.query(ctx, one(ofUser), func(v []driver.Value) error {
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
	return s.limits.User("user", user)
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
		scan := scanner{values: v}
		n, null = scan.maybeNumber()
		return scan.err
	}, args...)
	return n, null, err
}

// endBatch is how many sessions one transaction ends in bulk, so that other
// writes get in between.
const endBatch = 500

// DestroyUser implements session.UserIndex. It ends sessions in transactions of
// up to 500; logins of the user wait for the one under way.
func (s *Store) DestroyUser(ctx context.Context, user string, except ...session.Key) (int64, error) {
	n, err := s.destroyUser(ctx, user, slices.Clone(except))
	s.stats.destroys.Add(uint64(n))
	return n, wrap("destroy user", err)
}

func (s *Store) destroyUser(ctx context.Context, user string, except []session.Key) (total int64, err error) {
	if err := s.begunFor(ctx, user); err != nil {
		return 0, err
	}
	spared := func(r *row) bool {
		return slices.ContainsFunc(except, func(k session.Key) bool { return k.Hash == r.rec.Key.Hash && r.is(k) })
	}
	after := int64(0)
	for {
		from := after
		done, err := write(ctx, s, "destroy user", func(t *tx) (bulk, error) {
			if err := t.takeStripe(user); err != nil {
				return bulk{}, err
			}
			// What is added once this is committed has a higher id.
			b, err := t.candidates(pageOfUser, []byte(user), from, int64(endBatch))
			if err != nil {
				return b, err
			}
			_, err = t.endLive(&b, func(r *row) bool { return !spared(r) })
			return b, err
		})
		total += done.live
		if err != nil || len(done.hashes) < endBatch {
			return total, err
		}
		after = done.last
	}
}

// bulk is rows that are to be ended together.
type bulk struct {
	hashes [][32]byte
	last   int64 // the highest id
	live   int64 // how many were live
}

// candidates reads ids and hashes, and locks nothing.
func (t *tx) candidates(q query, args ...any) (b bulk, err error) {
	err = t.query(t.ctx, one(q), func(v []driver.Value) error {
		scan := scanner{values: v}
		b.last = scan.number()
		b.hashes = append(b.hashes, [32]byte(scan.hash()))
		return scan.err
	}, args...)
	return b, err
}

// endLive locks the rows of b and ends those that are doomed and were not ended
// meanwhile.
func (t *tx) endLive(b *bulk, doomed func(*row) bool) (map[[32]byte]*row, error) {
	rows, err := t.lockAll(b.hashes)
	if err != nil {
		return nil, err
	}
	var end []*row
	for _, hash := range b.hashes { // which are sorted now
		if r := rows[hash]; r != nil && r.ended.IsZero() && doomed(r) {
			end = append(end, r)
			if r.live(r.now) {
				b.live++
			}
		}
	}
	return rows, t.endAll(end)
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
		return t.shareStripes([]int64{stripeOf(user)})
	}
	return t.takeStripe(user)
}

// makeRoom ends sessions of user, if the limit says so, until one more fits.
// Those of except do not count. The user's stripe is taken.
func (t *tx) makeRoom(user string, except []session.Key, limit session.UserLimit) ([]session.Key, error) {
	if limit.Max == 0 {
		return nil, nil
	}
	var keys []session.Key
	err := t.ofUser(t.ctx, user, func(r *row) {
		if !slices.ContainsFunc(except, func(k session.Key) bool { return k.Hash == r.rec.Key.Hash }) {
			keys = append(keys, r.rec.Key)
		}
	})
	surplus := len(keys) + 1 - limit.Max
	switch {
	case err != nil || surplus <= 0:
		return nil, err
	case !limit.Evict:
		return nil, fmt.Errorf("%w: the limit is %d", session.ErrUserLimit, limit.Max)
	}
	keys = keys[:surplus]
	var gone []session.Key // by themselves meanwhile
	for some := range slices.Chunk(keys, endBatch) {
		var b bulk
		for _, key := range some {
			b.hashes = append(b.hashes, key.Hash)
		}
		alive := map[[32]byte]bool{}
		_, err := t.endLive(&b, func(r *row) bool {
			alive[r.rec.Key.Hash] = r.live(r.now)
			return true
		})
		if err != nil {
			return nil, err
		}
		for _, key := range some {
			if !alive[key.Hash] {
				gone = append(gone, key)
			}
		}
	}
	return slices.DeleteFunc(keys, func(k session.Key) bool { return slices.Contains(gone, k) }), nil
}
