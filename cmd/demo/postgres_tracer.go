package main

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// queryCounter counts the queries that are sent through a pool, a batch as one.
type queryCounter struct{ application, own atomic.Uint64 }

var _ pgx.BatchTracer = (*queryCounter)(nil)

const ofApplication = "demo: of the application's pool"

// watch has c told of the queries of a pool. The store's own connections take
// over the tracer, but not the hook.
func (c *queryCounter) watch(config *pgxpool.Config) {
	config.ConnConfig.Tracer = c
	config.PrepareConn = func(_ context.Context, conn *pgx.Conn) (bool, error) {
		conn.PgConn().CustomData()[ofApplication] = true
		return true, nil
	}
}

func (c *queryCounter) counts() queryCounts {
	return queryCounts{Application: c.application.Load(), Own: c.own.Load()}
}

type uncountedKey struct{}

// uncounted is for queries that only serve to look.
func uncounted(ctx context.Context) context.Context {
	return context.WithValue(ctx, uncountedKey{}, true)
}

func (c *queryCounter) count(ctx context.Context, conn *pgx.Conn) context.Context {
	switch {
	case ctx.Value(uncountedKey{}) != nil:
	case conn.PgConn().CustomData()[ofApplication] != nil:
		c.application.Add(1)
	default:
		c.own.Add(1)
	}
	return ctx
}

func (c *queryCounter) TraceQueryStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return c.count(ctx, conn)
}

func (c *queryCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *queryCounter) TraceBatchStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return c.count(ctx, conn)
}

func (c *queryCounter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (c *queryCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
