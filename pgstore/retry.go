package pgstore

import (
	"context"
	"math/rand/v2"
	"time"
)

// pause waits before the try-th repetition: longer each time, and by chance,
// so that those who collided do not meet again. It reports whether ctx lasted.
func pause(ctx context.Context, try int) bool {
	t := time.NewTimer(backoff(try))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// backoff is longer for each try, up to 0.4 s.
func backoff(try int) time.Duration {
	d := time.Millisecond << min(try, 8)
	return d/2 + rand.N(d)
}

const lockTries = 5

// retry repeats a transaction that others made fail.
func (s *Store) retry(ctx context.Context, do func(context.Context) error) error {
	for try := 1; ; try++ {
		err := do(ctx)
		if f := outcomeOf(err); err == nil || (f != txConflict && f != txLocked) {
			return err
		}
		if try == lockTries || !pause(ctx, try) {
			return err
		}
		s.stats.retries.Add(1)
	}
}
