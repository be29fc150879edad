package reqsession

import (
	"context"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
)

// TouchLimit is how long a request waits for a touch.
const TouchLimit = time.Second

// commitLimit is how long writes may take that go on when the browser has gone.
const commitLimit = 10 * time.Second

// Limits gives a write its context.
type Limits func() (context.Context, context.CancelFunc)

// Exactly has a write last as long as ctx.
func Exactly(ctx context.Context) Limits {
	return func() (context.Context, context.CancelFunc) { return ctx, func() {} }
}

// Lasting has a write outlast the request of ctx: what a handler has done shall be
// saved even if the browser has gone.
func Lasting(ctx context.Context) Limits {
	return func() (context.Context, context.CancelFunc) {
		return context.WithTimeoutCause(context.WithoutCancel(ctx), commitLimit,
			fmt.Errorf("the store did not answer within %v: %w", commitLimit, context.DeadlineExceeded))
	}
}

// Collided waits before another attempt at a write that was in conflict. The
// pause is partly chance, so that two conflicting requests do not retry in
// step. It returns err if ctx ends first.
func Collided(ctx context.Context, err error, attempt int) error {
	pauses := wait.Backoff{First: time.Millisecond, Most: 20 * time.Millisecond}
	if attempt > 1 && !pauses.Pause(ctx, attempt-1) {
		return wait.Because(ctx, err)
	}
	return nil
}
