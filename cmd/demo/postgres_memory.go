package main

import (
	"context"
	"fmt"
	"time"
)

// reading is what a number of reads on a node have cost.
type reading struct {
	reads   int
	hits    uint64
	queries uint64
	took    time.Duration
}

func (r reading) String() string {
	return fmt.Sprintf("%d reads, %d from memory, %d queries, %v each",
		r.reads, r.hits, r.queries, (r.took / time.Duration(r.reads)).Round(time.Microsecond))
}

// measure reads n times on a node, one after the other.
func (c *postgresCheck) measure(ctx context.Context, n *node, times int, read func(context.Context, *node) (view, error)) (r reading, err error) {
	before, err := c.stats(ctx, n)
	if err != nil {
		return r, err
	}
	began := time.Now()
	for range times {
		if _, err := read(ctx, n); err != nil {
			return r, err
		}
	}
	r = reading{reads: times, took: time.Since(began)}
	after, err := c.stats(ctx, n)
	r.hits = after.Stats.Cache.Hits - before.Stats.Cache.Hits
	r.queries = after.Queries.Application - before.Queries.Application
	return r, err
}

// readFree reads on a node that knows the session, without a query. On a
// machine that is too busy for heartbeats it takes another try.
func (c *postgresCheck) readFree(ctx context.Context, n *node, b *browser, times int) (r reading, tries int, err error) {
	_, err = until(ctx, func() (bool, error) {
		if err := c.warm(ctx, []*node{n}, b); err != nil {
			return false, err
		}
		tries++
		r, err = c.measure(ctx, n, times, b.me)
		if err == nil && (r.queries > 0 || r.hits < uint64(times)) {
			err = fmt.Errorf("%s: %v", n.name, r)
		}
		return err == nil, err
	})
	return r, tries, err
}

// leased waits until a node answers from its memory, or until it does not.
func (c *postgresCheck) leased(ctx context.Context, n *node, want bool) (st nodeStats, err error) {
	_, err = until(ctx, func() (bool, error) {
		if st, err = c.stats(ctx, n); err != nil {
			return false, err
		}
		if st.Stats.Cache.Leased != want {
			return false, fmt.Errorf("%s: may it answer from its memory? %t", n.name, !want)
		}
		return true, nil
	})
	return st, err
}

func (c *postgresCheck) warmReads(ctx context.Context) (string, error) {
	const free, paid = 1000, 200
	n := c.last()
	mona, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], "mona")
	if err != nil {
		return "", err
	}
	if _, err := c.leased(ctx, n, true); err != nil {
		return "", err
	}
	warm, tries, err := c.readFree(ctx, n, mona, free)
	if err != nil {
		return "", err
	}
	var fresh reading
	if _, err := until(ctx, func() (bool, error) { // a busy machine has the store use its own connections for a second
		if fresh, err = c.measure(ctx, n, paid, mona.fresh); err == nil && fresh.queries < paid {
			err = fmt.Errorf("the queries are not counted: %v", fresh)
		}
		return err == nil, err
	}); err != nil {
		return "", err
	}
	again := ""
	if tries > 1 {
		again = fmt.Sprintf(" (at the %d. try)", tries)
	}
	return fmt.Sprintf("%s: %v%s; past the memory: %d reads, %d queries, %v each; all over HTTP",
		n.name, warm, again, fresh.reads, fresh.queries, (fresh.took / paid).Round(time.Microsecond)), nil
}

// touchLater touches again and again on a node that knows the session.
func (c *postgresCheck) touchLater(ctx context.Context) (string, error) {
	const touches = 100
	n, other := c.last(), c.fleet.nodes[0]
	nina, before, err := c.somebodyIn(ctx, other, "nina")
	if err != nil {
		return "", err
	}
	var after view
	var r reading
	if _, err := until(ctx, func() (bool, error) {
		if err := c.warm(ctx, []*node{n}, nina); err != nil {
			return false, err
		}
		r, err = c.measure(ctx, n, touches, func(ctx context.Context, n *node) (view, error) {
			after, err = nina.post(ctx, n, "/touch?later=1")
			return after, err
		})
		if err == nil && r.queries > touches/4 { // some may be due meanwhile
			err = fmt.Errorf("%d touches that may be written later took %d queries", touches, r.queries)
		}
		return err == nil, err
	}); err != nil {
		return "", err
	}
	if !after.Expires.After(before.Expires) {
		return "", fmt.Errorf("the idle timeout was %v and is %v", before.Expires, after.Expires)
	}
	took, err := until(ctx, func() (bool, error) {
		seen, err := nina.fresh(ctx, other)
		if err == nil && !seen.Expires.Equal(after.Expires) {
			err = fmt.Errorf("the touches said %v, but it is %v", after.Expires, seen.Expires)
		}
		return err == nil, err
	})
	if err != nil {
		return "", err
	}
	st, err := c.stats(ctx, n)
	if err != nil {
		return "", err
	}
	if st.Stats.LateTouchFailures > 0 {
		return "", fmt.Errorf("%d touches were not written", st.Stats.LateTouchFailures)
	}
	return fmt.Sprintf("%d touches answered with %d queries, %v each over HTTP; the last one in the database after %v",
		touches, r.queries, (r.took / touches).Round(time.Microsecond), took.Round(time.Millisecond)), nil
}
