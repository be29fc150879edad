package main

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"

	"github.com/alexedwards/scs/sqlite3store"
	"github.com/alexedwards/scs/v2"

	"github.com/sojourn-go/sojourn/sqlitestore"
)

// startSQLite has a file for each store, in one folder. Both are in WAL mode and
// wait for the disk.
func startSQLite(ctx context.Context) (*site, error) {
	dir, err := os.MkdirTemp("", "sojourn-bench-")
	if err != nil {
		return nil, err
	}
	s := &site{close: func() error { return os.RemoveAll(dir) }}
	s.own = candidate{"sqlitestore", func(ctx context.Context) (backend, error) {
		store, err := sqlitestore.Open(ctx, filepath.Join(dir, "own.db"), sqlitestore.Options{PruneInterval: -1})
		return own{store, func() error { return nil }}, err
	}}
	s.peer = candidate{"scs sqlite3store", func(ctx context.Context) (backend, error) {
		db, err := sql.Open("sqlite", sqlitestore.DSN(filepath.Join(dir, "peer.db"))+"&_pragma=synchronous(full)")
		if err != nil {
			return nil, err
		}
		return openPeer(ctx, db, 4, []string{
			`CREATE TABLE sessions (token TEXT PRIMARY KEY, data BLOB NOT NULL, expiry REAL NOT NULL)`,
			`CREATE INDEX sessions_expiry_idx ON sessions (expiry)`,
		}, func(db *sql.DB) scs.Store { return sqlite3store.NewWithCleanupInterval(db, 0) })
	}}
	s.about, err = aboutSQLite(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func aboutSQLite(ctx context.Context) (string, error) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return "", err
	}
	defer db.Close()
	var version string
	err = db.QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&version)
	return "SQLite " + version + " (modernc.org/sqlite), WAL, synchronous = FULL", err
}
