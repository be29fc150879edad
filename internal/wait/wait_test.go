package wait_test

import (
	"context"
	"errors"
	"fmt"
	"os"
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

func TestAfterAddsWhatFailedBeforeTheEnd(t *testing.T) {
	t.Parallel()
	before := errors.New("refused")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		ctx    context.Context
		before error
		err    error
		want   string
	}{
		{ended, before, ended.Err(), "context canceled; before that: refused"},
		{ended, nil, ended.Err(), "context canceled"},
		{t.Context(), before, errors.New("failed"), "failed"},
		{ended, before, fmt.Errorf("failed: %w", before), "failed: refused"},
	} {
		err := wait.After(tt.ctx, tt.err, tt.before)
		if err.Error() != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("After(%v, %v) = %v, want %s", tt.err, tt.before, err, tt.want)
		}
	}
}

func TestBecauseAddsWhatTheErrorDoesNotSay(t *testing.T) {
	t.Parallel()
	failed, reason := errors.New("it failed"), errors.New("the reason")
	lasts := t.Context()
	cancelled, cancel := context.WithCancel(lasts)
	cancel()
	caused, cancelCause := context.WithCancelCause(lasts)
	cancelCause(reason)
	limited, stop := context.WithDeadlineCause(lasts, time.Now(), fmt.Errorf("a limit: %w", context.DeadlineExceeded))
	defer stop()
	<-limited.Done()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want string
	}{
		{"no error", caused, nil, ""},
		{"a context that lasts", lasts, failed, "it failed"},
		{"a context without a cause", cancelled, failed, "context canceled: it failed"},
		{"a context with a cause", caused, failed, "context canceled: the reason: it failed"},
		{"an error of the context", cancelled, fmt.Errorf("it failed: %w", cancelled.Err()), "it failed: context canceled"},
		{"an error of the context that lacks the cause", caused, fmt.Errorf("it failed: %w", caused.Err()), "the reason: it failed: context canceled"},
		{"an error that says all", caused, wait.Because(caused, failed), "context canceled: the reason: it failed"},
		{"a cause that holds the error", limited, failed, "a limit: context deadline exceeded: it failed"},
	} {
		err := wait.Because(tt.ctx, tt.err)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if tt.err != nil && tt.ctx.Err() != nil && (!errors.Is(err, tt.ctx.Err()) || !errors.Is(err, context.Cause(tt.ctx))) {
			t.Errorf("%s: %v does not hold the context's error and cause", tt.name, err)
		}
	}
}

// late is a context that notices its end later than others notice its deadline.
type late struct {
	context.Context
	done <-chan struct{}
}

func (l late) Done() <-chan struct{} { return l.done }

func (l late) Err() error {
	select {
	case <-l.done:
		return l.Context.Err()
	default:
		return nil
	}
}

func TestAConnectionThatNoticesTheDeadlineFirstIsExplained(t *testing.T) {
	t.Parallel()
	before, timeout := errors.New("the one before"), fmt.Errorf("dial: %w", os.ErrDeadlineExceeded)
	ended, stop := context.WithDeadline(t.Context(), time.Now())
	defer stop()
	notices := func() context.Context {
		done := make(chan struct{})
		time.AfterFunc(10*time.Millisecond, func() { close(done) })
		return late{ended, done}
	}
	if err := wait.Because(notices(), timeout); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, timeout) {
		t.Errorf("Because: %v", err)
	}
	if err := wait.After(notices(), timeout, before); !errors.Is(err, before) || !errors.Is(err, timeout) {
		t.Errorf("After: %v", err)
	}
}
