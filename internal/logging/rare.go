package logging

import (
	"sync"
	"time"
)

// Rare lets the first line through at once and then one every five minutes, for
// what each of many requests could say. The zero Rare is ready. It may be used
// concurrently.
type Rare struct {
	mu   sync.Mutex
	last time.Time
	held int
}

// Allow reports whether a line may be written, and how many were held back since
// the last one.
func (r *Rare) Allow() (held int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.last.IsZero() || now.Sub(r.last) >= interval {
		held, r.held, r.last = r.held, 0, now
		return held, true
	}
	r.held++
	return 0, false
}
