package migrations

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

func TestTablesOfAnotherShape(t *testing.T) {
	t.Parallel()
	const columns = `key bytea, bucket integer, version bigint, expires_at timestamptz, deadline timestamptz, created_at timestamptz,
		ended_at timestamptz, renewed_to bytea, renewed_bucket integer, grace_until timestamptz, chain_until integer, user_id text, data `
	for name, c := range map[string]struct{ sql, want string }{
		"connect-pg-simple":  {`CREATE TABLE s.sessions (sid varchar PRIMARY KEY, sess json, expire timestamp(6))`, "not a partitioned table"},
		"plain table":        {`CREATE TABLE s.sessions (` + columns + `bytea)`, "not a partitioned table"},
		"view":               {`CREATE VIEW s.sessions AS SELECT 1`, "not a partitioned table"},
		"missing column":     {`CREATE TABLE s.sessions (bucket integer) PARTITION BY RANGE (bucket)`, "no column key; there is no column version"},
		"type":               {`CREATE TABLE s.sessions (` + columns + `jsonb) PARTITION BY RANGE (bucket)`, "column data is jsonb, not bytea"},
		"partition key":      {`CREATE TABLE s.sessions (` + columns + `bytea) PARTITION BY HASH (key)`, "HASH (key), not by RANGE (bucket)"},
		"primary key":        {`CREATE TABLE s.sessions (` + columns + `bytea, PRIMARY KEY (bucket)) PARTITION BY RANGE (bucket)`, "primary key is not (key, bucket)"},
		"alone":              {`CREATE TABLE s.sessions (` + columns + `bytea, PRIMARY KEY (key, bucket)) PARTITION BY RANGE (bucket)`, `meta table "s"."sessions_meta" does not`},
		"meta":               {`CREATE TABLE s.sessions_meta (a int)`, "schema_version"},
		"empty meta":         {`CREATE TABLE s.sessions_meta (schema_version int, min_compatible int)`, "but the table does not"},
		"function":           {`CREATE FUNCTION s.sessions_make_partition(integer) RETURNS text LANGUAGE sql AS 'SELECT ''theirs'''`, "function"},
		"index name":         {`CREATE TABLE s.t (a int); CREATE INDEX sessions_user_idx ON s.t (a)`, "sessions_user_idx"},
		"type of that name":  {`CREATE DOMAIN s.sessions AS int`, "sessions"},
		"procedure":          {`CREATE PROCEDURE s.sessions_make_partition(integer) LANGUAGE sql AS 'SELECT 1'`, "sessions_make_partition"},
		"sequence and index": {`CREATE SEQUENCE s.sessions`, "not a partitioned table"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t).Database(t)
			conn := dbtest.Conn(t, dsn)
			mustExec(t, conn, "CREATE SCHEMA s")
			mustExec(t, conn, c.sql)
			const tables = `SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
				WHERE relnamespace = 's'::regnamespace AND relname <> 'sessions_version'`
			before := queryOne[*string](t, conn, tables)

			err := Up(t.Context(), parse(t, dsn), Config{Schema: "s"})
			if !errors.Is(err, ErrForeignTable) {
				t.Fatalf("Up: got %v, want ErrForeignTable", err)
			}
			for _, want := range []string{c.want, `schema "s"`, `table "sessions"`} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Up: %q does not say %q", err, want)
				}
			}
			if after := queryOne[*string](t, conn, tables); (before == nil) != (after == nil) || before != nil && *after != *before {
				t.Errorf("there is %v now, there was %v", after, before)
			}
			if err := Validate(t.Context(), conn, Config{Schema: "s"}); !errors.Is(err, ErrForeignTable) && !errors.Is(err, ErrNotMigrated) {
				t.Errorf("Validate: got %v, want ErrForeignTable or ErrNotMigrated", err)
			}
		})
	}
}

func TestValidateSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	conn := dbtest.Conn(t, dsn)
	mustExec(t, conn, "CREATE SCHEMA sojourn")
	if err := Validate(t.Context(), conn, Config{}); !errors.Is(err, ErrNotMigrated) {
		t.Errorf("empty schema: got %v, want ErrNotMigrated", err)
	}
	if _, err := LoadSettings(t.Context(), conn, Config{}); !errors.Is(err, ErrNotMigrated) || code(err) != "42P01" {
		t.Errorf("settings: got %v, want ErrNotMigrated and the server's error", err)
	}
	mustUp(t, dsn, Config{})
	n := mustNames(t, Config{})
	mustExec(t, conn, "ALTER TABLE "+n.Sessions+" ADD COLUMN later int")
	if err := Validate(t.Context(), conn, Config{}); err != nil {
		t.Errorf("one more column: %v", err)
	}
	mustExec(t, conn, "DROP FUNCTION "+n.MakePartition)
	if err := Validate(t.Context(), conn, Config{}); err != nil {
		t.Errorf("without the function: %v", err)
	}
	mustExec(t, conn, "DELETE FROM "+n.Meta)
	if err := Validate(t.Context(), conn, Config{}); !errors.Is(err, ErrNotMigrated) || !strings.Contains(err.Error(), "empty") {
		t.Errorf("no meta row: got %v", err)
	}
	if _, err := LoadSettings(t.Context(), conn, Config{}); !errors.Is(err, ErrNotMigrated) {
		t.Errorf("no meta row: got %v, want ErrNotMigrated", err)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, conn, "DROP TABLE "+n.Sessions)
	if err := Validate(t.Context(), tx, Config{}); !errors.Is(err, ErrForeignTable) {
		t.Errorf("the table is gone, the meta table is not: got %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRenamedSchema(t *testing.T) {
	t.Parallel()
	n, dsn, conn := prepared(t, Config{})
	mustExec(t, conn, "ALTER SCHEMA sojourn RENAME TO moved")
	if err := Validate(t.Context(), conn, Config{}); !errors.Is(err, ErrSchemaMissing) {
		t.Errorf("old name: got %v, want ErrSchemaMissing", err)
	}
	cfg := Config{Schema: "moved"}
	if err := Validate(t.Context(), conn, cfg); !errors.Is(err, ErrOutdated) || !strings.Contains(err.Error(), "renamed") {
		t.Errorf("new name: got %v, want ErrOutdated", err)
	}
	mustUp(t, dsn, cfg)
	if err := Validate(t.Context(), conn, cfg); err != nil {
		t.Error(err)
	}
	mustUp(t, dsn, Config{}) // another one under the old name
	moved := mustNames(t, cfg)
	bucket := hourNow(t, conn) + 720 + 160
	name := makePartition(t, conn, moved, bucket)
	if !queryOne[bool](t, conn, "SELECT to_regclass($1) IS NOT NULL", moved.Qualify(name)) {
		t.Errorf("partition %s was not made in the renamed schema", name)
	}
	if queryOne[bool](t, conn, "SELECT to_regclass($1) IS NOT NULL", n.Qualify(name)) {
		t.Errorf("partition %s was made in the other schema", name)
	}
}

func TestSettingsAreChangedOnlyOnPurpose(t *testing.T) {
	t.Parallel()
	first := Settings{LongestLifetime: 100 * time.Hour, PartitionWidth: 9 * time.Hour, Lease: 1500 * time.Millisecond}
	_, dsn, conn := prepared(t, Config{Settings: first})
	mustUp(t, dsn, Config{Settings: Settings{LongestLifetime: 200 * time.Hour}})
	if got, err := LoadSettings(t.Context(), conn, Config{}); err != nil || got != first {
		t.Errorf("after the second Up: %+v, %v; want %+v", got, err, first)
	}

	want := Settings{LongestLifetime: 100 * time.Hour, PartitionWidth: 9 * time.Hour, Lease: 5 * time.Second}
	for _, c := range []struct {
		set   Settings
		apply func()
	}{
		{Settings{Lease: 5 * time.Second}, func() { want.Lease = 5 * time.Second }},
		{Settings{PartitionWidth: 20 * time.Hour}, func() { want.PartitionWidth = 20 * time.Hour }},
		{Settings{LongestLifetime: 300 * time.Hour}, func() { want.LongestLifetime = 300 * time.Hour }},
		{Settings{}, func() {}},
	} {
		c.apply()
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
			config := parse(t, dsn)
			config.DefaultQueryExecMode = mode
			db, err := pgx.ConnectConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			got, err := SetSettings(t.Context(), db, Config{}, c.set)
			if err != nil || got != want {
				t.Errorf("%v: got %+v, %v; want %+v", mode, got, err, want)
			}
			if got, err := LoadSettings(t.Context(), db, Config{}); err != nil || got != want {
				t.Errorf("%v: loaded %+v, %v; want %+v", mode, got, err, want)
			}
			if err := Validate(t.Context(), db, Config{}); err != nil {
				t.Errorf("%v: %v", mode, err)
			}
			if err := db.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	for _, bad := range []Settings{{Lease: -1}, {LongestLifetime: time.Minute}, {PartitionWidth: MaxLifetime + time.Hour}, {PartitionWidth: time.Hour}} {
		if _, err := SetSettings(t.Context(), conn, Config{}, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: got %v, want ErrInvalid", bad, err)
		}
	}
	if got, err := LoadSettings(t.Context(), conn, Config{}); err != nil || got != want {
		t.Errorf("after refused changes: %+v, %v; want %+v", got, err, want)
	}
}

// A dump of what looks like the tables lacks the function, one of the
// definitions lacks the rows, and an older one tern's table.
func TestUpMendsARestore(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]string{
		"version table": "DROP TABLE {version}",
		"function":      "DROP FUNCTION {make_partition}",
		"both":          "DROP TABLE {version}; DROP FUNCTION {make_partition}",
		"rows":          "DELETE FROM {version}; DELETE FROM {meta}",
		"meta row":      "DELETE FROM {meta}",
	} {
		for _, roles := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s roles %v", name, roles), func(t *testing.T) {
				t.Parallel()
				cfg := Config{Settings: Settings{LongestLifetime: 48 * time.Hour, PartitionWidth: 24 * time.Hour}}
				if roles {
					r := roleNames(t, dbtest.Postgres(t), "owner", "maintainer", "app")
					cfg.Roles = Roles{Owner: r[0], Maintainer: r[1], App: r[2]}
				}
				n, dsn, conn := prepared(t, cfg)
				insertLive(t, conn, n.Sessions, 1, time.Hour)
				mustExec(t, conn, strings.NewReplacer("{version}", n.Version, "{meta}", n.Meta, "{make_partition}", n.MakePartition).Replace(lost))
				for range 2 {
					mustUp(t, dsn, cfg)
				}
				if err := Validate(t.Context(), conn, cfg); err != nil {
					t.Error(err)
				}
				makePartition(t, conn, n, hourNow(t, conn)+1)
				if got, err := LoadSettings(t.Context(), conn, cfg); err != nil || got.LongestLifetime != 48*time.Hour {
					t.Errorf("LoadSettings: %+v, %v", got, err)
				}
				if name != "rows" {
					if got := queryOne[int32](t, conn, "SELECT version FROM "+n.Version); got != Version {
						t.Errorf("the version table says %d, want %d", got, Version)
					}
				}
				if got := queryOne[int](t, conn, "SELECT count(*)::int FROM "+n.Sessions+" WHERE version > 0"); got != 1 {
					t.Errorf("%d sessions are left, want 1", got)
				}
				if err := up(t.Context(), parse(t, dsn), cfg, withSecond(t, secondCompatible)); err != nil {
					t.Errorf("the next version: %v", err)
				}
			})
		}
	}
}

// What is not ours is not mended.
func TestAnEmptyMetaTableOfAnotherShape(t *testing.T) {
	t.Parallel()
	n, dsn, conn := prepared(t, Config{})
	mustExec(t, conn, "DELETE FROM "+n.Meta+"; ALTER TABLE "+n.Meta+" DROP COLUMN width_hours")
	if err := Up(t.Context(), parse(t, dsn), Config{}); !errors.Is(err, ErrForeignTable) {
		t.Errorf("Up: %v, want ErrForeignTable", err)
	}
}
