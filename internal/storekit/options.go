package storekit

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
)

// Between checks an option. What it returns names the field and its limits.
func Between[T cmp.Ordered](field string, got, least, most T) error {
	if got < least || got > most {
		return fmt.Errorf("%s is %v; it must be from %v to %v", "Options."+field, got, least, most)
	}
	return nil
}

// BetweenIfSet is Between for an option whose zero value means that it is not
// given.
func BetweenIfSet[T cmp.Ordered](field string, got, least, most T) error {
	var zero T
	if got == zero {
		return nil
	}
	return Between(field, got, least, most)
}

// NodeName is the name of a node that was given none: its host and process.
func NodeName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d", strings.ToValidUTF8(host[:min(len(host), 200)], ""), os.Getpid())
}

// Backoff is for what others made fail: a deadlock, a row that is locked, a
// server that is full.
func Backoff() wait.Backoff {
	return wait.Backoff{First: 3 * time.Millisecond, Most: 400 * time.Millisecond}
}

// PruneInterval is the mean time between two passes: Options.PruneInterval, or a
// minute where that is negative, since somebody else starts the passes.
func PruneInterval(option time.Duration) time.Duration {
	if option < 0 {
		return time.Minute
	}
	return option
}

// NextPrune is the time until the next pass: what next says, which may be nil, or
// interval, give or take a quarter.
func NextPrune(next func() time.Duration, interval time.Duration) time.Duration {
	if next != nil {
		return max(next(), time.Millisecond)
	}
	return interval*3/4 + rand.N(interval/2+1)
}
