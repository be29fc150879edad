package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/sojourn-go/sojourn/session"

	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
)

func TestOpenMakesFoldersAndFilesForTheirOwner(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sessions.db", "a?mode=memory&b.db", "100%41#x.db", "with space 'and\" quotes.db", "ü.db", "file:x.db"} {
		dir := filepath.Join(t.TempDir(), "a", "b")
		path := filepath.Join(dir, name)
		s := openStore(t, path, quiet)
		rec := create(t, s, newSession(s, "data"))
		for _, file := range []string{path, path + "-wal"} {
			info, err := os.Stat(file)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if mode := info.Mode().Perm(); mode != 0o600 {
				t.Errorf("%s has mode %v", info.Name(), mode)
			}
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the folder: %v, %v", info.Mode(), err)
		}
		closeStore(t, s)
		again := openStore(t, path, quiet)
		if got, err := again.Get(t.Context(), rec.Key); err != nil || string(got.Data) != "data" {
			t.Errorf("%s: after opening it again, Get = %q, %v", name, got.Data, err)
		}
	}
}

func TestWritesAreOnDiskUnlessTheyNeedNotBe(t *testing.T) {
	t.Parallel()
	for want, opts := range map[int64]Options{2: {PruneInterval: -1}, 1: {PruneInterval: -1, Synchronous: SynchronousNormal}} {
		s := openStore(t, newPath(t), opts)
		var got int64
		if err := s.writer.conn.sql.QueryRowContext(t.Context(), `PRAGMA synchronous`).Scan(&got); err != nil || got != want {
			t.Errorf("synchronous is %d, %v; want %d", got, err, want)
		}
	}
}

func TestStoresInMemoryAreApart(t *testing.T) {
	t.Parallel()
	a, b := openStore(t, ":memory:", Options{}), openStore(t, ":memory:", Options{})
	rec := create(t, a, newSession(a, "data"))
	if _, err := b.Get(t.Context(), rec.Key); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Get from the other: %v", err)
	}
	for range 50 { // by whatever connection
		if _, err := a.Get(t.Context(), rec.Key); err != nil {
			t.Errorf("Get: %v", err)
		}
	}
}

func TestFilesThatCannotBeUsedAreNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database. ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	other, newer := filepath.Join(dir, "other.db"), filepath.Join(dir, "newer.db")
	sqlExec(t, openDB(t, DSN(other)), `CREATE TABLE sojourn_sessions (token TEXT PRIMARY KEY, data BLOB NOT NULL, expiry REAL NOT NULL)`)
	sqlExec(t, migratedDB(t, newer), `UPDATE sojourn_sessions_meta SET schema_version = 9, min_compatible = 9`)
	type wrong struct {
		path   string
		want   error
		driver bool // its error is to be found
	}
	cases := map[string]wrong{
		"a file that is no database": {garbage, ErrDamaged, true},
		"a folder":                   {dir, nil, false},
		"a folder below a file":      {filepath.Join(garbage, "x", "y.db"), nil, false},
		"a table of another shape":   {other, migrations.ErrForeignTable, false},
		"a newer schema":             {newer, migrations.ErrIncompatible, false},
		"no path":                    {"", nil, false},
	}
	if runtime.GOOS == "linux" { // not even root can make a folder there
		cases["a folder that cannot be made"] = wrong{"/sys/sojourn/x.db", ErrReadOnly, false}
	}
	for name, c := range cases {
		s, err := Open(t.Context(), c.path, Options{})
		var driver *sqlite.Error
		switch {
		case err == nil:
			t.Errorf("%s: it was opened", name)
			closeStore(t, s)
		case s != nil:
			t.Errorf("%s: there is a store as well", name)
		case c.want != nil && !errors.Is(err, c.want):
			t.Errorf("%s: %v; want %v", name, err, c.want)
		case c.driver && !errors.As(err, &driver):
			t.Errorf("%s: %v; the driver's error is gone", name, err)
		}
	}
	if _, err := Open(t.Context(), dir, Options{}); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Open(t.Context(), newPath(t), Options{Table: "sqlite_x"}); !errors.Is(err, migrations.ErrInvalid) {
		t.Errorf("a bad name: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, newPath(t), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
}

func TestNewSaysWhatAPoolLacks(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	migratedDB(t, path)
	rollback := filepath.Join(filepath.Dir(path), "rollback.db")
	plain := openDB(t, fileURI(rollback)+"?"+pragmas)
	if err := migrations.Up(t.Context(), plain, migrations.Config{}); err != nil {
		t.Fatal(err)
	}
	private := openDB(t, ":memory:?"+pragmas)
	private.SetMaxIdleConns(1)
	if err := migrations.Up(t.Context(), private, migrations.Config{}); err != nil {
		t.Fatal(err)
	}
	few := openDB(t, DSN(path))
	few.SetMaxOpenConns(3)
	for name, c := range map[string]struct {
		db   *sql.DB
		want error
		says string
	}{
		"no WAL":               {plain, ErrUnsuitable, "journal_mode is delete instead of wal"},
		"no busy_timeout":      {openDB(t, fileURI(path)), ErrUnsuitable, "busy_timeout is 0"},
		"too few connections":  {few, ErrUnsuitable, "limited to 3 connections"},
		"a database each":      {private, ErrUnsuitable, "a database of its own"},
		"no tables":            {openDB(t, DSN(path+"2")), migrations.ErrNotMigrated, "call Up"},
		"a file to be written": {openDB(t, fileURI(path)+"?mode=ro&"+pragmas), ErrReadOnly, "readonly"},
	} {
		s, err := New(t.Context(), c.db, quiet)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v with %q", name, err, c.want, c.says)
		}
		if err == nil {
			closeStore(t, s)
		}
		if open := c.db.Stats().InUse; open != 0 {
			t.Errorf("%s: %d connections were kept", name, open)
		}
	}
}

func TestAPoolStaysTheCallers(t *testing.T) {
	t.Parallel()
	db := migratedDB(t, newPath(t))
	for _, most := range []int{0, 4, 5, 9, 20} {
		db.SetMaxOpenConns(most)
		db.SetMaxIdleConns(max(most, 8))
		s, err := New(t.Context(), db, Options{PruneInterval: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		rec := create(t, s, newSession(s, "data"))
		for range 20 {
			if _, err := s.Get(t.Context(), rec.Key); err != nil {
				t.Error(err)
			}
			if _, err := s.Len(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if used := db.Stats().InUse; most > 0 && used > (most+2)/2 {
			t.Errorf("of %d connections the store keeps %d", most, used)
		}
		closeStore(t, s)
		if used := db.Stats().InUse; used != 0 {
			t.Errorf("after Close, %d connections are still in use", used)
		}
	}
	var conns []*sql.Conn
	for range 8 {
		c, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		var timeout, synchronous int
		if err := c.QueryRowContext(t.Context(), `PRAGMA busy_timeout`).Scan(&timeout); err != nil || timeout != 10000 {
			t.Errorf("busy_timeout is %d, %v; want 10000 as it was", timeout, err)
		}
		if err := c.QueryRowContext(t.Context(), `PRAGMA synchronous`).Scan(&synchronous); err != nil || synchronous != 2 {
			t.Errorf("synchronous is %d, %v; want 2 as it was", synchronous, err)
		}
	}
	for _, c := range conns {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for field, opts := range map[string]Options{
		"Longest":       {Longest: -1},
		"WriteTimeout":  {WriteTimeout: -1},
		"RetireGrace":   {RetireGrace: time.Second},
		"RetireGrace+":  {RetireGrace: 1<<63 - 1},
		"WriteTimeout+": {WriteTimeout: 1<<63 - 1},
		"PruneInterval": {PruneInterval: 1<<63 - 1},
		"NodeName":      {NodeName: "a\x00"},
		"NodeName+":     {NodeName: "\xff"},
		"MaxData":       {MaxData: -1},
		"MaxUser":       {MaxUser: 1 << 20},
		"BatchItems":    {BatchItems: -1},
		"BatchBytes":    {BatchBytes: 1 << 40},
		"Readers":       {Readers: -1},
		"Synchronous":   {Synchronous: 7},
	} {
		path := newPath(t)
		_, err := Open(t.Context(), path, opts)
		if err == nil || !strings.Contains(err.Error(), "Options."+strings.TrimSuffix(field, "+")+" ") {
			t.Errorf("%s: %v", field, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: the file was made all the same", field)
		}
	}
}
