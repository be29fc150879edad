package mysqlstore

import (
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

func (f fast) Touch(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	o := &op{key: key, rec: session.Record{Expires: expires}}
	if err := f.s.touches.Do(ctx, o); err != nil {
		return time.Time{}, err
	}
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

func touchApart(t *tx, o *op) (err error) {
	o.made.Expires, err = sqlstore.Touch(t, o.key, o.rec.Expires)
	return err
}
