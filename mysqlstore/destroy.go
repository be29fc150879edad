package mysqlstore

import (
	"context"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/session"
)

func (f fast) Destroy(ctx context.Context, keys []session.Key) (live int64, err error) {
	s := f.s
	ops := make([]*op, len(keys))
	for i, key := range keys {
		ops[i] = &op{key: key}
	}
	_ = s.destroys.Start(ctx, ops...) // Await tells it again
	for _, o := range ops {
		if failed := s.destroys.Await(ctx, o); failed != nil {
			if err == nil {
				err = failed
			}
			continue
		}
		if o.live {
			live++
			for _, l := range []*lane{s.saves, s.touches} {
				l.FinishKey(o.key.Hash, session.ErrNotFound)
			}
		}
	}
	return live, err
}

func destroyManner() manner {
	return manner{name: "destroy", lone: destroyLone, batch: destroyBatch, apart: destroyApart, anyway: true}
}

func destroyLone(t *tx, o *op) (bool, error) {
	if !t.instant {
		return false, nil
	}
	out, err := t.exec(t.ctx, one(end), o.key.Hash[:], int64(o.key.Bucket))
	o.live = out.rows == 1
	return o.live, err
}

func destroyBatch(t *tx, ops []*op) error {
	rows, err := t.lockSome(hashesOf(ops))
	if err != nil {
		return err
	}
	var doomed []*sqlrow.Row
	for _, o := range ops {
		r := rows[o.key.Hash]
		switch {
		case r == nil:
		case !r.Is(o.key):
			o.written = true
		case r.Next != nil: // it stands for another one
		default:
			o.written = true
			if r.Ended.IsZero() {
				o.live = r.Live()
				doomed = append(doomed, r)
			}
		}
	}
	return t.End(doomed...)
}

func destroyApart(t *tx, o *op) (err error) {
	o.live, err = sqlstore.Destroy(t, o.key)
	return err
}
