package mysqlstore

import (
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	out, err := s.touch(ctx, key, expires)
	return out, wrap("touch", err)
}

func (s *Store) touch(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	if err := s.begun(ctx); err != nil {
		return time.Time{}, err
	}
	if err := storekit.Key("the key", key); err != nil {
		return time.Time{}, err
	}
	if !storekit.Possible(key) {
		s.stats.refused.Add(1)
		return time.Time{}, session.ErrNotFound
	}
	o := &op{key: key, rec: session.Record{Expires: storekit.Expiry(expires)}}
	if err := s.touches.Do(ctx, o); err != nil {
		return time.Time{}, err
	}
	s.stats.touches.Add(1)
	return o.made.Expires, nil
}

func touchManner() manner {
	return manner{name: "touch", lone: touchLone, batch: touchBatch, apart: touchApart}
}

func touchLone(t *tx, o *op) (bool, error) {
	if !t.instant {
		return false, nil
	}
	expires := storekit.Micros(o.rec.Expires)
	out, err := t.exec(t.ctx, one(touch), expires, o.key.Hash[:], int64(o.key.Bucket), expires)
	o.made.Expires = storekit.Time(out.id)
	return out.rows == 1, err
}

func touchBatch(t *tx, ops []*op) error {
	rows, err := t.lockSome(hashesOf(ops))
	if err != nil {
		return err
	}
	var move []*op
	for _, o := range ops {
		r := rows[o.key.Hash]
		if r == nil {
			continue
		}
		if !r.Is(o.key) {
			r = nil
		}
		expires, later, err := r.Touch(o.rec.Expires)
		o.made.Expires, o.written, o.refusal = expires, err == nil, err
		if later {
			move = append(move, o)
		}
	}
	if len(move) == 0 {
		return nil
	}
	size := sizeFor(len(move))
	hashes := hashArgs(nil, hashesOf(move))
	args := append([]any(nil), hashes...)
	for i := range size {
		args = append(args, decimal(storekit.Micros(move[min(i, len(move)-1)].made.Expires)))
	}
	_, err = t.exec(t.ctx, text{touchSome, size}, append(args, hashes...)...)
	return err
}

func touchApart(t *tx, o *op) error {
	r, err := t.lockKey(o.key)
	if err != nil {
		return err
	}
	expires, later, err := r.Touch(o.rec.Expires)
	if err != nil {
		return err
	}
	o.made.Expires = expires
	if later {
		_, err = t.exec(t.ctx, one(moveTo), storekit.Micros(expires), o.key.Hash[:])
	}
	return err
}
