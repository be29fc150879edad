package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/pgstore"
)

func openPostgresNode(ctx context.Context, conf nodeConfig, log *zap.Logger) (*opened, error) {
	return openPG(ctx, conf.DSN, "sojourn "+conf.nodeName(), pgstore.Options{
		Schema:        conf.Schema,
		DirectDSN:     conf.Direct,
		PruneInterval: pruneInterval,
		OnLease:       tellLease(ctx, log),
		NodeName:      conf.nodeName(),
		Logger:        log,
	})
}

// openPG opens a store on a pool of its own.
func openPG(ctx context.Context, dsn, application string, opts pgstore.Options) (*opened, error) {
	queries := &queryCounter{}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.MaxConns = poolSize
	pgstore.ConfigurePool(config)
	config.ConnConfig.RuntimeParams["application_name"] = application
	queries.watch(config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	store, err := pgstore.New(ctx, pool, opts)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &opened{
		store: store, queries: queries.counts, leader: leaderOf(store),
		close: func(ctx context.Context) error {
			return errors.Join(store.Close(ctx), closePool(ctx, pool))
		},
	}, nil
}

// leaderOf asks the store who leads: empty if nobody does.
func leaderOf(store *pgstore.Store) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		name, err := store.Leader(uncounted(ctx))
		if errors.Is(err, leader.ErrNoLeader) {
			return "", nil
		}
		return name, err
	}
}

// tellLease logs when the node begins to answer from its memory and when it
// stops, but not that it stops with ctx.
func tellLease(ctx context.Context, log *zap.Logger) func(invalidation.LeaseChange) {
	return func(c invalidation.LeaseChange) {
		switch {
		case c.Held:
			log.Info("answers from memory")
		case ctx.Err() == nil:
			log.Info("asks the database for every read", zap.Error(c.Err))
		}
	}
}

// closePool waits for connections that are in use, but not for ever.
func closePool(ctx context.Context, pool *pgxpool.Pool) error {
	closed := make(chan struct{})
	go func() { defer close(closed); pool.Close() }()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the pool: connections are still in use: %w", context.Cause(ctx))
	}
}

func postgresEnded(home string) bool {
	_, err := os.Stat(filepath.Join(home, "data", "postmaster.pid"))
	return errors.Is(err, fs.ErrNotExist)
}
