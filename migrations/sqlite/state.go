package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/sojourn-go/sojourn/internal/sqlitecode"
	"github.com/sojourn-go/sojourn/internal/sqlmigrate"
)

// Querier is a *sql.DB, *sql.Conn or *sql.Tx.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// state is what a database holds under our names.
type state struct {
	sessions, meta         string   // "table", "view" …; empty: not there
	columns                []string // of the sessions table, such as "key BLOB"
	unique                 bool     // on the key alone
	version, minCompatible int
}

// sessionColumns are the columns of the sessions table. A newer version may
// have more.
var sessionColumns = []string{
	"id INTEGER", "key BLOB", "bucket INTEGER", "kept_to INTEGER", "version INTEGER",
	"expires_at INTEGER", "deadline INTEGER", "created_at INTEGER", "ended_at INTEGER",
	"renewed_to BLOB", "grace_until INTEGER", "user_id TEXT", "data BLOB",
}

func (n names) inspect(ctx context.Context, db Querier) (st state, err error) {
	rows, err := db.QueryContext(ctx, `
SELECT type, name FROM main.sqlite_schema WHERE name = ?1 COLLATE NOCASE OR name = ?2 COLLATE NOCASE`, n.table, n.metaTable)
	if err != nil {
		return st, n.explain("read the schema", err)
	}
	err = each(rows, func(row *sql.Rows) error {
		var kind, name string
		if err := row.Scan(&kind, &name); err != nil {
			return err
		}
		if strings.EqualFold(name, n.table) {
			st.sessions = kind
		} else {
			st.meta = kind
		}
		return nil
	})
	if err != nil {
		return st, n.explain("read the schema", err)
	}
	if st.sessions == "table" {
		if err := n.inspectSessions(ctx, db, &st); err != nil {
			return st, n.explain("read the columns", err)
		}
	}
	if st.meta == "table" {
		err := db.QueryRowContext(ctx, `SELECT schema_version, min_compatible FROM `+n.meta).Scan(&st.version, &st.minCompatible)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case sqlitecode.Of(err) == 1: // SQLITE_ERROR: it has no such columns
			return st, n.errorf(ErrForeignTable, "%s is not the meta table: %w", n.meta, err)
		case err != nil:
			return st, n.explain("read the meta table", err)
		}
	}
	return st, nil
}

func (n names) inspectSessions(ctx context.Context, db Querier, st *state) error {
	rows, err := db.QueryContext(ctx, `SELECT name || ' ' || type FROM pragma_table_info(?1, 'main')`, n.table)
	if err != nil {
		return err
	}
	err = each(rows, func(row *sql.Rows) error {
		var column string
		if err := row.Scan(&column); err != nil {
			return err
		}
		st.columns = append(st.columns, column)
		return nil
	})
	if err != nil {
		return err
	}
	return db.QueryRowContext(ctx, `
SELECT EXISTS (
  SELECT 1 FROM pragma_index_list(?1, 'main') AS i
  WHERE i."unique" AND NOT i.partial
    AND (SELECT group_concat(c.name) FROM pragma_index_info(i.name, 'main') AS c) = 'key')`, n.table).Scan(&st.unique)
}

func each(rows *sql.Rows, do func(*sql.Rows) error) error {
	defer func() { _ = rows.Close() }() // an error in reading is in rows.Err
	for rows.Next() {
		if err := do(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// foreign returns an error if something else has one of our names.
func (st state) foreign(n names) error {
	for _, c := range []struct{ name, kind string }{{n.sessions, st.sessions}, {n.meta, st.meta}} {
		if c.kind != "" && c.kind != "table" {
			return n.errorf(ErrForeignTable, "%s is a %s", c.name, c.kind)
		}
	}
	if st.sessions == "table" {
		if diff := st.strange(); diff != "" {
			return n.errorf(ErrForeignTable, "the table is not one of sessions: %s", diff)
		}
	}
	switch {
	case st.sessions != "" && st.version == 0:
		return n.errorf(ErrForeignTable, "the table exists, but its meta table %s does not or is empty", n.meta)
	case st.sessions == "" && st.meta != "":
		return n.errorf(ErrForeignTable, "the meta table %s exists, but the table does not", n.meta)
	}
	return nil
}

// strange says in what the table is not ours, or nothing.
func (st state) strange() string {
	diffs := sqlmigrate.MissingColumns(sessionColumns, st.columns)
	if !st.unique {
		diffs = append(diffs, "the column key is not unique")
	}
	return strings.Join(diffs, "; ")
}

// usable returns nil if a program that knows version can use the database.
func (st state) usable(n names, version int) error {
	if st.minCompatible > version {
		return n.errorf(ErrIncompatible, "it has version %d and needs programs that know version %d; this one knows %d",
			st.version, st.minCompatible, version)
	}
	if err := st.foreign(n); err != nil {
		return err
	}
	switch {
	case st.sessions == "":
		return n.errorf(ErrNotMigrated, "call Up of migrations/sqlite")
	case st.version < version:
		return n.errorf(ErrOutdated, "it has version %d, this program needs %d: call Up of migrations/sqlite", st.version, version)
	}
	return nil
}

// Validate returns nil if the database is one that this program can use. It
// changes nothing. It is ErrNotMigrated, ErrOutdated, ErrIncompatible,
// ErrForeignTable or ErrNotDatabase when it is not, and else the error of the
// driver.
func Validate(ctx context.Context, db Querier, cfg Config) error {
	n, err := cfg.withDefaults().names()
	if err != nil {
		return err
	}
	st, err := n.inspect(ctx, db)
	if err != nil {
		return err
	}
	return st.usable(n, Version)
}
