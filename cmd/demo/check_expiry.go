package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// vanish has long expired sessions put into the table by fill, and waits until
// none is left, while somebody reads on every node.
func (c *check) vanish(ctx context.Context, fill func(context.Context, int) error, left func(context.Context) (int64, error)) (string, error) {
	const rows = 5000
	before, err := c.prunedBy(ctx)
	if err != nil {
		return "", err
	}
	var took time.Duration
	readers, err := c.whileRead(ctx, func() error {
		if err := fill(ctx, rows); err != nil {
			return err
		}
		// Pruning leaves the row that was made last, so that is not one of them.
		_, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], "ivan")
		if err != nil {
			return err
		}
		took, err = until(ctx, func() (bool, error) {
			n, err := left(ctx)
			if err == nil && n > 0 {
				err = fmt.Errorf("%d are still there", n)
			}
			return err == nil, err
		})
		return err
	})
	if err != nil {
		return "", err
	}
	var who []string
	if _, err := until(ctx, func() (bool, error) { // it counts right after its last step
		after, err := c.prunedBy(ctx)
		var sum int64
		who = nil
		for i, n := range c.fleet.nodes {
			if after[i] > before[i] {
				who = append(who, n.name)
			}
			sum += after[i] - before[i]
		}
		if err == nil && sum != rows {
			err = fmt.Errorf("the nodes count %d rows", sum)
		}
		return err == nil, err
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("deleted by %s within %v; meanwhile %d reads on all nodes, none failed, the slowest took %v",
		strings.Join(who, " and "), took.Round(10*time.Millisecond), readers.count, readers.slowest.Round(100*time.Microsecond)), nil
}

// prunedBy is how many rows each node says that it has pruned.
func (c *check) prunedBy(ctx context.Context) ([]int64, error) {
	rows := make([]int64, len(c.fleet.nodes))
	for i, n := range c.fleet.nodes {
		st, err := c.stats(ctx, n)
		if err != nil {
			return rows, err
		}
		rows[i] = st.Stats.Pruned.Rows
	}
	return rows, nil
}

// readers read one session on every node, again and again.
type readers struct {
	running sync.WaitGroup

	mu      sync.Mutex
	count   int
	slowest time.Duration
	err     error
}

func (r *readers) wait() { r.running.Wait() }

// whileRead runs do while ivan reads his session on every node.
func (c *check) whileRead(ctx context.Context, do func() error) (*readers, error) {
	ivan, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], "ivan")
	if err != nil {
		return nil, err
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	r := c.read(reading, ivan)
	err = do()
	stop()
	r.wait()
	return r, errors.Join(err, r.err)
}

// read starts readers, which end with ctx.
func (c *check) read(ctx context.Context, b *browser) *readers {
	const pace = 5 * time.Millisecond
	r := &readers{}
	for _, n := range c.fleet.nodes {
		r.running.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				began := time.Now()
				_, err := b.fresh(ctx, n)
				if ctx.Err() != nil {
					return
				}
				r.note(time.Since(began), err)
			}
		})
	}
	return r
}

func (r *readers) note(took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	r.slowest = max(r.slowest, took)
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("a read meanwhile: %w", err)
	}
}
