package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// delays are how long something took, many times.
type delays []time.Duration

func (d delays) String() string {
	sorted := slices.Sorted(slices.Values(d))
	at := func(percent int) time.Duration {
		return sorted[(len(sorted)-1)*percent/100].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, max %v", at(50), at(99), at(100))
}

// logOutDelays logs out again and again while somebody reads on the other
// nodes as fast as they answer.
func (c *check) logOutDelays(ctx context.Context) (string, error) {
	const times = 200
	at := c.fleet.nodes[0]
	crowd, err := c.crowd(ctx, "oscar", times, idleTimeout)
	if err != nil {
		return "", err
	}
	if err := c.warm(ctx, c.fleet.nodes, crowd...); err != nil {
		return "", err
	}
	var calls, fromCall, fromReturn delays
	for _, b := range crowd {
		began, returned, seen, err := c.watchLogOut(ctx, at, b)
		if err != nil {
			return "", err
		}
		calls = append(calls, returned.Sub(began))
		for _, t := range seen {
			fromCall = append(fromCall, t.Sub(began))
			fromReturn = append(fromReturn, max(0, t.Sub(returned)))
		}
	}
	if _, err := c.refusedByAll(ctx, at, crowd...); err != nil {
		return "", fmt.Errorf("after it was refused once: %w", err)
	}
	return fmt.Sprintf("%d logouts, all refused by the others: from the call %v; after it has returned %v; the calls took %v, all over HTTP",
		times, fromCall, fromReturn, calls), nil
}

// watchLogOut returns when b's logout was called, when it returned, and when
// each of the other nodes, which served b before, refused the session.
func (c *check) watchLogOut(ctx context.Context, at *node, b *browser) (began, returned time.Time, seen []time.Time, err error) {
	others := c.others(at)
	seen = make([]time.Time, len(others))
	serving := make(chan struct{}, len(others))
	thief := b.with(b.id())
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range others {
		g.Go(func() error {
			if _, err := thief.me(ctx, n); err != nil {
				return fmt.Errorf("before the logout: %w", err)
			}
			serving <- struct{}{}
			for {
				_, err := thief.me(ctx, n)
				switch why := refused(err); {
				case why == nil:
					seen[i] = time.Now()
					return nil
				case err != nil:
					return why
				}
			}
		})
	}
	for range others {
		select {
		case <-serving:
		case <-ctx.Done():
			return began, returned, nil, errors.Join(context.Cause(ctx), g.Wait())
		}
	}
	began = time.Now()
	_, err = b.end(ctx, at, "/logout")
	returned = time.Now()
	if err == nil {
		err = refused(second(thief.me(ctx, at)))
	}
	g.Go(func() error { return err }) // so that the others end
	return began, returned, seen, g.Wait()
}

// thousandLogOuts ends all sessions of a user but one.
func (c *check) thousandLogOuts(ctx context.Context) (string, error) {
	const count, most = 1000, 5
	at := c.fleet.nodes[0]
	crowd, err := c.crowd(ctx, "peggy", count+1, idleTimeout)
	if err != nil {
		return "", err
	}
	if err := c.warm(ctx, c.fleet.nodes, crowd...); err != nil {
		return "", err
	}
	stays, crowd := crowd[0], crowd[1:]
	var ended int64
	var took time.Duration
	told, err := c.db.told(ctx, most, func() (err error) {
		began := time.Now()
		ended, err = stays.end(ctx, at, "/revoke-others")
		took = time.Since(began)
		return err
	})
	if err != nil {
		return "", err
	}
	seen, err := c.refusedByAll(ctx, at, crowd...)
	if err == nil {
		err = on(ctx, c.fleet.nodes, func(ctx context.Context, n *node) error { return second(stays.me(ctx, n)) })
	}
	switch {
	case err != nil:
		return "", err
	case ended != count:
		return "", fmt.Errorf("%d of %d ended", ended, count)
	}
	return fmt.Sprintf("%d ended in %v%s; refused by all %d nodes%s: %d reads, %d of them too early",
		ended, took.Round(100*time.Microsecond), told, len(c.fleet.nodes), c.known(), len(crowd)*len(c.fleet.nodes), seen.late), nil
}

// userWide ends all sessions of a user. Each node is asked for those that all
// have in memory, and for its share of the rest.
func (c *check) userWide(ctx context.Context) (string, error) {
	const count, known, most = 10_000, 500, 20
	at := c.fleet.nodes[1]
	crowd, err := c.crowd(ctx, "quentin", count, idleTimeout)
	if err != nil {
		return "", err
	}
	warm, cold := crowd[:known], crowd[known:]
	if err := c.warm(ctx, c.fleet.nodes, warm...); err != nil {
		return "", err
	}
	actor := crowd[0].with(crowd[0].id())
	var ended int64
	var took time.Duration
	told, err := c.db.told(ctx, most, func() (err error) {
		began := time.Now()
		ended, err = actor.end(ctx, at, "/logout-all")
		took = time.Since(began)
		return err
	})
	if err != nil {
		return "", err
	}
	if ended != count {
		return "", fmt.Errorf("%d of %d ended", ended, count)
	}
	seen, err := c.refusedByAll(ctx, at, warm...)
	if err != nil {
		return "", err
	}
	share := (len(cold) + len(c.fleet.nodes) - 1) / len(c.fleet.nodes)
	var all errgroup.Group
	for i, some := range slices.Collect(slices.Chunk(cold, share)) {
		all.Go(func() error {
			return each(ctx, some, func(ctx context.Context, b *browser) error {
				return refused(second(b.me(ctx, c.fleet.nodes[i])))
			})
		})
	}
	if err := all.Wait(); err != nil {
		return "", fmt.Errorf("a session that was not in memory: %w", err)
	}
	return fmt.Sprintf("%d ended in %v%s; refused: %d on every node%s (%d reads were too early), the others on one of the nodes each",
		ended, took.Round(time.Millisecond), told, known, c.known(), seen.late), nil
}
