package nodestore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// table is what the store has to know about the real table.
type table struct {
	maxID   int64 // characters, the prefix included; 0: no limit
	maxData int64 // bytes; 0: no limit
	latest  time.Time

	dataCast string // behind a document's parameter
	dataJSON bool   // the column prints documents anew and cannot return them
	zoneless bool
}

// role is what a column is for.
type role int

const (
	roleID role = iota
	roleData
	roleDate
	roleInteger
)

// column is a row of a dialect's catalog query.
type column struct {
	name, kind string // the type's name without lengths
	characters int64
	bytes      int64
	required   bool // NOT NULL, without a default
	unique     bool // by itself
}

// inspect compares the table with its layout.
func inspect(ctx context.Context, db *sql.DB, l Layout, extra []string) (table, error) {
	columns, err := describe(ctx, db, l)
	if err != nil {
		return table{}, fmt.Errorf("describe the table: %w", err)
	}
	if len(columns) == 0 {
		return table{}, unsuitable("the table %s does not exist, or may not be seen; see Options.CreateTable", qualified(l))
	}
	find := func(name string) *column {
		i := slices.IndexFunc(columns, func(c column) bool {
			return c.name == name || l.Dialect != Postgres && strings.EqualFold(c.name, name)
		})
		if i < 0 {
			return nil
		}
		return &columns[i]
	}
	known := map[*column]bool{}
	check := func(name string, r role) (*column, error) {
		c := find(name)
		if c == nil {
			return nil, unsuitable("the table %s has no column %q", qualified(l), name)
		}
		known[c] = true
		return c, c.fits(l.Dialect, r)
	}
	id, err := check(l.Columns.ID, roleID)
	if err != nil {
		return table{}, err
	}
	if !id.unique {
		return table{}, unsuitable("the column %q has no unique index of its own, so that one session could have two rows", id.name)
	}
	data, err := check(l.Columns.Data, roleData)
	if err != nil {
		return table{}, err
	}
	expiryRole := roleInteger
	if l.Expires.isDate() {
		expiryRole = roleDate
	}
	expires, err := check(l.Columns.Expires, expiryRole)
	if err != nil {
		return table{}, err
	}
	for _, name := range []string{l.Columns.CreatedAt, l.Columns.UpdatedAt} {
		if name == "" {
			continue
		}
		if _, err := check(name, roleDate); err != nil {
			return table{}, err
		}
	}
	for _, name := range extra {
		c := find(name)
		if c == nil {
			return table{}, unsuitable("the table %s has no column %q, which Options.Extra fills", qualified(l), name)
		}
		known[c] = true
	}
	for i := range columns {
		if c := &columns[i]; c.required && !known[c] {
			return table{}, unsuitable("the column %q is NOT NULL without a default, and nothing fills it", c.name)
		}
	}
	if n := int64(utf8.RuneCountInString(l.IDPrefix)); id.characters > 0 && n >= id.characters {
		return table{}, unsuitable("Layout.IDPrefix has %d characters, and the column %q takes %d, the session's ID included", n, id.name, id.characters)
	}
	return tableOf(l, id, data, expires), nil
}

func tableOf(l Layout, id, data, expires *column) table {
	t := table{
		maxID:    id.characters,
		maxData:  data.bytes,
		latest:   lastDate,
		zoneless: expires.kind == "timestamp",
	}
	if l.Expires.isDate() && l.Dialect != Postgres {
		t.latest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	switch expires.kind {
	case "int4", "int":
		if l.Dialect != SQLite {
			t.latest = l.Expires.time(1<<31 - 1)
		}
	case "int unsigned":
		t.latest = l.Expires.time(1<<32 - 1)
	}
	switch {
	case l.JSONB:
		t.dataCast = "::jsonb"
	case l.Dialect == Postgres && (data.kind == "json" || data.kind == "jsonb"):
		t.dataCast = "::" + data.kind
	case l.Dialect == MySQL:
		t.dataJSON = data.kind == "json"
	}
	return t
}

var lengths = regexp.MustCompile(`\s*\([^)]*\)`)

func describe(ctx context.Context, db *sql.DB, l Layout) ([]column, error) {
	d := l.Dialect.dialect()
	if l.Dialect == MySQL && l.Schema == "" {
		var current sql.NullString
		if err := db.QueryRowContext(ctx, `SELECT DATABASE()`).Scan(&current); err != nil {
			return nil, err
		}
		l.Schema = current.String
	}
	q := (&compiler{numbered: d.numbered}).compile(d.catalog)
	rows, err := db.QueryContext(ctx, q.text, q.bind(values{
		"quoted": qualified(l), "schema": l.Schema, "name": l.Table,
	})...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err tells
	var columns []column
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.name, &c.kind, &c.characters, &c.bytes, &c.required, &c.unique); err != nil {
			return nil, err
		}
		c.kind = lengths.ReplaceAllString(strings.ToLower(c.kind), "")
		columns = append(columns, c)
	}
	return columns, rows.Err()
}

func (c *column) fits(d Dialect, r role) error {
	kinds := d.dialect().kinds[r]
	if slices.Contains(kinds, c.kind) {
		return nil
	}
	kinds = slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k == "" })
	return unsuitable("the column %q has the type %s; it must be %s", c.name, cmp.Or(c.kind, "none"), strings.Join(kinds, " or "))
}
