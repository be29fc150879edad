package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

func newDB(t *testing.T, s *dbtest.MySQLServer) *sql.DB {
	t.Helper()
	return dbtest.DB(t, s.Database(t), nil)
}

func mustExec(t *testing.T, db *sql.DB, text string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func mustUp(t *testing.T, db *sql.DB, cfg Config) {
	t.Helper()
	if err := Up(t.Context(), db, cfg); err != nil {
		t.Fatal(err)
	}
}

// dump is everything that the database holds, with the meta tables' rows.
func dump(t *testing.T, db *sql.DB) string {
	t.Helper()
	table := func(query string) (all [][]string) {
		t.Helper()
		rows, err := db.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		err = each(rows, func(row *sql.Rows) error {
			columns, err := row.Columns()
			if err != nil {
				return err
			}
			cells, texts := make([]any, len(columns)), make([]sql.NullString, len(columns))
			for i := range cells {
				cells[i] = &texts[i]
			}
			if err := row.Scan(cells...); err != nil {
				return err
			}
			var line []string
			for _, text := range texts {
				line = append(line, text.String)
			}
			all = append(all, line)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	var out strings.Builder
	for _, row := range table(`SELECT table_name FROM information_schema.tables WHERE table_schema = database() ORDER BY table_name`) {
		name := row[0]
		fmt.Fprintln(&out, table(`SHOW CREATE TABLE ` + quote(name))[0][1])
		if strings.HasSuffix(name, "_meta") {
			fmt.Fprintln(&out, table(`SELECT * FROM `+quote(name)))
		}
	}
	return out.String()
}

func TestUpMakesWhatValidateWants(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := newDB(t, s)
		for _, table := range []string{"", "sessions", "we`ird; -- 'name\"", "with space", "{{.meta}}", "Ünïcødé", "select", "main.x", strings.Repeat("語", maxName)} {
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
		if n := db.Stats().InUse; n != 0 {
			t.Errorf("%d connections are not given back", n)
		}
	})
}

func TestSQLDoesWhatUpDoes(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		byUp := newDB(t, s)
		byHand := dbtest.DB(t, s.Database(t), func(c *mysql.Config) { c.MultiStatements = true })
		cfg := Config{Table: "my `sessions`", Settings: Settings{LongestLifetime: 48 * time.Hour}}
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
	})
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	t.Parallel()
	db := newDB(t, dbtest.MariaDB(t))
	for what, cfg := range map[string]Config{
		"Table contains a NUL byte":                {Table: "a\x00b"},
		"Table is not valid UTF-8":                 {Table: "a\xff"},
		"Table has 41 characters; the limit is 40": {Table: strings.Repeat("x", 41)},
		"Table ends with a space":                  {Table: "x "},
		"Table contains '😀'":                       {Table: "x😀"},
		"Settings.LongestLifetime is 30m0s":        {Settings: Settings{LongestLifetime: 30 * time.Minute}},
		"Settings.LongestLifetime is -1h0m0s":      {Settings: Settings{LongestLifetime: -time.Hour}},
		"must be a multiple of 1h":                 {Settings: Settings{LongestLifetime: 90 * time.Minute}},
		"must be from 1h0m0s to 87600h0m0s":        {Settings: Settings{LongestLifetime: MaxLifetime + time.Hour}},
		"Settings.RetireGrace is 59s":              {Settings: Settings{RetireGrace: 59 * time.Second}},
		"Settings.RetireGrace is -1ns":             {Settings: Settings{RetireGrace: -1}},
		"must be a multiple of 1s":                 {Settings: Settings{RetireGrace: time.Hour + 1}},
		"must be from 1m0s to 87600h0m0s":          {Settings: Settings{RetireGrace: 1<<63 - 1}},
	} {
		_, errSQL := SQL(cfg)
		_, errLoad := LoadSettings(t.Context(), db, cfg)
		for _, err := range []error{Up(t.Context(), db, cfg), Validate(t.Context(), db, cfg), errSQL, errLoad} {
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), what) {
				t.Errorf("%v; want ErrInvalid with %q", err, what)
			}
		}
		if cfg.Table != "" {
			if _, err := NamesOf(cfg.Table); !errors.Is(err, ErrInvalid) {
				t.Errorf("NamesOf: %v; want ErrInvalid", err)
			}
		}
	}
	if err := Up(t.Context(), nil, Config{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a database: %v", err)
	}
}

func TestAConnectionWithoutADatabaseIsRefused(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := dbtest.DB(t, s.DSN(""), nil)
		for _, err := range []error{Up(t.Context(), db, Config{}), Validate(t.Context(), db, Config{})} {
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "no database selected") {
				t.Errorf("%v; want ErrInvalid", err)
			}
		}
	})
}

func TestWhatIsNotOursIsLeftAlone(t *testing.T) {
	t.Parallel()
	const meta = `CREATE TABLE sojourn_sessions_meta (one int PRIMARY KEY, schema_version int, min_compatible int)`
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		for name, c := range map[string]struct {
			setup []string
			want  string
		}{
			"another's table":          {[]string{`CREATE TABLE sojourn_sessions (token varchar(40) PRIMARY KEY, data blob, expiry timestamp(6))`}, "there is no column hash"},
			"a view":                   {[]string{`CREATE VIEW sojourn_sessions AS SELECT 1`}, "is a view"},
			"a version without tables": {[]string{meta, `INSERT INTO sojourn_sessions_meta VALUES (1, 1, 1)`}, "but the table does not"},
			"another meta table":       {[]string{`CREATE TABLE sojourn_sessions_meta (x int)`}, "is not the meta table"},
			"no meta table":            {[]string{"UP", `DROP TABLE sojourn_sessions_meta`}, "does not or is empty"},
			"an empty meta table":      {[]string{"UP", `DELETE FROM sojourn_sessions_meta`}, "does not or is empty"},
			"no column for the data":   {[]string{"UP", `ALTER TABLE sojourn_sessions DROP COLUMN data`}, "there is no column data"},
			"another type":             {[]string{"UP", `ALTER TABLE sojourn_sessions MODIFY user_id varchar(255)`}, "user_id is varchar, not varbinary(2000)"},
			"a shorter one":            {[]string{"UP", `ALTER TABLE sojourn_sessions MODIFY renewed_to binary(16)`}, "renewed_to is binary(16), not binary(32)"},
			"a hash that is not unique": {[]string{"UP", `ALTER TABLE sojourn_sessions DROP PRIMARY KEY, ADD PRIMARY KEY (hash, id)`},
				"the column hash is not unique"},
			"a prefix that is unique": {[]string{"UP", `ALTER TABLE sojourn_sessions DROP PRIMARY KEY, ADD PRIMARY KEY (hash, id), ADD UNIQUE KEY (hash(8))`},
				"the column hash is not unique"},
			"another engine": {[]string{"UP", `ALTER TABLE sojourn_sessions MODIFY user_id varbinary(900), ENGINE=MyISAM`}, "its engine is MyISAM"},
		} {
			db := newDB(t, s)
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
	})
}

// However a connection is set up, by its DSN or by the server.
func TestSettingsOfConnectionsDoNotMatter(t *testing.T) {
	t.Parallel()
	hostile := []string{"sql_safe_updates = 1", "sql_select_limit = 1", "tx_read_only = 1", "autocommit = 0", "completion_type = 2",
		"sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'"}
	check := func(t *testing.T, db *sql.DB, what string) {
		t.Helper()
		if err := Validate(t.Context(), db, Config{}); !errors.Is(err, ErrNotMigrated) {
			t.Errorf("%s: before Up: %v; want ErrNotMigrated", what, err)
		}
		for range 2 {
			if err := Up(t.Context(), db, Config{}); err != nil {
				t.Errorf("%s: Up: %v", what, err)
			}
		}
		if err := Validate(t.Context(), db, Config{}); err != nil {
			t.Errorf("%s: Validate: %v", what, err)
		}
		want := Settings{LongestLifetime: 48 * time.Hour, RetireGrace: time.Hour}
		got, err := SetSettings(t.Context(), db, Config{}, want)
		if strings.Contains(what, "read_only") {
			if !errors.Is(err, ErrReadOnly) {
				t.Errorf("%s: SetSettings: %v; want ErrReadOnly", what, err)
			}
			return
		}
		if err != nil || got != want {
			t.Errorf("%s: SetSettings = %+v, %v", what, got, err)
		}
	}
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		for _, setting := range hostile {
			if !s.IsMariaDB() {
				setting = strings.Replace(setting, "tx_", "transaction_", 1)
			}
			name, value, _ := strings.Cut(setting, " = ")
			check(t, dbtest.DB(t, s.Database(t), func(c *mysql.Config) { c.Params = map[string]string{name: value} }), setting)
		}
	})
	s := dbtest.StartMariaDB(t, dbtest.MySQLConfig{})
	db := newDB(t, s)
	for _, setting := range hostile[:3] {
		mustExec(t, db, "SET GLOBAL "+setting)
	}
	db.SetMaxIdleConns(0) // each call gets a connection that begins with these
	check(t, db, "tx_read_only by the server")
}

// The locks of the users are rows, which a restore or somebody's TRUNCATE can lose.
// No limit would hold without them.
func TestUpMakesLocksThatAreMissing(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		for missing, text := range map[string]string{
			"1 of the 256":   `DELETE FROM sojourn_sessions_users WHERE stripe = 7`,
			"256 of the 256": `TRUNCATE sojourn_sessions_users`,
			" 256 of the":    `DROP TABLE sojourn_sessions_users`,
		} {
			db := newDB(t, s)
			mustUp(t, db, Config{})
			if err := insert(t, db, strings.Repeat("a", 32), "ada"); err != nil {
				t.Fatal(err)
			}
			before := dump(t, db)
			mustExec(t, db, text)
			if err := Validate(t.Context(), db, Config{}); !errors.Is(err, ErrNotMigrated) || !strings.Contains(err.Error(), missing) {
				t.Errorf("%s: Validate: %v; want ErrNotMigrated with %q", text, err, missing)
			}
			mustUp(t, db, Config{})
			if err := Validate(t.Context(), db, Config{}); err != nil {
				t.Errorf("%s: %v", text, err)
			}
			if after := dump(t, db); after != before {
				t.Errorf("%s: Up changed\n%s\nto\n%s", text, before, after)
			}
		}
	})
}

func TestNewerDatabasesAreUsedIfTheyAllowIt(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := newDB(t, s)
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
	})
}

// insert adds a session, so that something can get lost.
func insert(t *testing.T, db *sql.DB, hash, user string) error {
	t.Helper()
	_, err := db.ExecContext(t.Context(), `INSERT INTO sojourn_sessions (hash, bucket, kept_to, version, expires_at, deadline, created_at, user_id, data)
		VALUES (?, 10, 10, 1, 35000000000, 36000000000, 1, ?, 'x')`, hash+strings.Repeat("0", 32-len(hash)), user)
	return err
}

func TestALaterVersionBuildsOnTheFirst(t *testing.T) {
	t.Parallel()
	first, err := files.ReadFile("sql/001_sessions.sql")
	if err != nil {
		t.Fatal(err)
	}
	second := func(text string) fstest.MapFS {
		return fstest.MapFS{"001_sessions.sql": {Data: first}, "002_more.sql": {Data: []byte(text)}}
	}
	const alter = "ALTER TABLE {{.sessions}} ADD COLUMN more int, ADD KEY by_more (more);\n"
	const done = "UPDATE {{.meta}} SET schema_version = 2;"
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := newDB(t, s)
		mustUp(t, db, Config{})
		if err := insert(t, db, "a", "u"); err != nil {
			t.Fatal(err)
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
		// One that fails in the middle, and one whose connection is lost there.
		var answer *mysql.MySQLError
		if err := up(t.Context(), db, Config{}, second(alter+"UPDATE nowhere SET x = 1;\n"+done)); !errors.As(err, &answer) || !strings.Contains(err.Error(), "002 more") {
			t.Errorf("a migration that fails: %v", err)
		}
		if err := up(t.Context(), db, Config{}, second(alter+"KILL connection_id();\n"+done)); err == nil {
			t.Error("a migration whose connection was lost succeeded")
		}
		if err := Validate(t.Context(), db, Config{}); err != nil {
			t.Errorf("to the older program, in between: %v", err)
		}
		if err := up(t.Context(), db, Config{}, second(alter+done)); err != nil {
			t.Fatal(err)
		}
		if err := Validate(t.Context(), db, Config{}); err != nil {
			t.Errorf("to an older program that can use it: %v", err)
		}
		var rows, version int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*), max(schema_version) FROM sojourn_sessions, sojourn_sessions_meta WHERE more IS NULL`).Scan(&rows, &version); err != nil || rows != 1 || version != 2 {
			t.Errorf("%d rows and version %d, %v; want the row that was there and 2", rows, version, err)
		}
		// Not everything that fails is done already.
		if err := up(t.Context(), db, Config{}, fstest.MapFS{"001_sessions.sql": {Data: first}, "002_more.sql": {Data: []byte(alter + done)},
			"003_x.sql": {Data: []byte("ALTER TABLE {{.sessions}} ADD COLUMN more int;\n")}}); !errors.Is(err, ErrOutdated) {
			t.Errorf("a migration that leaves the version as it was: %v; want ErrOutdated", err)
		}
	})
}

func TestThePrivilegesThatAreMissingAreNamed(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		root := dbtest.DB(t, dsn, nil)
		user := fmt.Sprintf("m%d", time.Now().UnixNano()%1e15)
		mustExec(t, root, "CREATE USER "+user+"@'127.0.0.1' IDENTIFIED BY 'secret'")
		t.Cleanup(func() {
			if _, err := root.ExecContext(context.Background(), "DROP USER "+user+"@'127.0.0.1'"); err != nil {
				t.Error(err)
			}
		})
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, root, "GRANT SELECT ON "+cfg.DBName+".* TO "+user+"@'127.0.0.1'")
		db := dbtest.DB(t, dsn, func(c *mysql.Config) { c.User, c.Passwd = user, "secret" })
		if err := Up(t.Context(), db, Config{}); !errors.Is(err, ErrPermission) {
			t.Errorf("Up: %v; want ErrPermission", err)
		}
		mustUp(t, root, Config{})
		// Who may read knows whether it is done.
		for _, err := range []error{Up(t.Context(), db, Config{}), Validate(t.Context(), db, Config{})} {
			if err != nil {
				t.Error(err)
			}
		}
		if _, err := SetSettings(t.Context(), db, Config{}, Settings{LongestLifetime: time.Hour}); !errors.Is(err, ErrPermission) {
			t.Errorf("SetSettings: %v; want ErrPermission", err)
		}
	})
}

func TestReadOnlyServersAreNamed(t *testing.T) {
	t.Parallel()
	// It folds names, too, as on Windows and macOS.
	s := dbtest.StartMariaDB(t, dbtest.MySQLConfig{Settings: map[string]string{"lower_case_table_names": "1"}})
	db := newDB(t, s)
	cfg := Config{Table: "Sessions"}
	mustExec(t, db, `SET GLOBAL read_only = ON`)
	mustExec(t, db, `CREATE USER plain@'127.0.0.1' IDENTIFIED BY 'secret'`)
	mustExec(t, db, `GRANT ALL ON test_1.* TO plain@'127.0.0.1'`)
	plain := dbtest.DB(t, s.DSN("test_1"), func(c *mysql.Config) { c.User, c.Passwd = "plain", "secret" })
	if err := Up(t.Context(), plain, cfg); !errors.Is(err, ErrReadOnly) {
		t.Errorf("%v; want ErrReadOnly", err)
	}
	mustExec(t, db, `SET GLOBAL read_only = OFF`)
	mustUp(t, plain, cfg)
	if err := Validate(t.Context(), plain, cfg); err != nil {
		t.Error(err)
	}
}

func TestOnlyServersThatAreNewEnoughAreUsed(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"10.11.19-MariaDB-0+deb12u1": true, "10.6.0-MariaDB": true, "10.5.29-MariaDB": false, "11.4.2-MariaDB-log": true,
		"9.7.4-2": true, "8.0.16": true, "8.0.15": false, "5.7.44-log": false, "8.4.0-azure": true, "strange": true,
	} {
		if got := supported(version); got != want {
			t.Errorf("%s: supported is %v", version, got)
		}
	}
}

func TestUsersAreComparedByteByByteAndBucketsAreChecked(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := newDB(t, s)
		mustUp(t, db, Config{})
		for i, user := range []string{"ann", "Ann", "ann ", "änn", strings.Repeat("x", MaxUser)} {
			if err := insert(t, db, fmt.Sprint(i), user); err != nil {
				t.Fatal(err)
			}
			var n int
			if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM sojourn_sessions WHERE user_id = ?`, user).Scan(&n); err != nil || n != 1 {
				t.Errorf("%q has %d sessions, %v; want its own", user, n, err)
			}
		}
		for _, set := range []string{"bucket = 9", "bucket = 11", "kept_to = 9", "expires_at = deadline + 1", "hash = NULL"} {
			if _, err := db.ExecContext(t.Context(), "UPDATE sojourn_sessions SET "+set); err == nil {
				t.Errorf("%s was accepted", set)
			}
		}
	})
}

func TestSettingsAreKeptByTheDatabase(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := newDB(t, s)
		ctx := t.Context()
		if _, err := LoadSettings(ctx, db, Config{}); !errors.Is(err, ErrNotMigrated) {
			t.Errorf("before Up: %v; want ErrNotMigrated", err)
		}
		if _, err := SetSettings(ctx, db, Config{}, Settings{LongestLifetime: time.Hour}); !errors.Is(err, ErrNotMigrated) {
			t.Errorf("before Up: %v; want ErrNotMigrated", err)
		}
		week := Config{Table: "week", Settings: Settings{LongestLifetime: 7 * 24 * time.Hour, RetireGrace: 90 * time.Second}}
		mustUp(t, db, week)
		mustUp(t, db, Config{})
		mustUp(t, db, Config{Table: "week", Settings: Settings{LongestLifetime: time.Hour}})
		for _, c := range []struct {
			table string
			want  Settings
		}{{"week", week.Settings}, {"", Settings{LongestLifetime: 30 * 24 * time.Hour, RetireGrace: DefaultRetireGrace}}} {
			if got, err := LoadSettings(ctx, db, Config{Table: c.table}); err != nil || got != c.want {
				t.Errorf("%q: %+v, %v; want %v", c.table, got, err, c.want)
			}
		}
		if got, err := SetSettings(ctx, db, week, Settings{}); err != nil || got != week.Settings {
			t.Errorf("nothing set: %+v, %v", got, err)
		}
		for _, c := range []struct{ set, want Settings }{
			{Settings{LongestLifetime: MaxLifetime}, Settings{LongestLifetime: MaxLifetime, RetireGrace: 90 * time.Second}},
			{Settings{RetireGrace: time.Hour}, Settings{LongestLifetime: MaxLifetime, RetireGrace: time.Hour}},
			{Settings{LongestLifetime: time.Hour, RetireGrace: MaxLifetime}, Settings{LongestLifetime: time.Hour, RetireGrace: MaxLifetime}},
		} {
			if got, err := SetSettings(ctx, db, week, c.set); err != nil || got != c.want {
				t.Errorf("set %+v: %+v, %v; want %+v", c.set, got, err, c.want)
			}
		}
		if _, err := SetSettings(ctx, db, week, Settings{LongestLifetime: time.Minute}); !errors.Is(err, ErrInvalid) {
			t.Errorf("out of range: %v; want ErrInvalid", err)
		}
	})
}
