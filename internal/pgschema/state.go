package pgschema

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Version is the newest version of the tables that package migrations makes, and
// the oldest that the program it is part of can use.
//
// A migration adds what programs of the version before can do without, and
// writes its number into schema_version of the meta row. One that takes
// something away from them also raises min_compatible.
const Version = 1

// State is what a database holds under our names.
type State struct {
	Schema       bool   // there is such a schema
	VersionTable bool   // tern's is there
	Version      int32  // 0: no meta row
	Function     string // the text of make_partition; empty if there is none

	sessions, meta     bool // there is something of that name
	kind, key, primary string
	columns            []string // of the sessions: name and type
	metaColumns        []string // likewise of the meta table
	minCompatible      int32    // 0: no meta row
}

// Inspect reads the catalogs and the meta table. It needs no right but to read
// that. What is read of the catalogs is one snapshot, so that a migration that
// ends meanwhile is seen as a whole or not at all.
func Inspect(ctx context.Context, db Querier, n Names) (State, error) {
	var st State
	err := db.QueryRow(ctx, `
		SELECT n.oid IS NOT NULL, s.oid IS NOT NULL, m.oid IS NOT NULL,
			coalesce(s.relkind::text, ''),
			coalesce(pg_catalog.pg_get_partkeydef(s.oid), ''),
			coalesce((SELECT pg_catalog.pg_get_constraintdef(c.oid) FROM pg_catalog.pg_constraint AS c
				WHERE c.conrelid = s.oid AND c.contype = 'p'), ''),
			ARRAY(SELECT a.attname::text || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod)
				FROM pg_catalog.pg_attribute AS a
				WHERE a.attrelid = s.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
			ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
				WHERE a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped),
			EXISTS (SELECT FROM pg_catalog.pg_class AS v WHERE v.relnamespace = n.oid AND v.relname = $5::text),
			coalesce((SELECT p.prosrc FROM pg_catalog.pg_proc AS p
				WHERE p.pronamespace = n.oid AND p.proname = $4::text
					AND p.pronargs = 1 AND p.proargtypes[0] = 'pg_catalog.int4'::pg_catalog.regtype), '')
		FROM (SELECT 1) AS one
		LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = $1::text
		LEFT JOIN pg_catalog.pg_class AS s ON s.relnamespace = n.oid AND s.relname = $2::text
		LEFT JOIN pg_catalog.pg_class AS m ON m.relnamespace = n.oid AND m.relname = $3::text`,
		n.Schema, n.Table, n.metaTable, n.makePartition, n.versionTable,
	).Scan(&st.Schema, &st.sessions, &st.meta, &st.kind, &st.key, &st.primary, &st.columns,
		&st.metaColumns, &st.VersionTable, &st.Function)
	if err != nil {
		return State{}, Explain(n, "read the catalog", err)
	}
	if !st.meta {
		return st, nil
	}
	err = db.QueryRow(ctx, `SELECT schema_version, min_compatible FROM `+n.Meta).Scan(&st.Version, &st.minCompatible)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return State{}, Explain(n, "read the meta table", err)
	}
	return st, nil
}

// sessionColumns are the columns of the sessions table. A newer version may
// have more.
var sessionColumns = []string{
	"key bytea", "bucket integer", "version bigint",
	"expires_at timestamp with time zone", "deadline timestamp with time zone", "created_at timestamp with time zone",
	"ended_at timestamp with time zone",
	"renewed_to bytea", "renewed_bucket integer", "grace_until timestamp with time zone", "chain_until integer",
	"user_id text", "data bytea",
}

// strange says in what the sessions table is not ours, or nothing.
func (st State) strange(n Names) string {
	if !st.sessions {
		return ""
	}
	if st.kind != "p" {
		return "it is not a partitioned table"
	}
	var diffs []string
	for _, column := range sessionColumns {
		if slices.Contains(st.columns, column) {
			continue
		}
		name, typ, _ := strings.Cut(column, " ")
		diff := "there is no column " + name
		for _, c := range st.columns {
			if other, ok := strings.CutPrefix(c, name+" "); ok {
				diff = fmt.Sprintf("column %s is %s, not %s", name, other, typ)
			}
		}
		diffs = append(diffs, diff)
	}
	if st.key != "RANGE (bucket)" {
		diffs = append(diffs, "it is partitioned by "+st.key+", not by RANGE (bucket)")
	}
	if st.primary != "PRIMARY KEY (key, bucket)" {
		diffs = append(diffs, "its primary key is not (key, bucket)")
	}
	return strings.Join(diffs, "; ")
}

// foreign returns an error if something else has one of our names.
func (st State) foreign(n Names) error {
	if diff := st.strange(n); diff != "" {
		return Errorf(n, ErrForeignTable, "the table is not one of sessions: %s", diff)
	}
	if st.sessions && st.Version == 0 && !st.Rowless() {
		return Errorf(n, ErrForeignTable, "the table exists, but its meta table %s does not, or is of another shape and empty", n.Meta)
	}
	if st.meta && !st.sessions {
		return Errorf(n, ErrForeignTable, "the meta table %s exists, but the table does not", n.Meta)
	}
	if st.Function != "" && !st.sessions {
		return Errorf(n, ErrForeignTable, "the function %s exists, but the table does not", n.MakePartition)
	}
	return nil
}

// metaColumns are those that the row of the meta table is made with.
var metaColumns = []string{"id", "schema_version", "min_compatible", "longest_hours", "width_hours", "lease_ms", "retire_grace_s"}

// Rowless says that the meta table is ours but has no row, as after a restore
// of the definitions alone.
func (st State) Rowless() bool {
	return st.sessions && st.meta && st.Version == 0 &&
		!slices.ContainsFunc(metaColumns, func(c string) bool { return !slices.Contains(st.metaColumns, c) })
}

// Whole says that nothing is missing of what only Up needs, or can make: a dump
// of the tables alone has no function.
func (st State) Whole() bool { return st.VersionTable && st.Function != "" }

// Renamed says that make_partition was made for a schema of another name. Another
// version's is left to those who know it.
func (st State) Renamed(n Names, version int32) bool {
	return st.Version == version && st.Function != "" && !strings.Contains(st.Function, Marker(n))
}

// Validate returns nil if the database is one that this program can use: see
// migrations.Validate.
func Validate(ctx context.Context, db Querier, n Names) error {
	st, err := Inspect(ctx, db, n)
	if err != nil {
		return err
	}
	return st.Usable(n, Version)
}

// Usable returns nil if a program that knows version can use the database.
func (st State) Usable(n Names, version int32) error {
	switch {
	case !st.Schema:
		return Errorf(n, ErrSchemaMissing, "run migrations.Up or correct the name")
	case st.minCompatible > version:
		return Errorf(n, ErrIncompatible, "it has version %d and needs programs that know version %d; this one knows %d",
			st.Version, st.minCompatible, version)
	}
	if err := st.foreign(n); err != nil {
		return err
	}
	switch {
	case !st.sessions:
		return Errorf(n, ErrNotMigrated, "run migrations.Up")
	case st.Rowless():
		return Errorf(n, ErrNotMigrated, "the meta table %s is empty, as after a restore without its row: run migrations.Up", n.Meta)
	case st.Version < version:
		return Errorf(n, ErrOutdated, "it has version %d, this program needs %d: run migrations.Up", st.Version, version)
	case st.Renamed(n, version):
		return Errorf(n, ErrOutdated, "the schema was renamed and the function %s still means the old name: run migrations.Up", n.MakePartition)
	}
	return nil
}

// Errorf wraps a sentinel of this package with the names and the reason.
func Errorf(n Names, sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: schema %q, table %q: %w", sentinel, n.Schema, n.Table, fmt.Errorf(format, args...))
}

// Explain adds what was being done to an error of the database, and the sentinel
// that says what it means here.
func Explain(n Names, doing string, err error) error {
	if errors.Is(err, pgx.ErrNoRows) { // the meta table is the only one that is read by row
		return Errorf(n, ErrNotMigrated, "%s: %w", doing, err)
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "42501": // insufficient_privilege
			return Errorf(n, ErrPermission, "%s: %w", doing, err)
		case "42P01": // undefined_table
			return Errorf(n, ErrNotMigrated, "%s: %w", doing, err)
		case "42703", "42P07", "42710", "42P13", "42809":
			// undefined_column, duplicate_table, duplicate_object,
			// invalid_function_definition, wrong_object_type
			return Errorf(n, ErrForeignTable, "%s: %w", doing, err)
		}
	}
	return fmt.Errorf("migrations: %s: schema %q, table %q: %w", doing, n.Schema, n.Table, err)
}

// Marker is in the text of make_partition, which holds the names: after a schema
// was renamed it tells that the function still means the old one.
func Marker(n Names) string {
	sum := sha256.Sum256([]byte(n.Sessions))
	return "sojourn names " + hex.EncodeToString(sum[:8])
}
