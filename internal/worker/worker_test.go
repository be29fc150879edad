package worker_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/sojourn-go/sojourn/internal/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAWorkerRunsOneAtATimeUntilItIsClosed(t *testing.T) {
	t.Parallel()
	var w worker.Worker
	if err := w.Stop(t.Context()); err != nil {
		t.Errorf("Stop before Start: %v", err)
	}
	running := make(chan struct{}, 1) // holds one
	started := make(chan struct{})
	run := func(ctx context.Context) {
		select {
		case running <- struct{}{}:
		default:
			t.Error("two run at a time")
		}
		started <- struct{}{}
		<-ctx.Done()
		<-running
	}
	for range 10 {
		w.Start(run)
		w.Start(run) // it runs already
		<-started
		if err := w.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(running) > 0 {
			t.Error("Stop returned while it runs")
		}
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Start(func(context.Context) { t.Error("it runs after Close") })
	if err := w.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestStopWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	var w worker.Worker
	started, let := make(chan struct{}), make(chan struct{})
	w.Start(func(context.Context) { close(started); <-let })
	<-started
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the reason")
	cancel(reason)
	if err := w.Stop(ctx); !errors.Is(err, reason) || !errors.Is(err, context.Canceled) {
		t.Errorf("Stop: %v", err)
	}
	close(let)
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsStartedAgainWaitsForTheRunBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w worker.Worker
		let := make(chan struct{})
		w.Start(func(context.Context) { <-let })
		synctest.Wait()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Stop(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Stop: %v", err)
		}
		var second atomic.Bool
		w.Start(func(ctx context.Context) { second.Store(true); <-ctx.Done() })
		synctest.Wait()
		if second.Load() {
			t.Error("two run at a time")
		}
		close(let)
		synctest.Wait()
		if !second.Load() {
			t.Error("the second does not run")
		}
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
