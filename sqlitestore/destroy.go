package sqlitestore

import (
	"context"
	"slices"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// destroyBatch is how many keys one transaction ends, so that other writes get
// in between.
const destroyBatch = 1000

// Destroy implements session.Store. It ends sessions in transactions of up to
// 1,000. When it fails, it returns how many it had ended before.
func (s *Store) Destroy(ctx context.Context, keys ...session.Key) (int64, error) {
	n, err := s.destroy(ctx, slices.Clone(keys))
	return n, wrap("destroy", err)
}

func (s *Store) destroy(ctx context.Context, keys []session.Key) (total int64, err error) {
	if err := s.begun(ctx); err != nil {
		return 0, err
	}
	for _, key := range keys {
		if err := storekit.Key("a key", key); err != nil {
			return 0, err
		}
	}
	for batch := range slices.Chunk(keys, destroyBatch) {
		n, err := writeFirst(ctx, s, func(t *tx) (n int64, err error) {
			for _, key := range batch {
				live, err := t.endHead(key)
				if err != nil {
					return 0, err
				}
				n += live
			}
			return n, nil
		})
		total += n
		s.stats.destroys.Add(uint64(n))
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// endHead ends the session that key stands for and returns how many that were.
func (t *tx) endHead(key session.Key) (int64, error) {
	r, err := t.find(key)
	for err == nil && r != nil && r.Next != nil {
		r, err = t.find(r.Successor())
	}
	if err != nil || r == nil || !r.Ended.IsZero() {
		return 0, err
	}
	if err := t.end(r); err != nil {
		return 0, err
	}
	if r.Live() {
		return 1, nil
	}
	return 0, nil
}
