package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// whileLocked has lock keep somebody's session from being written while during
// runs: all nodes read it a number of times, and a save waits.
func (c *check) whileLocked(ctx context.Context, lock func(ctx context.Context, user string, during func() error) error) (string, error) {
	const reads, user = 100, "zelda"
	zelda, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], user)
	if err != nil {
		return "", err
	}
	var took delays
	var began time.Time
	saved := make(chan error, 1)
	err = lock(ctx, user, func() (err error) {
		began = time.Now()
		go func() { saved <- second(zelda.post(ctx, c.fleet.nodes[0], "/set?key=colour&value=blue")) }()
		took, err = c.readTimes(ctx, zelda, reads)
		select {
		case early := <-saved:
			saved <- early
			return errors.Join(err, fmt.Errorf("a save did not wait: %v", early))
		default:
			return err
		}
	})
	if began.IsZero() {
		return "", err
	}
	if err = errors.Join(err, <-saved); err != nil {
		return "", err
	}
	waited := time.Since(began)
	for _, n := range c.fleet.nodes {
		v, err := zelda.me(ctx, n)
		if err != nil {
			return "", err
		}
		if v.Values["colour"] != "blue" {
			return "", fmt.Errorf("%s does not see what was saved", n.name)
		}
	}
	return fmt.Sprintf("%d reads on each of %d nodes: %v; a save waited for the lock: %v",
		reads, len(c.fleet.nodes), took, waited.Round(time.Millisecond)), nil
}

// readTimes reads a session on each node and returns how long each read took.
func (c *check) readTimes(ctx context.Context, b *browser, times int) (all delays, err error) {
	var mu sync.Mutex
	err = on(ctx, c.fleet.nodes, func(ctx context.Context, n *node) error {
		for range times {
			began := time.Now()
			if _, err := b.me(ctx, n); err != nil {
				return err
			}
			took := time.Since(began)
			mu.Lock()
			all = append(all, took)
			mu.Unlock()
		}
		return nil
	})
	return all, err
}
