package sqlstore

import (
	"context"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Gate bounds how many callers use a connection at a time.
type Gate struct {
	slots chan struct{}
	gone  chan struct{} // closed when nobody may enter any more
}

// NewGate returns a gate for n callers at a time.
func NewGate(n int) *Gate { return &Gate{slots: make(chan struct{}, n), gone: make(chan struct{})} }

// Enter waits for a place, which the caller gives back by Leave. It fails when ctx
// ends first, or with session.ErrClosed.
func (g *Gate) Enter(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}: // also if ctx has ended: the call itself says so
		return nil
	default:
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-g.gone:
		return session.ErrClosed
	case <-ctx.Done():
		return wait.Ended(ctx)
	}
}

// Leave ends what Enter began.
func (g *Gate) Leave() { <-g.slots }

// Close lets nobody in any more, and waits for the callers inside.
func (g *Gate) Close() {
	close(g.gone)
	for range cap(g.slots) {
		g.slots <- struct{}{}
	}
}
