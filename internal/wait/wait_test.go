package wait_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
)

func TestSleepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	if !wait.Sleep(ctx, time.Millisecond) {
		t.Error("it did not last")
	}
	time.AfterFunc(time.Millisecond, cancel)
	if wait.Sleep(ctx, time.Hour) || wait.Sleep(ctx, 0) {
		t.Error("it outlasted its context")
	}
}

func TestEndedTellsTheErrorAndItsCause(t *testing.T) {
	t.Parallel()
	reason := errors.New("the reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := wait.Ended(ctx); err != nil {
		t.Errorf("while it lasts: %v", err)
	}
	cancel(reason)
	if err := wait.Ended(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, reason) {
		t.Errorf("got %v, want both", err)
	}
}
