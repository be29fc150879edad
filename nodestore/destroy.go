package nodestore

import (
	"context"
	"time"
)

// Destroy removes sessions and returns how many rows there were, those included
// that had expired and were not pruned yet. Unknown IDs are no error. Each ID is
// removed by itself: when one fails, those before it are gone.
func (s *Store) Destroy(ctx context.Context, ids ...string) (int64, error) {
	start := time.Now()
	var n int64
	err := s.begun(ctx)
	if err == nil {
		n, err = s.destroy(ctx, ids...)
	}
	return n, s.done("destroy", start, written(ctx, err), ids...)
}

func (s *Store) destroy(ctx context.Context, ids ...string) (total int64, err error) {
	for _, id := range ids {
		key, err := s.key(id)
		if err != nil {
			continue // no row can have it
		}
		err = s.retry(ctx, func() error {
			n, err := s.exec(ctx, nil, s.q.destroy, values{"id": key})
			total += n
			return err
		})
		if err != nil && !isForeign(err) {
			return total, err
		}
	}
	return total, nil
}
