package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sojourn-go/sojourn/session"
)

func (c *check) logIn(ctx context.Context) (string, error) {
	first := c.fleet.nodes[0]
	alice, v, err := c.somebodyIn(ctx, first, "alice")
	if err != nil {
		return "", err
	}
	if v.User != "alice" || v.Version == 0 {
		return "", fmt.Errorf("logged in as %q, version %d", v.User, v.Version)
	}
	for _, n := range c.others(first) {
		if err := sees(ctx, n, alice, v); err != nil {
			return "", err
		}
	}
	if err := refused(second(c.somebody().me(ctx, first))); err != nil {
		return "", fmt.Errorf("without a cookie: %w", err)
	}
	return fmt.Sprintf("%s, of the same version on all %d nodes", v.User, len(c.fleet.nodes)), nil
}

func second[T any](_ T, err error) error { return err }

// saveAtOnce changes different values of one session through two nodes.
func (c *check) saveAtOnce(ctx context.Context) (string, error) {
	const each, atOnce = 50, 5
	bob, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], "bob")
	if err != nil {
		return "", err
	}
	var conflicts atomic.Int64
	var all errgroup.Group
	for i, n := range c.fleet.nodes[:2] {
		all.Go(func() error {
			g, ctx := errgroup.WithContext(ctx)
			g.SetLimit(atOnce)
			for k := range each {
				g.Go(func() error {
					v, err := bob.post(ctx, n, fmt.Sprintf("/set?key=n%d-%d&value=%d", i, k, k))
					conflicts.Add(int64(v.Conflicts))
					return err
				})
			}
			return g.Wait()
		})
	}
	if err := all.Wait(); err != nil {
		return "", err
	}
	// The last node may have to hear of the last save first.
	var v view
	took, err := until(ctx, func() (bool, error) {
		v, err = bob.me(ctx, c.last())
		if err == nil && len(v.Values) < 2*each {
			err = fmt.Errorf("%s sees %d values after %d saves", c.last().name, len(v.Values), 2*each)
		}
		return err == nil, err
	})
	if err != nil {
		return "", err
	}
	for i := range 2 {
		for k := range each {
			if v.Values[fmt.Sprintf("n%d-%d", i, k)] != any(fmt.Sprint(k)) {
				return "", fmt.Errorf("a change is lost: %d values of %d are there", len(v.Values), 2*each)
			}
		}
	}
	if conflicts.Load() == 0 {
		return "", errors.New("no save met another: this proves nothing")
	}
	return fmt.Sprintf("%d changes, all there, on %s after %v; %d conflicts, each merged by the Manager",
		2*each, c.last().name, took.Round(100*time.Microsecond), conflicts.Load()), nil
}

func (c *check) touch(ctx context.Context) (string, error) {
	carol, before, err := c.somebodyIn(ctx, c.fleet.nodes[0], "carol")
	if err != nil {
		return "", err
	}
	// The nodes' ideas of the time differ a little, and a touch by one that is
	// behind moves nothing.
	var touched view
	if _, err := until(ctx, func() (bool, error) {
		if touched, err = carol.post(ctx, c.fleet.nodes[1], "/touch"); err != nil {
			return false, err
		}
		return !touched.Expires.Equal(before.Expires), nil
	}); err != nil {
		return "", err
	}
	after, err := carol.me(ctx, c.last())
	if err != nil {
		return "", err
	}
	switch {
	case !after.Expires.After(before.Expires):
		return "", fmt.Errorf("the idle timeout was %v and is %v", before.Expires, after.Expires)
	case !after.Expires.Equal(touched.Expires):
		return "", fmt.Errorf("the touch said %v, but it is %v", touched.Expires, after.Expires)
	case after.Version != before.Version:
		return "", fmt.Errorf("the version was %d and is %d", before.Version, after.Version)
	}
	return fmt.Sprintf("idle timeout %v later, and still the same version", after.Expires.Sub(before.Expires).Round(time.Microsecond)), nil
}

// touchByUse uses a session that nobody has used for ten minutes. With the first
// request the Manager postpones its idle timeout, and then not for a while.
func (c *check) touchByUse(ctx context.Context) (string, error) {
	const reads, unused, most = 100, 10 * time.Minute, 5
	n := c.last()
	crowd, err := c.crowd(ctx, "olivia", 1, idleTimeout-unused)
	if err != nil {
		return "", err
	}
	olivia := crowd[0]
	before, err := olivia.me(ctx, n)
	if err != nil {
		return "", err
	}
	after, moves := before, 0
	for range reads {
		v, err := olivia.me(ctx, n)
		if err != nil {
			return "", err
		}
		if !v.Expires.Equal(after.Expires) {
			moves++
		}
		after = v
	}
	later := after.Expires.Sub(before.Expires)
	if later < unused/2 || later > 2*unused || moves > most {
		return "", fmt.Errorf("the idle timeout was %v and is %v, %d requests and %d touches later", before.Expires, after.Expires, reads, moves)
	}
	took, err := until(ctx, func() (bool, error) {
		seen, err := olivia.fresh(ctx, n)
		if err == nil && seen.Expires.Before(after.Expires) {
			err = fmt.Errorf("the idle timeout was postponed to %v, but it is %v", after.Expires, seen.Expires)
		}
		return err == nil, err
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d requests: idle timeout %v later, moved %d time; in the database after %v",
		1+reads, later.Round(time.Second), moves, took.Round(time.Millisecond)), nil
}

// renew gives a session a new ID on one node and uses the old one on others.
func (c *check) renew(ctx context.Context) (string, error) {
	const grace = time.Second
	dave, before, err := c.somebodyIn(ctx, c.fleet.nodes[0], "dave")
	if err != nil {
		return "", err
	}
	old := dave.with(dave.id())
	after, err := dave.post(ctx, c.fleet.nodes[0], "/renew?grace="+grace.String())
	if err != nil {
		return "", err
	}
	renewed := time.Now()
	if dave.id() == old.id() || after.Key == before.Key || after.User != "dave" {
		return "", errors.New("the session has its old ID")
	}
	if err := sees(ctx, c.fleet.nodes[1], old, after); err != nil {
		return "", fmt.Errorf("the old ID during grace: %w", err)
	}
	if _, err := until(ctx, func() (bool, error) {
		err := refused(second(old.me(ctx, c.last())))
		return err == nil, err
	}); err != nil {
		return "", fmt.Errorf("the old ID after grace: %w", err)
	}
	lasted := time.Since(renewed)

	// Without grace the old ID is dead at once.
	old = dave.with(dave.id())
	if err := c.warm(ctx, c.fleet.nodes, old); err != nil {
		return "", err
	}
	if _, err := dave.post(ctx, c.fleet.nodes[1], "/renew"); err != nil {
		return "", err
	}
	seen, err := c.refusedByAll(ctx, c.fleet.nodes[1], old)
	if err != nil {
		return "", fmt.Errorf("the old ID without grace: %w", err)
	}
	if _, err := dave.me(ctx, c.last()); err != nil {
		return "", fmt.Errorf("the new ID: %w", err)
	}
	return fmt.Sprintf("old ID led to the new one for %v of %v grace, then refused; without grace at once, by %s", lasted.Round(10*time.Millisecond), grace, seen), nil
}

// forgedIDs tries IDs that cannot be right, which costs the database nothing,
// and a few that could be.
func (c *check) forgedIDs(ctx context.Context) (string, error) {
	const impossible, plausible = 500, 20
	n := c.fleet.nodes[0]
	try := func(ids []string) (reads, queries uint64, err error) {
		before, err := c.stats(ctx, n)
		if err != nil {
			return 0, 0, err
		}
		for _, id := range ids {
			if err := refused(second(c.somebody().with(id).me(ctx, n))); err != nil {
				return 0, 0, err
			}
		}
		after, err := c.stats(ctx, n)
		reads = after.Stats.Gets - before.Stats.Gets
		if err != nil || before.Queries == nil {
			return reads, reads, err // each is one
		}
		return reads, after.Queries.Application - before.Queries.Application, nil
	}
	began := time.Now()
	reads, queries, err := try(forged(impossible))
	if err != nil {
		return "", err
	}
	if reads != 0 || queries != 0 {
		return "", fmt.Errorf("%d reads and %d queries for %d IDs that no session can have", reads, queries, impossible)
	}
	each := time.Since(began) / impossible
	if _, err := until(ctx, func() (bool, error) { // a busy machine has the store use its own connections for a second
		var ids []string
		for range plausible {
			ids = append(ids, session.NewID(time.Now().Add(lifetime)).Secret())
		}
		if reads, queries, err = try(ids); err == nil && (reads < plausible || queries < plausible || queries > 2*plausible) {
			err = fmt.Errorf("%d reads and %d queries for %d IDs of the right shape", reads, queries, plausible)
		}
		return err == nil, err
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d impossible IDs: no query, %v each; %d of the right shape: %d queries, to read them and to tell the log what became of them", impossible, each.Round(10*time.Microsecond), plausible, queries), nil
}
