package pgstore

import (
	"context"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
)

const lockTries = 5

// retry repeats a transaction that others made fail.
func (s *Store) retry(ctx context.Context, do func(context.Context) error) error {
	for try := 1; ; try++ {
		err := do(ctx)
		if f := db.OutcomeOf(err); err == nil || (f != db.TxConflict && f != db.TxLocked) {
			return err
		}
		if try == lockTries || !storekit.Backoff().Pause(ctx, try) {
			return err
		}
		s.conns.Retries.Add(1)
	}
}
