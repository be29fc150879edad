package sqlstore

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// lifetime is whether a store takes calls. The zero lifetime does.
type lifetime struct {
	mu     sync.Mutex
	closed atomic.Bool    // set under mu
	active sync.WaitGroup // calls that Close waits for

	closing  sync.Once
	finished chan struct{} // set by closing
	err      error         // valid once finished is closed
}

// Begun is the start of every call. It is an error if the store is closed or ctx
// has ended.
func (l *lifetime) Begun(ctx context.Context) error {
	if l.closed.Load() {
		return session.ErrClosed
	}
	return wait.Ended(ctx)
}

// Enter is Begun for a call that Close waits for. The call ends it by leave.
func (l *lifetime) Enter(ctx context.Context) (leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Begun(ctx); err != nil {
		return nil, err
	}
	l.active.Add(1)
	return l.active.Done, nil
}

// Close is session.Store.Close. No call begins any more, and the queues take no
// more. Once what they have taken is written and the passes have ended, the
// connections are given back. When ctx ends first, what is left fails.
func (e *Engine) Close(ctx context.Context) error {
	e.closing.Do(func() {
		e.finished = make(chan struct{})
		e.lifetime.mu.Lock()
		e.closed.Store(true)
		e.lifetime.mu.Unlock()
		e.Database.Refuse()
		// It is told to stop and waited for elsewhere: another Close may have less time.
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_ = e.worker.Close(ended)
		go e.finish()
	})
	select {
	case <-e.finished:
		return e.Wrap("close", e.err)
	case <-ctx.Done():
		e.Database.GiveUp()
		return e.Wrap("close", wait.Ended(ctx))
	}
}

func (e *Engine) finish() {
	defer close(e.finished)
	e.Database.Drain()
	e.active.Wait()
	_ = e.worker.Close(context.Background()) // which does not end
	e.err = e.Database.Release()
}
