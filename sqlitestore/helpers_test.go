package sqlitestore

import (
	"cmp"
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/await"
	"github.com/sojourn-go/sojourn/session"

	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
)

const patience = await.Patience

// quiet does nothing in the background.
var quiet = Options{PruneInterval: -1}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "folder", "sessions.db") }

// openStore lets writes take as long as a busy machine needs, unless the test
// says how long.
func openStore(t testing.TB, path string, opts Options) *Store {
	t.Helper()
	opts.WriteTimeout = cmp.Or(opts.WriteTimeout, patience)
	s, err := Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, s)
	return s
}

func closeLater(t testing.TB, s *Store) {
	t.Cleanup(func() { closeStore(t, s) })
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// openDB is a pool of the test's own on a file.
func openDB(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// migratedDB is a pool with our tables.
func migratedDB(t testing.TB, path string) *sql.DB {
	t.Helper()
	if err := makeFile(path); err != nil {
		t.Fatal(err)
	}
	db := openDB(t, DSN(path))
	if err := migrations.Up(t.Context(), db, migrations.Config{}); err != nil {
		t.Fatal(err)
	}
	return db
}

func sqlExec(t testing.TB, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, text string, args ...any) int64 {
	t.Helper()
	result, err := db.ExecContext(context.Background(), text, args...)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newSession(s *Store, data string) session.Record {
	deadline := s.Now().Add(2 * time.Hour)
	return session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline, Data: []byte(data)}
}

func create(t testing.TB, s *Store, rec session.Record) session.Record {
	t.Helper()
	rec, err := s.Create(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}
