package reqsession

import (
	"context"
	"slices"
	"sync"

	"github.com/sojourn-go/sojourn/internal/wait"
)

// Turns has the requests of a node that write one session do so one after the
// other, in the order in which they came. Each is told what the one before it has
// written. If each found that out by a conflict, n requests would make n²/2 writes.
//
// The zero Turns are ready for use.
type Turns[T any] struct {
	mu sync.Mutex
	of map[string][]chan *T // who waits for a session that is being written
}

// Take waits for the caller's turn with a session. The caller then calls done with
// what it has written, or with nil if nothing or if that is not known.
//
// written is what another request has written while the caller waited, nil if
// nothing. Other nodes may have written meanwhile. Take fails when ctx ends first.
func (ts *Turns[T]) Take(ctx context.Context, id string) (written *T, done func(*T), err error) {
	done = func(written *T) { ts.pass(id, written) }
	turn, busy := ts.join(id)
	if !busy {
		return nil, done, nil
	}
	select {
	case written = <-turn:
		return written, done, nil
	case <-ctx.Done():
		if !ts.leave(id, turn) { // it has got the turn just now
			done(<-turn)
		}
		return nil, nil, wait.Ended(ctx)
	}
}

func (ts *Turns[T]) join(id string) (turn chan *T, busy bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.of == nil {
		ts.of = map[string][]chan *T{}
	}
	waiting, busy := ts.of[id]
	if busy {
		turn = make(chan *T, 1)
		waiting = append(waiting, turn)
	}
	ts.of[id] = waiting
	return turn, busy
}

// leave reports whether turn was still waited for.
func (ts *Turns[T]) leave(id string, turn chan *T) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	i := slices.Index(ts.of[id], turn)
	if i < 0 {
		return false
	}
	ts.of[id] = slices.Delete(ts.of[id], i, i+1)
	return true
}

func (ts *Turns[T]) pass(id string, written *T) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	waiting := ts.of[id]
	if len(waiting) == 0 {
		delete(ts.of, id)
		return
	}
	waiting[0] <- written
	ts.of[id] = waiting[1:]
}
