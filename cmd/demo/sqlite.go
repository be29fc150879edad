package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/sqlitecode"
	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
	"github.com/sojourn-go/sojourn/sqlitestore"
)

func sqlite() backend {
	return backend{
		name: "sqlite", find: "make a folder for SQLite",
		lacks: []string{
			"several machines: the nodes share a file on this one",
			"answers from a node's memory, and how soon it hears of a logout: every read asks the file",
			"a leader: of the nodes, whose turn it is prunes",
			"partitions: expired sessions are deleted, a few at a time",
		},
		open: openSQLite, node: openSQLiteNode, ended: func(string) bool { return true },
	}
}

// sqliteDB is a file in a folder of its own.
type sqliteDB struct {
	run     string
	home    string
	version string
}

func openSQLite(ctx context.Context, _ io.Writer) (database, error) {
	home, err := os.MkdirTemp("", "sojourn-demo-")
	if err != nil {
		return nil, err
	}
	d := &sqliteDB{run: newRun(), home: home}
	if err := d.with(ctx, func(db *sql.DB) error {
		return db.QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&d.version)
	}); err != nil {
		_, closeErr := d.close(ctx)
		return nil, errors.Join(err, closeErr)
	}
	return d, nil
}

func (d *sqliteDB) path() string { return filepath.Join(d.home, "sessions.db") }

func (d *sqliteDB) about() string { return fmt.Sprintf("SQLite %s, file %s", d.version, d.path()) }

func (d *sqliteDB) node() nodeConfig { return nodeConfig{Run: d.run, DSN: d.path(), Home: d.home} }

// with runs do on connections of its own.
func (d *sqliteDB) with(ctx context.Context, do func(*sql.DB) error) error {
	db, err := sql.Open("sqlite", sqlitestore.DSN(d.path()))
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

func (d *sqliteDB) migrate(ctx context.Context) (string, error) {
	return "in the file", d.with(ctx, func(db *sql.DB) error { return migrations.Up(ctx, db, migrations.Config{}) })
}

func (d *sqliteDB) open(ctx context.Context) (*opened, error) {
	return openFile(ctx, d.path(), sqlitestore.Options{PruneInterval: -1})
}

// told only runs do: nodes that ask the file each time need no messages.
func (d *sqliteDB) told(_ context.Context, _ int, do func() error) (string, error) {
	return "", do()
}

// left finds out whether anybody has the file open: only a connection that is
// the last one can end WAL mode. The nodes' stores begin it again.
func (d *sqliteDB) left(ctx context.Context) (names []string, err error) {
	err = d.with(ctx, func(db *sql.DB) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, `PRAGMA busy_timeout = 0`); err != nil {
			return err
		}
		var mode string
		err = conn.QueryRowContext(ctx, `PRAGMA journal_mode = delete`).Scan(&mode)
		if sqlitecode.Of(err) == sqlitecode.Busy {
			names, err = []string{"of somebody who has the file open"}, nil
		}
		return err
	})
	return names, err
}

func (d *sqliteDB) log() string { return "" } // there is no server

func (d *sqliteDB) close(context.Context) (string, error) {
	return "folder removed", os.RemoveAll(d.home)
}

func openSQLiteNode(ctx context.Context, conf nodeConfig, log *zap.Logger) (*opened, error) {
	return openFile(ctx, conf.DSN, sqlitestore.Options{PruneInterval: pruneInterval, NodeName: conf.nodeName(), Logger: log})
}

func openFile(ctx context.Context, path string, opts sqlitestore.Options) (*opened, error) {
	store, err := sqlitestore.Open(ctx, path, opts)
	if err != nil {
		return nil, err
	}
	return &opened{store: store, close: store.Close}, nil
}
