package pgstore

import (
	"context"

	"github.com/sojourn-go/sojourn/internal/storekit"
)

const lockTries = 5

// retry repeats a transaction that others made fail.
func (s *Store) retry(ctx context.Context, do func(context.Context) error) error {
	for try := 1; ; try++ {
		err := do(ctx)
		if f := outcomeOf(err); err == nil || (f != txConflict && f != txLocked) {
			return err
		}
		if try == lockTries || !storekit.Backoff().Pause(ctx, try) {
			return err
		}
		s.stats.retries.Add(1)
	}
}
