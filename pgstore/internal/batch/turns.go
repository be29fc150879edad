package batch

import (
	"context"
	"sync"

	"github.com/sojourn-go/sojourn/internal/wait"
)

// turns lets callers that need the same lock come one at a time, in the order
// of their calls. So they wait for each other here and not on connections.
type turns struct {
	mu    sync.Mutex
	taken map[any]*turn
}

type turn struct {
	users int
	free  chan struct{} // holds one while somebody has the turn
}

// take waits for the turn and returns what ends it.
func (t *turns) take(ctx context.Context, of any) (end func(), err error) {
	t.mu.Lock()
	if t.taken == nil {
		t.taken = map[any]*turn{}
	}
	mine := t.taken[of]
	if mine == nil {
		mine = &turn{free: make(chan struct{}, 1)}
		t.taken[of] = mine
	}
	mine.users++
	t.mu.Unlock()
	select {
	case mine.free <- struct{}{}:
		return func() { <-mine.free; t.leave(of, mine) }, nil
	case <-ctx.Done():
		t.leave(of, mine)
		return nil, wait.Ended(ctx)
	}
}

func (t *turns) leave(of any, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(t.taken, of)
	}
}
