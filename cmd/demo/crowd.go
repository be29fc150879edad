package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore"
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
	config, err := pgxpool.ParseConfig(c.db.dsn)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["application_name"] = c.db.application("check")
	config.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	store, err := pgstore.New(ctx, pool, pgstore.Options{Schema: c.db.schema(), CacheBytes: -1, PruneInterval: -1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close(context.WithoutCancel(ctx))) }()
	id, err := session.ParseID(first.id(), store.Window())
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

// warm has nodes read the sessions of browsers until they know all of them.
func (c *check) warm(ctx context.Context, nodes []*node, browsers ...*browser) error {
	return on(ctx, nodes, func(ctx context.Context, n *node) error {
		_, err := until(ctx, func() (bool, error) {
			before, err := c.stats(ctx, n)
			if err != nil {
				return false, err
			}
			if err := each(ctx, browsers, func(ctx context.Context, b *browser) error {
				return second(b.me(ctx, n))
			}); err != nil {
				return false, err
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

// What the nodes also say is about heartbeats and partitions.
const (
	beatPrefix   = "1h"
	leavesPrefix = "1m"
)

// messages counts the notifications about sessions that the nodes send while
// do runs.
func (c *check) messages(ctx context.Context, do func() error) (count int, err error) {
	channel := invalidation.Channel(c.db.schema(), migrations.DefaultTable)
	end := channel + "_end" // a message on the nodes' own would empty their memories
	err = c.db.with(ctx, func(conn *pgx.Conn) error {
		for _, name := range []string{channel, end} {
			if _, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{name}.Sanitize()); err != nil {
				return err
			}
		}
		if err := do(); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, `SELECT pg_catalog.pg_notify($1, '')`, end); err != nil {
			return err
		}
		for {
			n, err := conn.WaitForNotification(ctx)
			switch {
			case err != nil:
				return err
			case n.Channel == end: // they come in the order of commits
				return nil
			case strings.HasPrefix(n.Payload, beatPrefix), strings.HasPrefix(n.Payload, leavesPrefix):
			default:
				count++
			}
		}
	})
	return count, err
}
