package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"modernc.org/sqlite"
)

func newDB(t *testing.T) *sql.DB {
	t.Helper()
	return openDB(t, "file:"+filepath.Join(t.TempDir(), "x.db"))
}

func openDB(t *testing.T, dsn string) *sql.DB {
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

func mustExec(t *testing.T, db *sql.DB, text string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func mustUp(t *testing.T, db *sql.DB, cfg Config) {
	t.Helper()
	if err := Up(t.Context(), db, cfg); err != nil {
		t.Fatal(err)
	}
}

// dump is everything that a database holds.
func dump(t *testing.T, db *sql.DB) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT name || ': ' || coalesce(sql, '') FROM sqlite_schema ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err = each(rows, func(row *sql.Rows) error {
		var line string
		err := row.Scan(&line)
		out.WriteString(line + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestUpMakesWhatValidateWants(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"", "sessions", `we"ird; -- 'name`, "with space", "{{.meta}}", "Ünïcødé", "select", "main.x"} {
		db := newDB(t)
		cfg := Config{Table: table}
		if err := Validate(t.Context(), db, cfg); !errors.Is(err, ErrNotMigrated) {
			t.Errorf("%q: before Up: %v; want ErrNotMigrated", table, err)
		}
		mustUp(t, db, cfg)
		before := dump(t, db)
		mustUp(t, db, cfg)
		if after := dump(t, db); after != before {
			t.Errorf("%q: a second Up changed\n%s\nto\n%s", table, before, after)
		}
		if err := Validate(t.Context(), db, cfg); err != nil {
			t.Errorf("%q: %v", table, err)
		}
	}
}

func TestTablesOfTwoNamesLiveSideBySide(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	mustUp(t, db, Config{Table: "a"})
	mustUp(t, db, Config{Table: "b"})
	for _, table := range []string{"a", "b"} {
		if err := Validate(t.Context(), db, Config{Table: table}); err != nil {
			t.Error(err)
		}
	}
}

func TestSQLDoesWhatUpDoes(t *testing.T) {
	t.Parallel()
	byUp, byHand := newDB(t), newDB(t)
	cfg := Config{Table: `my "sessions"`}
	mustUp(t, byUp, cfg)
	script, err := SQL(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, byHand, script)
	if got, want := dump(t, byHand), dump(t, byUp); got != want {
		t.Errorf("by hand\n%s\nby Up\n%s", got, want)
	}
	if err := Validate(t.Context(), byHand, cfg); err != nil {
		t.Error(err)
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	for _, table := range []string{"a\x00b", "a\xff", strings.Repeat("x", 201), "sqlite_x", "SQLite_sessions"} {
		cfg := Config{Table: table}
		_, errSQL := SQL(cfg)
		_, errNames := NamesOf(table)
		for _, err := range []error{Up(t.Context(), db, cfg), Validate(t.Context(), db, cfg), errSQL, errNames} {
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "Table") {
				t.Errorf("%.20q: %v; want ErrInvalid", table, err)
			}
		}
	}
	if err := Up(t.Context(), nil, Config{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a database: %v", err)
	}
}

func TestWhatIsNotOursIsLeftAlone(t *testing.T) {
	t.Parallel()
	const meta = `CREATE TABLE sojourn_sessions_meta (one INTEGER PRIMARY KEY, schema_version INTEGER, min_compatible INTEGER)`
	for name, c := range map[string]struct {
		setup []string
		want  string
	}{
		"another's table":        {[]string{`CREATE TABLE sojourn_sessions (token TEXT PRIMARY KEY, data BLOB, expiry REAL)`}, "there is no column key"},
		"a view":                 {[]string{`CREATE VIEW sojourn_sessions AS SELECT 1`}, "is a view"},
		"a table in other case":  {[]string{`CREATE TABLE Sojourn_Sessions (token TEXT)`}, "there is no column"},
		"only the meta table":    {[]string{meta}, "but the table does not"},
		"another meta table":     {[]string{`CREATE TABLE sojourn_sessions_meta (x)`}, "is not the meta table"},
		"no meta table":          {[]string{"UP", `DROP TABLE sojourn_sessions_meta`}, "does not or is empty"},
		"an empty meta table":    {[]string{"UP", `DELETE FROM sojourn_sessions_meta`}, "does not or is empty"},
		"no column for the data": {[]string{"UP", `ALTER TABLE sojourn_sessions DROP COLUMN data`}, "there is no column data"},
		"a key that is not unique": {[]string{"UP", `DROP TABLE sojourn_sessions`, `CREATE TABLE sojourn_sessions (id INTEGER PRIMARY KEY, key BLOB,
			bucket INTEGER, kept_to INTEGER, version INTEGER, expires_at INTEGER, deadline INTEGER, created_at INTEGER, ended_at INTEGER,
			renewed_to BLOB, grace_until INTEGER, user_id INTEGER, data BLOB)`}, "user_id is INTEGER, not TEXT; the column key is not unique"},
	} {
		db := newDB(t)
		for _, text := range c.setup {
			if text == "UP" {
				mustUp(t, db, Config{})
				continue
			}
			mustExec(t, db, text)
		}
		before := dump(t, db)
		for _, err := range []error{Up(t.Context(), db, Config{}), Validate(t.Context(), db, Config{})} {
			if !errors.Is(err, ErrForeignTable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v; want ErrForeignTable with %q", name, err, c.want)
			}
		}
		if after := dump(t, db); after != before {
			t.Errorf("%s: it was changed to\n%s", name, after)
		}
	}
}

func TestNewerDatabasesAreUsedIfTheyAllowIt(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	mustUp(t, db, Config{})
	mustExec(t, db, `UPDATE sojourn_sessions_meta SET schema_version = 7`)
	for _, err := range []error{Up(t.Context(), db, Config{}), Validate(t.Context(), db, Config{})} {
		if err != nil {
			t.Errorf("a compatible one: %v", err)
		}
	}
	mustExec(t, db, `UPDATE sojourn_sessions_meta SET min_compatible = 2`)
	for _, err := range []error{Up(t.Context(), db, Config{}), Validate(t.Context(), db, Config{})} {
		if !errors.Is(err, ErrIncompatible) || !strings.Contains(err.Error(), "version 7 and needs programs that know version 2; this one knows 1") {
			t.Errorf("an incompatible one: %v", err)
		}
	}
}

func TestALaterVersionBuildsOnTheFirst(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	mustUp(t, db, Config{})
	first, err := files.ReadFile("sql/001_sessions.sql")
	if err != nil {
		t.Fatal(err)
	}
	two := fstest.MapFS{
		"001_sessions.sql": {Data: first},
		"002_more.sql":     {Data: []byte("ALTER TABLE {{.sessions}} ADD COLUMN more TEXT;\nUPDATE {{.meta}} SET schema_version = 2;")},
	}
	n, err := namesOf(DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	st, err := n.inspect(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.usable(n, 2); !errors.Is(err, ErrOutdated) {
		t.Errorf("to a newer program: %v; want ErrOutdated", err)
	}
	broken := fstest.MapFS{"001_sessions.sql": two["001_sessions.sql"],
		"002_more.sql": {Data: []byte("ALTER TABLE {{.sessions}} ADD COLUMN more TEXT;\nUPDATE nowhere SET x = 1;")}}
	before := dump(t, db)
	var driver *sqlite.Error
	if err := up(t.Context(), db, Config{}, broken); !errors.As(err, &driver) || !strings.Contains(err.Error(), "002 more") {
		t.Errorf("a migration that fails: %v", err)
	}
	if after := dump(t, db); after != before {
		t.Errorf("a migration that failed left\n%s", after)
	}
	if err := up(t.Context(), db, Config{}, two); err != nil {
		t.Fatal(err)
	}
	if err := Validate(t.Context(), db, Config{}); err != nil {
		t.Errorf("to an older program that can use it: %v", err)
	}
}

func TestFilesThatAreNoDatabaseAreNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	garbage := []byte(strings.Repeat("this is not a database. ", 1000))
	if err := os.WriteFile(path, garbage, 0o600); err != nil {
		t.Fatal(err)
	}
	db := openDB(t, "file:"+path)
	for _, err := range []error{Up(t.Context(), db, Config{}), Validate(t.Context(), db, Config{})} {
		var driver *sqlite.Error
		if !errors.Is(err, ErrNotDatabase) || !errors.As(err, &driver) {
			t.Errorf("%v; want ErrNotDatabase and the driver's error", err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(garbage) {
		t.Errorf("the file was changed (%v)", err)
	}
}

func TestReadOnlyDatabasesAreNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	mustExec(t, openDB(t, "file:"+path), `CREATE TABLE x (y)`)
	db := openDB(t, "file:"+path+"?mode=ro")
	if err := Up(t.Context(), db, Config{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Up: %v; want ErrReadOnly", err)
	}
	if err := Validate(t.Context(), db, Config{}); !errors.Is(err, ErrNotMigrated) {
		t.Errorf("Validate: %v; want ErrNotMigrated", err)
	}
}

func TestUpWaitsForOthersAndGivesUpInTime(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	holder, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := holder.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := holder.ExecContext(t.Context(), `BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	var driver *sqlite.Error
	if err := Up(t.Context(), db, Config{LockWait: 500 * time.Millisecond}); !errors.Is(err, ErrLocked) || !errors.As(err, &driver) {
		t.Errorf("after LockWait: %v; want ErrLocked and the driver's error", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := Up(ctx, db, Config{LockWait: -1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the context's end: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- Up(t.Context(), db, Config{}) }()
	if _, err := holder.ExecContext(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("once the lock is free: %v", err)
	}
}

func TestTenProcessesMayMigrateAtOnce(t *testing.T) {
	t.Parallel()
	for round := range 3 {
		dsn := "file:" + filepath.Join(t.TempDir(), "x.db")
		if round == 2 {
			dsn += "?_pragma=busy_timeout(1000)"
		}
		type process struct {
			cmd    *exec.Cmd
			start  func() error
			stderr *strings.Builder
		}
		var processes []process
		for range 10 {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"="+dsn)
			stderr := &strings.Builder{}
			cmd.Stderr = stderr
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
				t.Fatalf("%q, %v", line, err)
			}
			processes = append(processes, process{cmd, func() error { _, err := in.Write([]byte{'\n'}); return err }, stderr})
		}
		for _, p := range processes {
			if err := p.start(); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range processes {
			if err := p.cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, p.stderr)
			}
		}
		db := openDB(t, dsn)
		if err := Validate(t.Context(), db, Config{}); err != nil {
			t.Error(err)
		}
		var rows int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM sojourn_sessions_meta`).Scan(&rows); err != nil || rows != 1 {
			t.Errorf("the meta table has %d rows, %v", rows, err)
		}
	}
}
