package sqlitestore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	_ "modernc.org/sqlite" // the driver "sqlite"

	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
)

// Open opens the database file at path, makes it and its folders if they are
// missing, brings its tables up to date and returns a store on it. The path
// ":memory:" is a database of this store's own, which vanishes with it. ctx
// bounds Open only.
//
// Several processes on one machine may have the same file open. It must not be
// on a network file system: SQLite's WAL mode needs shared memory
// (sqlite.org/wal.html). New files can be read by their owner alone.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, wrap("open", err)
	}
	s, err := open(ctx, path, opts)
	return s, wrap("open", err)
}

func open(ctx context.Context, path string, opts Options) (*Store, error) {
	dsn := fileURI(path) + "?" + pragmas
	switch path {
	case "":
		return nil, errors.New("the path is empty; for a database in memory use \":memory:\"")
	case memory:
		// A name of its own, under which all connections of the pool find it.
		dsn = "file:/sojourn-" + rand.Text() + "?vfs=memdb&" + pragmas
	default:
		if err := makeFile(path); err != nil {
			return nil, err
		}
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	s, err := openOn(ctx, db, path, opts)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func openOn(ctx context.Context, db *sql.DB, path string, opts Options) (*Store, error) {
	if path == memory {
		// The database lasts as long as it has a connection. This one is the
		// pool's until a store keeps one.
		keep, err := db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = keep.Close() }() // it goes back to the pool
	} else if err := useWAL(ctx, db, opts); err != nil {
		return nil, err
	}
	if err := migrations.Up(ctx, db, opts.migrations()); err != nil {
		return nil, err
	}
	s, err := newStore(ctx, db, opts)
	if err != nil {
		return nil, err
	}
	s.owned = db
	return s, nil
}

const memory = ":memory:"

const pragmas = "_pragma=busy_timeout(10000)"

// DSN returns a data source name for the driver "sqlite" of
// modernc.org/sqlite that leads to the file at path and suits New:
//
//	db, err := sql.Open("sqlite", sqlitestore.DSN("app.db"))
//
// The file is put into WAL mode when a connection is opened.
func DSN(path string) string {
	return fileURI(path) + "?" + pragmas + "&_pragma=journal_mode(wal)"
}

// fileURI is a path in which no character means anything to SQLite
// (sqlite.org/uri.html).
func fileURI(path string) string {
	path = filepath.ToSlash(path)
	if filepath.VolumeName(path) != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath()
}

// makeFile makes what is missing. SQLite would give everybody the right to read
// it; the files beside it get the rights of this one.
func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder: %w", forbidden(err))
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return fmt.Errorf("%s is a folder", path)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("make the file: %w", forbidden(err))
	}
	return file.Close()
}

// forbidden makes err ErrReadOnly if that is why.
func forbidden(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}

// useWAL puts the file into WAL mode, which lasts.
func useWAL(ctx context.Context, db *sql.DB, opts Options) error {
	return retry(ctx, opts.WriteTimeout, func() error {
		var mode string
		if err := db.QueryRowContext(ctx, `PRAGMA main.journal_mode = wal`).Scan(&mode); err != nil {
			return fmt.Errorf("switch to WAL mode: %w", err)
		}
		if mode != "wal" {
			return fmt.Errorf("the journal_mode stays %s: the file's folder must support WAL mode", mode)
		}
		return nil
	})
}
