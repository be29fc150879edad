package mysqlstore

import (
	"context"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Destroy implements session.Store. It ends sessions in transactions of up to
// Options.BatchItems. When it fails, it returns how many it had ended. After a
// lost answer the count may leave out sessions that the first attempt ended.
func (s *Store) Destroy(ctx context.Context, keys ...session.Key) (int64, error) {
	n, err := s.destroy(ctx, keys)
	s.stats.destroys.Add(uint64(n))
	return n, wrap("destroy", err)
}

func (s *Store) destroy(ctx context.Context, keys []session.Key) (live int64, err error) {
	if err := s.begun(ctx); err != nil {
		return 0, err
	}
	for _, key := range keys {
		if err := storekit.Key("a key", key); err != nil {
			return 0, err
		}
	}
	ops := make([]*op, 0, len(keys))
	seen := make(map[session.Key]bool, len(keys))
	for _, key := range keys {
		if storekit.Possible(key) && !seen[key] {
			seen[key] = true
			ops = append(ops, &op{key: key})
		}
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
	return t.endAll(doomed)
}

// endAll makes rows, which are sorted and locked, tombstones.
func (t *tx) endAll(rows []*sqlrow.Row) error {
	if len(rows) == 0 {
		return nil
	}
	hashes := make([][32]byte, len(rows))
	for i, r := range rows {
		hashes[i] = r.Rec.Key.Hash
	}
	args := hashArgs([]any{storekit.Micros(storekit.Expiry(rows[0].Now))}, hashes)
	_, err := t.exec(t.ctx, text{endSome, sizeFor(len(rows))}, args...)
	return err
}

func destroyApart(t *tx, o *op) error {
	r, err := t.lockKey(o.key)
	if err != nil {
		return err
	}
	o.live, err = t.endHead(r)
	return err
}

// endHead ends what a row, which is locked, has become, and reports whether
// that was live. It overtakes a client that renews as fast as it can, since a
// renewal has to lock the row that it replaces.
func (t *tx) endHead(r *sqlrow.Row) (live bool, err error) {
	for err == nil && r != nil && r.Next != nil {
		r, err = t.lock([32]byte(r.Next))
	}
	if err != nil || r == nil || !r.Ended.IsZero() {
		return false, err
	}
	return r.Live(), t.end(r)
}
