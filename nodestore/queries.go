package nodestore

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// queries are the statements of a store. Each dialect's file has what differs.
type queries struct {
	get, holder              *query
	insert, set, save, touch *query
	destroy, end             *query
	count                    *query
	removeExpired, remove    *query

	page, pageIDs, pageAll, pageExpired pageQuery
}

func (q *queries) all() []*query {
	all := []*query{q.get, q.holder, q.insert, q.set, q.save, q.touch, q.destroy, q.end, q.count, q.removeExpired, q.remove}
	for _, p := range []pageQuery{q.page, q.pageIDs, q.pageAll, q.pageExpired} {
		all = append(all, p.first, p.next)
	}
	return all
}

// pageQuery lists rows by their IDs: the first ones, or those after an ID. The first
// page is not the one after the empty ID, which may be NULL: see EMPTY_STRING_IS_NULL
// of MariaDB.
type pageQuery struct{ first, next *query }

func (c *compiler) compilePage(columns string, condition ...string) pageQuery {
	text := func(conditions []string) *query {
		where := ""
		if len(conditions) > 0 {
			where = " WHERE " + strings.Join(conditions, " AND ")
		}
		return c.compile("SELECT " + columns + " FROM {table}" + where + " ORDER BY {id} LIMIT {:limit}")
	}
	return pageQuery{first: text(condition), next: text(append([]string{"{id} > {:after}"}, condition...))}
}

func newQueries(l Layout, t table, extra []string, batch int) *queries {
	d := l.Dialect.dialect()
	c := newCompiler(l, t, extra)
	returning := ""
	if d.returns {
		returning = ` RETURNING {data text}`
	}
	some := make([]string, batch)
	for i := range some {
		some[i] = "{:" + nth("id", i) + "}"
	}
	c.parts["some"] = strings.Join(some, ", ")

	return &queries{
		get:    c.compile(`SELECT {id}, {data text}, {expires read} FROM {table} WHERE {id} = {:id} AND {live}`),
		holder: c.compile(`SELECT {id} FROM {table} WHERE {id} = {:id}`),

		insert: c.compile(d.insert),
		set:    c.compile(d.set),
		save: c.compile(`
UPDATE {table} SET {changes} WHERE {id} = {:id} AND {exact} AND {live} AND {same}` + returning),
		touch:   c.compile(`UPDATE {table} SET {moves} WHERE {id} = {:id} AND {exact} AND {live}`),
		destroy: c.compile(`DELETE FROM {table} WHERE {id} = {:id} AND {exact}`),
		end:     c.compile(`DELETE FROM {table} WHERE {id} = {:id} AND {exact} AND {live} AND {same}`),

		count: c.compile(`SELECT count(*) FROM {table} WHERE {mine} AND {live} AND {filled}`),
		// Pages have foreign prefixes too: Postgres takes so few rows for ours that
		// it would read the whole table for each.
		page:        c.compilePage("{id}, {data text}, {expires read}", "{live}", "{filled}"),
		pageIDs:     c.compilePage("{id}", "{live}", "{filled}"),
		pageAll:     c.compilePage("{id}"),
		pageExpired: c.compilePage("{id}", "{expired}"),

		// By their IDs, so that no row is locked that stays.
		removeExpired: c.compile(`DELETE FROM {table} WHERE {id} IN ({some}) AND {expired}`),
		remove:        c.compile(`DELETE FROM {table} WHERE {id} IN ({some})`),
	}
}

func newCompiler(l Layout, t table, extra []string) *compiler {
	d := l.Dialect.dialect()
	c := &compiler{numbered: d.numbered, types: d.types, names: map[string]string{
		"table":   qualified(l),
		"id":      d.quoted(l.Columns.ID),
		"data":    d.quoted(l.Columns.Data),
		"expires": d.quoted(l.Columns.Expires),
	}}
	read, write, column, now := d.intRead, "{:expires}", d.intRead, d.intNow
	if l.Expires.isDate() {
		read, write, column, now = d.dateRead, d.dateWrite, d.dateColumn, d.dateNow
	}
	live := column + " > " + now
	if l.LiveAtExpiry {
		live = column + " >= " + now
	}
	if l.NullLives {
		live = "({expires} IS NULL OR " + live + ")"
	}
	// The bare column, where it can be compared, for its index.
	expired := "{expires} < " + now
	if l.Expires.isDate() {
		expired = column + " < " + now
	}
	if l.PrunedAtExpiry {
		expired = strings.Replace(expired, " < ", " <= ", 1)
	}
	mine := "TRUE"
	if l.IDPrefix != "" {
		mine = d.exact(d.first(utf8.RuneCountInString(l.IDPrefix)), "{:prefix}")
	}
	c.parts = map[string]string{
		"data text":    d.dataText,
		"t data text":  strings.ReplaceAll(d.dataText, "{data}", "t.{data}"),
		"expires read": read,
		"live":         live,
		"expired":      expired,
		"exact":        d.exact("{id}", "{:id}"),
		"exact t":      d.exact("t.{id}", "{:id}"),
		"same":         d.exact("{data text}", "{:old}"),
		// filled leaves out what Node takes for no session.
		"filled": `length({data text}) > 0 AND {data text} NOT IN ('null', 'false', '0', '""')`,
		"mine":   mine,
	}
	c.columns(l, t, write, extra)
	return c
}

// columns makes the lists of the columns that are written.
func (c *compiler) columns(l Layout, t table, write string, extra []string) {
	d := l.Dialect.dialect()
	type column struct {
		name, value string
		once        bool // when the row is made
	}
	stamps := []column{{l.Columns.CreatedAt, "{:stamp}", true}, {l.Columns.UpdatedAt, "{:stamp}", false}}
	stamps = slices.DeleteFunc(stamps, func(s column) bool { return s.name == "" })
	all := append([]column{
		{l.Columns.ID, "{:id}", true},
		{l.Columns.Data, "{:data}" + t.dataCast, false},
		{l.Columns.Expires, write, false},
	}, stamps...)
	for i, name := range extra {
		all = append(all, column{name, "{:" + nth("extra", i) + "}", false})
	}
	var names, values, changes []string
	for i, col := range all {
		name := nth("column", i)
		c.names[name] = d.quoted(col.name)
		name = "{" + name + "}"
		names, values = append(names, name), append(values, col.value)
		if !col.once {
			changes = append(changes, name+" = "+col.value)
		}
	}
	list := func(s []string) string { return strings.Join(s, ", ") }
	c.parts["columns"], c.parts["values"] = list(names), list(values)
	c.parts["changes"] = list(changes)
	c.parts["moves"] = "{expires} = " + write
	if l.Columns.UpdatedAt != "" {
		c.names["updated"] = d.quoted(l.Columns.UpdatedAt)
		c.parts["moves"] += ", {updated} = {:stamp}"
	}
}

func nth(name string, i int) string { return fmt.Sprint(name, " ", i) }

// qualified is the table's name in a statement.
func qualified(l Layout) string {
	d := l.Dialect.dialect()
	if l.Schema == "" {
		return d.quoted(l.Table)
	}
	return d.quoted(l.Schema) + "." + d.quoted(l.Table)
}
