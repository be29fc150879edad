package mysql

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sojourn-go/sojourn/internal/sqlmigrate"
)

// state is what a database holds under our names.
type state struct {
	sessions, meta, users  string   // "table" or "view"; empty: not there
	engine                 string   // of the sessions table
	columns                []string // of the sessions table, such as "hash binary(32)"
	unique                 bool     // on the hash alone
	begun                  bool     // the meta table has its row
	locks                  int      // rows of the users table
	version, minCompatible int
}

// sessionColumns are the columns of the sessions table. A newer version may
// have more.
var sessionColumns = []string{
	"id bigint", "hash binary(32)", "bucket int", "kept_to int", "version bigint",
	"expires_at bigint", "deadline bigint", "created_at bigint", "ended_at bigint",
	"renewed_to binary(32)", "grace_until bigint", "user_id varbinary(2000)", "data longblob",
}

// inspect asks again if it finds something strange: tables that somebody made
// between two of its queries look so.
func (n names) inspect(ctx context.Context, db Querier) (st state, err error) {
	if err := n.checkServer(ctx, db); err != nil {
		return st, err
	}
	st, err = n.look(ctx, db)
	for err == nil && st.foreign(n) != nil {
		before := st
		st, err = n.look(ctx, db)
		if reflect.DeepEqual(st, before) {
			break
		}
	}
	return st, err
}

// look sets limits, as a connection may have sql_select_limit.
func (n names) look(ctx context.Context, db Querier) (st state, err error) {
	rows, err := db.QueryContext(ctx, `
SELECT table_name, table_type, coalesce(engine, ''), @@lower_case_table_names
FROM information_schema.tables WHERE table_schema = database() AND table_name IN (?, ?, ?) LIMIT 10`, n.table, n.metaTable, n.usersTable)
	if err != nil {
		return st, n.explain("read the schema", err)
	}
	err = each(rows, func(row *sql.Rows) error {
		var name, kind, engine string
		var folded int
		if err := row.Scan(&name, &kind, &engine, &folded); err != nil {
			return err
		}
		is := func(want string) bool { return name == want || folded != 0 && strings.EqualFold(name, want) }
		if kind == "BASE TABLE" {
			kind = "table"
		}
		switch kind = strings.ToLower(kind); {
		case is(n.table):
			st.sessions, st.engine = kind, engine
		case is(n.metaTable):
			st.meta = kind
		case is(n.usersTable):
			st.users = kind
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
		case number(err) == errUnknownColumn:
			return st, n.errorf(ErrForeignTable, "%s is not the meta table: %w", n.meta, err)
		case err != nil:
			return st, n.explain("read the meta table", err)
		default:
			st.begun = true
		}
	}
	if st.users == "table" {
		err := db.QueryRowContext(ctx, `SELECT count(*) FROM `+n.users+` WHERE stripe BETWEEN 0 AND ?`, userLocks-1).Scan(&st.locks)
		switch {
		case number(err) == errUnknownColumn:
			return st, n.errorf(ErrForeignTable, "%s is not the table of the users' locks: %w", n.users, err)
		case err != nil:
			return st, n.explain("count the users' locks", err)
		}
	}
	return st, nil
}

// userLocks is how many rows the users table has, counted from 0.
const userLocks = 256

// checkServer is ErrUnsupported for a server without CHECK constraints or with
// other tables in one CREATE than it says.
func (n names) checkServer(ctx context.Context, db Querier) error {
	var version string
	var database sql.NullString
	if err := db.QueryRowContext(ctx, `SELECT version(), database()`).Scan(&version, &database); err != nil {
		return n.explain("ask the server", err)
	}
	if !supported(version) {
		return n.errorf(ErrUnsupported, "the server has version %s; MariaDB 10.6 or MySQL 8.0.16 is needed", version)
	}
	if !database.Valid {
		return n.errorf(ErrInvalid, "the connection has no database selected: name one in its DSN")
	}
	return nil
}

func supported(version string) bool {
	needed := []int{8, 0, 16}
	if strings.Contains(version, "MariaDB") {
		needed = []int{10, 6, 0}
	}
	var have []int
	number, _, _ := strings.Cut(version, "-")
	for part := range strings.SplitSeq(number, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return true // not one of theirs: let it show
		}
		have = append(have, n)
	}
	return slices.Compare(have, needed) >= 0
}

func (n names) inspectSessions(ctx context.Context, db Querier, st *state) error {
	rows, err := db.QueryContext(ctx, `
SELECT concat(column_name, ' ', data_type, if(data_type IN ('binary', 'varbinary'), concat('(', character_maximum_length, ')'), ''))
FROM information_schema.columns WHERE table_schema = database() AND table_name = ? LIMIT 10000`, n.table)
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
  SELECT 1 FROM information_schema.statistics
  WHERE table_schema = database() AND table_name = ? AND non_unique = 0
  GROUP BY index_name HAVING group_concat(column_name) = 'hash' AND max(sub_part) IS NULL)`, n.table).Scan(&st.unique)
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
	for _, c := range []struct{ name, kind string }{{n.sessions, st.sessions}, {n.meta, st.meta}, {n.users, st.users}} {
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
	// Up makes the meta table and its row first.
	case st.sessions != "" && !st.begun:
		return n.errorf(ErrForeignTable, "the table exists, but its meta table %s does not or is empty", n.meta)
	case st.sessions == "" && st.version > 0:
		return n.errorf(ErrForeignTable, "the meta table %s exists, but the table does not", n.meta)
	}
	return nil
}

// strange says in what the table is not ours, or nothing.
func (st state) strange() string {
	diffs := sqlmigrate.MissingColumns(sessionColumns, st.columns)
	if !st.unique {
		diffs = append(diffs, "the column hash is not unique")
	}
	if !strings.EqualFold(st.engine, "InnoDB") {
		diffs = append(diffs, "its engine is "+st.engine+", not InnoDB")
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
	case st.version == 0:
		return n.errorf(ErrNotMigrated, "call Up of migrations/mysql")
	case st.version < version:
		return n.errorf(ErrOutdated, "it has version %d, this program needs %d: call Up of migrations/mysql", st.version, version)
	case st.locksMissing() > 0:
		return n.errorf(ErrNotMigrated, "%d of the %d rows of %s are missing, which are locks of the users: call Up of migrations/mysql",
			st.locksMissing(), userLocks, n.users)
	}
	return nil
}

// locksMissing counts the locks that the database has lost: a restore may have left
// their table out. Up makes them again.
func (st state) locksMissing() int {
	if st.version == 0 {
		return 0
	}
	return userLocks - st.locks
}

// Validate returns nil if the database is one that this program can use. It
// changes nothing. It is ErrNotMigrated, ErrOutdated, ErrIncompatible,
// ErrForeignTable, ErrPermission or ErrUnsupported when it is not, and else the
// error of the driver.
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
