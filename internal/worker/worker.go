// Package worker is about work in the background that can be stopped and begun
// again.
package worker

import (
	"context"
	"sync"

	"github.com/sojourn-go/sojourn/internal/wait"
)

// Worker runs a function in a goroutine of its own, from Start until Stop, and
// never two at a time. The zero Worker is stopped. Its methods may be called
// concurrently and in any order.
type Worker struct {
	mu     sync.Mutex
	closed bool
	cancel context.CancelFunc // nil: it does not run
	done   chan struct{}      // of the latest run, which awaits those before it; nil before the first
}

// Start has run called, until the context that it is given ends. It does
// nothing if the worker runs or was closed.
func (w *Worker) Start(run func(context.Context)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	before, done := w.done, make(chan struct{})
	w.cancel, w.done = cancel, done
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		run(ctx)
	}()
}

// Stop ends what runs and waits for it, until ctx ends: then it returns ctx's
// error and its cause, and what runs ends all the same.
func (w *Worker) Stop(ctx context.Context) error { return w.end(ctx, false) }

// Close is Stop for ever.
func (w *Worker) Close(ctx context.Context) error { return w.end(ctx, true) }

func (w *Worker) end(ctx context.Context, forever bool) error {
	done := w.stop(forever)
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return wait.Ended(ctx)
	}
}

func (w *Worker) stop(forever bool) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = w.closed || forever
	if w.cancel != nil {
		w.cancel()
		w.cancel = nil
	}
	return w.done
}
