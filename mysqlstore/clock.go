package mysqlstore

import (
	"sync"
	"time"
)

// clock is the database's clock as this node knows it: by how much it is ahead
// of the node's, to within half the time that the question took.
type clock struct {
	start time.Time // the node's time, which nobody sets

	mu    sync.Mutex
	ahead time.Time     // the database's time at start
	error time.Duration // of ahead, when it was read
	read  time.Time
	last  time.Time // what was told last
}

const (
	clockDrift = 200e-6      // how fast two clocks part, at most
	clockBack  = time.Second // a step that is taken for an error of measurement
)

func newClock() *clock { return &clock{start: time.Now()} }

// observe takes note of the time that the database told between two times of
// the node.
func (c *clock) observe(sent time.Time, told time.Time, received time.Time) {
	trip := received.Sub(sent)
	ahead := told.Add(-sent.Sub(c.start) - trip/2)
	c.mu.Lock()
	defer c.mu.Unlock()
	age := float64(received.Sub(c.read))
	known := c.error + time.Duration(age*clockDrift)
	if c.read.IsZero() || trip/2 <= known || ahead.Sub(c.ahead).Abs() > known+trip/2 {
		c.ahead, c.error, c.read = ahead, trip/2, received
	}
}

// now never goes back, unless the database's clock was set.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.ahead.Add(time.Since(c.start))
	if back := c.last.Sub(now); back > 0 && back < clockBack {
		return c.last
	}
	c.last = now
	return now
}
