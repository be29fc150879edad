// Package await has tests wait for events.
package await

import (
	"testing"
	"time"
)

// Patience is how long a test waits for what has to happen: so long that only a
// failure takes longer, on a slow and busy machine too.
const Patience = 5 * time.Minute

const interval = 5 * time.Millisecond

// True waits until cond holds, which is tried every few milliseconds by the
// calling goroutine, and ends the test when it does not within Patience.
func True(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", Patience, what)
		}
	}
}
