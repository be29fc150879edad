package wait

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is how long to pause before something is tried again: up to First
// before the first repetition, twice as long each time, and never longer than
// Most. A part of it is chance, so that two callers that collided do not retry
// in step.
type Backoff struct{ First, Most time.Duration }

// Before is the pause before the n-th repetition: from half of its longest.
func (b Backoff) Before(n int) time.Duration {
	d := min(b.First, b.Most)
	for ; n > 1 && d > 0 && d < b.Most; n-- {
		d += min(d, b.Most-d)
	}
	return Jitter(d)
}

// Pause waits before the n-th repetition. It reports whether ctx lasted.
func (b Backoff) Pause(ctx context.Context, n int) bool { return Sleep(ctx, b.Before(n)) }

// Jitter is a duration from half of d to d.
func Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d-d/2+1)
}
