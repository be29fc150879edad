package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sojourn-go/sojourn/session"
)

// crowd logs a user in many times: once over HTTP, and then with copies of that
// session by a store of our own, which is quicker. Their idle timeout ends after
// idle.
func (c *check) crowd(ctx context.Context, user string, n int, idle time.Duration) (browsers []*browser, err error) {
	const atOnce = 1000
	first, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], user)
	if err != nil {
		return nil, err
	}
	own, err := c.db.open(ctx)
	if err != nil {
		return nil, err
	}
	store := own.store
	defer func() { err = errors.Join(err, own.close(context.WithoutCancel(ctx))) }()
	id, err := session.ParseID(first.id())
	if err != nil {
		return nil, err
	}
	model, err := store.Get(ctx, id.Key())
	if err != nil {
		return nil, err
	}
	if _, err := store.Destroy(ctx, id.Key()); err != nil {
		return nil, err
	}
	deadline := store.Now().Add(lifetime)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for range n {
		id := session.NewID(deadline)
		c.remember(id.Secret())
		browsers = append(browsers, c.somebody().with(id.Secret()))
		g.Go(func() error {
			return second(store.Create(ctx, session.Record{
				Key: id.Key(), User: model.User, Deadline: deadline, Expires: store.Now().Add(idle), Data: model.Data}))
		})
	}
	return browsers, g.Wait()
}

// warm has nodes read the sessions of browsers, and where they have a memory
// until they know all of them.
func (c *check) warm(ctx context.Context, nodes []*node, browsers ...*browser) error {
	return on(ctx, nodes, func(ctx context.Context, n *node) error {
		_, err := until(ctx, func() (bool, error) {
			before, err := c.stats(ctx, n)
			if err != nil {
				return false, err
			}
			if err := each(ctx, browsers, func(ctx context.Context, b *browser) error {
				return second(b.me(ctx, n))
			}); err != nil || !c.kind.memory {
				return err == nil, err
			}
			after, err := c.stats(ctx, n)
			hits := after.Stats.Cache.Hits - before.Stats.Cache.Hits
			if err == nil && hits < uint64(len(browsers)) {
				err = errors.New(n.name + " does not answer from its memory")
			}
			return err == nil, err
		})
		return err
	})
}

// each does the same for many browsers, a few at a time.
func each(ctx context.Context, browsers []*browser, do func(context.Context, *browser) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, b := range browsers {
		g.Go(func() error { return do(ctx, b) })
	}
	return g.Wait()
}
