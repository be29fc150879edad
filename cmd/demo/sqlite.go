package main

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
	"github.com/sojourn-go/sojourn/sqlitestore"
)

func sqlite() backend {
	return backend{
		name: "sqlite",
		lacks: []string{
			"several machines: the nodes share a file on this one",
			"answers from a node's memory: every read asks the file",
			"a leader and partitions: the node whose turn it is deletes expired sessions, a few at a time",
		},
		open: openSQLite, openStore: openSQLiteStore,
	}
}

// openSQLite makes a file in a folder of its own.
func openSQLite(ctx context.Context, _ io.Writer) (*database, error) {
	home, err := os.MkdirTemp("", "sojourn-demo-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(home, "sessions.db")
	d := &database{
		about: "SQLite, file " + path,
		node:  nodeConfig{Run: newRun(), DSN: path},
		close: func(context.Context) error { return os.RemoveAll(home) },
	}
	db, err := sql.Open("sqlite", sqlitestore.DSN(path))
	if err == nil {
		err = errors.Join(migrations.Up(ctx, db, migrations.Config{}), db.Close())
	}
	if err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	return d, nil
}

func openSQLiteStore(ctx context.Context, conf nodeConfig, log *zap.Logger) (*opened, error) {
	store, err := sqlitestore.Open(ctx, conf.DSN, sqlitestore.Options{
		PruneInterval: pruneInterval, NodeName: conf.nodeName(), Logger: log,
	})
	if err != nil {
		return nil, err
	}
	return &opened{store: store, close: store.Close}, nil
}
