package sqlstore

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Counters count what a store does. The writers count transactions and their
// repetitions.
type Counters struct {
	Flushes, Retries atomic.Uint64

	gets                                      atomic.Uint64
	creates, saves, touches, renews, destroys atomic.Uint64
	refused, unknown, backgroundErrors        atomic.Uint64
}

// Stats returns the counts so far, without those of queues.
func (e *Engine) Stats() session.Stats {
	c := &e.Counters
	st := session.Stats{
		Gets:    c.gets.Load(),
		Creates: c.creates.Load(), Saves: c.saves.Load(), Touches: c.touches.Load(),
		Renews: c.renews.Load(), Destroys: c.destroys.Load(), Refused: c.refused.Load(),
		Flushes: c.Flushes.Load(), Retries: c.Retries.Load(), Unknown: c.unknown.Load(),
		BackgroundErrors: c.backgroundErrors.Load(),
	}
	e.pruning.report(&st)
	return st
}

// CountRefusal counts err if it is the answer of a write that is known.
func (c *Counters) CountRefusal(err error) {
	if storekit.IsRefusal(err) && !errors.Is(err, session.ErrUnknown) {
		c.refused.Add(1)
	}
}

// CountUnknown counts err if it says that nobody knows, and returns it.
func (c *Counters) CountUnknown(err error) error {
	if errors.Is(err, session.ErrUnknown) {
		c.unknown.Add(1)
	}
	return err
}

// Failed is the error of a write whose last attempt failed with err. If the
// answer to an earlier one was lost, and none has found out, it is
// session.ErrUnknown.
func (c *Counters) Failed(ctx context.Context, lost, err error) error {
	if lost == nil {
		return wait.Because(ctx, err)
	}
	return c.CountUnknown(storekit.StillUnknown(ctx, lost, err))
}
