package wait_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
)

func TestBackoffDoublesUpToItsMost(t *testing.T) {
	t.Parallel()
	b := wait.Backoff{First: 10 * time.Millisecond, Most: 35 * time.Millisecond}
	for n, longest := range map[int]time.Duration{
		-1: 10, 0: 10, 1: 10, 2: 20, 3: 35, 4: 35, 1000: 35, math.MaxInt: 35,
	} {
		longest *= time.Millisecond
		seen := map[time.Duration]bool{}
		for range 200 {
			d := b.Before(n)
			if d < longest/2 || d > longest {
				t.Fatalf("before repetition %d: %v, want from %v to %v", n, d, longest/2, longest)
			}
			seen[d] = true
		}
		if len(seen) < 2 {
			t.Errorf("before repetition %d: always the same pause", n)
		}
	}
	for _, b := range []wait.Backoff{{}, {First: time.Second}, {Most: time.Second}} {
		if d := b.Before(1); d != 0 {
			t.Errorf("%+v pauses for %v", b, d)
		}
	}
	longest := wait.Backoff{First: math.MaxInt64 / 2, Most: math.MaxInt64}
	if d := longest.Before(70); d < math.MaxInt64/2 {
		t.Errorf("the longest there is: %v", d)
	}
}

func TestPauseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := wait.Backoff{First: time.Hour, Most: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b.Pause(ctx, 1) {
		t.Error("it outlasted its context")
	}
	if !(wait.Backoff{First: time.Microsecond, Most: time.Microsecond}).Pause(t.Context(), 1) {
		t.Error("it did not last")
	}
}
