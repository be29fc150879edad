package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/testrig/pgserver"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore"
)

const urlVariable = "SOJOURN_PG_URL"

func postgres() backend {
	return backend{name: "postgres", open: openPostgres, openStore: openPGStore}
}

// openPostgres uses a schema of its own, and drops it at the end, in a database
// that was given to us; else a server that is thrown away.
func openPostgres(ctx context.Context, out io.Writer) (*database, error) {
	if dsn := os.Getenv(urlVariable); dsn != "" {
		return openSchema(ctx, dsn, "")
	}
	server, err := pgserver.Start(ctx, pgserver.Config{})
	if errors.Is(err, pgserver.ErrNotInstalled) {
		if err := pgserver.Install(ctx, out); err != nil {
			return nil, fmt.Errorf("%w, and %s names none: %w", errNoServer, urlVariable, err)
		}
		server, err = pgserver.Start(ctx, pgserver.Config{})
	}
	if err != nil {
		return nil, err
	}
	db, err := openSchema(ctx, server.DSN("postgres"), fmt.Sprintf("a throwaway server on port %d", server.Port()))
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	db.close = func(context.Context) error { return server.Close() }
	return db, nil
}

func openSchema(ctx context.Context, dsn, place string) (*database, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", urlVariable, err) // pgx leaves out the password
	}
	place = cmp.Or(place, fmt.Sprintf("%s port %d, database %q (%s)", config.Host, config.Port,
		cmp.Or(config.Database, config.User), urlVariable))
	run := newRun()
	schema := "sojourn_" + run
	var version string
	err = withPostgres(ctx, config, func(ctx context.Context, conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('server_version')`).Scan(&version); err != nil {
			return err
		}
		return migrations.Up(ctx, config, migrations.Config{Schema: schema})
	})
	if err != nil {
		return nil, fmt.Errorf("the database at %s: %w", place, err)
	}
	drop := func(ctx context.Context) error {
		err := withPostgres(ctx, config, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `DROP SCHEMA IF EXISTS `+pgx.Identifier{schema}.Sanitize()+` CASCADE`)
			return err
		})
		if err != nil {
			return fmt.Errorf("schema %s is left in %s: %w", schema, place, err)
		}
		return nil
	}
	return &database{
		about: fmt.Sprintf("PostgreSQL %s, %s", version, place),
		node:  nodeConfig{Run: run, DSN: dsn, Schema: schema},
		close: drop,
	}, nil
}

// withPostgres runs do on a connection of its own, even if ctx has ended.
func withPostgres(ctx context.Context, config *pgx.ConnConfig, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerLimit)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, conn), conn.Close(ctx))
}

// openPGStore opens a store on a pool of its own, as a service does.
func openPGStore(ctx context.Context, conf nodeConfig, log *zap.Logger) (*opened, error) {
	config, err := pgxpool.ParseConfig(conf.DSN)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["application_name"] = "sojourn " + conf.nodeName()
	pgstore.ConfigurePool(config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	store, err := pgstore.New(ctx, pool, pgstore.Options{
		Schema:        conf.Schema,
		PruneInterval: pruneInterval,
		NodeName:      conf.nodeName(),
		Logger:        log,
	})
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &opened{store: store, leader: store.Leader, close: func(ctx context.Context) error {
		err := store.Close(ctx)
		pool.Close()
		return err
	}}, nil
}
