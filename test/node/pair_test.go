package node

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
)

// pair is one table with a store of Node and one of Go on it.
type pair struct {
	kind
	node  *driver
	store *nodestore.Store
	sql   *sql.DB
}

// document is a session as the middleware of the package has it saved, which
// lives until the expiry. The members come beside its cookie, each with a comma
// in front. It is as JSON.stringify prints it.
func (p pair) document(expires time.Time, members string) json.RawMessage {
	const date = "2006-01-02T15:04:05.000Z"
	if p.does.flat {
		own := expires.Add(-10 * time.Second).UnixMilli()
		return fmt.Appendf(nil, `{%s"_expire":%d,"_maxAge":3600000}`, strings.TrimPrefix(members+",", ","), own)
	}
	at := expires.UTC().Format(date)
	if p.does.koa {
		// Its middleware makes a lifetime of this, to which its store adds the
		// clock a moment later: that must still be the same second.
		at = expires.UTC().Truncate(time.Second).Add(100 * time.Millisecond).Format(date)
		return fmt.Appendf(nil, `{"cookie":{"httpOnly":true,"path":"/","overwrite":true,"signed":true,"maxAge":3600000,"expires":"%s"}%s}`, at, members)
	}
	return fmt.Appendf(nil, `{"cookie":{"originalMaxAge":3600000,"expires":"%s","httpOnly":true,"path":"/"}%s}`, at, members)
}

// inTime is an instant that is not a whole second.
func inTime(d time.Duration) time.Time {
	return time.Now().Add(d).Truncate(time.Second).Add(678 * time.Millisecond)
}

// read has Go read a session that must be there.
func (p pair) read(t testing.TB, sid string) nodestore.Entry {
	t.Helper()
	e, err := p.store.Get(t.Context(), sid)
	if err != nil {
		t.Fatal("Go's Get:", err)
	}
	return e
}

// write has Go write a session that lives for as long as its document says.
func (p pair) write(t testing.TB, sid string, doc json.RawMessage) {
	t.Helper()
	if err := p.store.Set(t.Context(), sid, doc); err != nil {
		t.Fatal("Go's Set:", err)
	}
}

// expired leaves a session in the table that has expired, by way of Node.
func (p pair) expired(t testing.TB, sid string) {
	t.Helper()
	past := p.document(inTime(-time.Hour), "")
	if p.does.endsExpired { // a set with a past expiry, but not a touch
		p.node.must(t, "set", sid, p.document(inTime(time.Hour), ""))
		p.node.must(t, "touch", sid, past)
	} else {
		p.node.must(t, "set", sid, past)
	}
	if _, ok := p.row(t, sid); !ok {
		t.Fatal("Node left no row of an expired session")
	}
}

// row is what the table holds of a session.
type row struct{ data, expires, extra string }

func (p pair) row(t testing.TB, sid string) (row, bool) {
	t.Helper()
	c := p.layout.Columns
	extra := "''"
	for column := range p.extra {
		extra = p.quote(column)
	}
	parameter := "?"
	if p.layout.Dialect == nodestore.Postgres {
		parameter = "$1"
	}
	query := fmt.Sprintf("SELECT %s, %s, %s FROM %s WHERE %s = %s",
		p.quote(c.Data), p.quote(c.Expires), extra, p.table(), p.quote(c.ID), parameter)
	var columns [3]any
	switch err := p.sql.QueryRowContext(t.Context(), query, p.layout.IDPrefix+sid).Scan(&columns[0], &columns[1], &columns[2]); {
	case errors.Is(err, sql.ErrNoRows):
		return row{}, false
	case err != nil:
		t.Fatal(err)
	}
	return row{text(columns[0]), text(columns[1]), text(columns[2])}, true
}

// text prints a column. Times have all their digits, also if the last are zeroes.
func text(v any) string {
	switch v := v.(type) {
	case []byte:
		return string(v)
	case time.Time:
		return v.Format("2006-01-02 15:04:05.000000000 -0700")
	}
	return fmt.Sprint(v)
}

// rows counts them, whatever they are.
func (p pair) rows(t testing.TB) (n int64) {
	t.Helper()
	if err := p.sql.QueryRowContext(t.Context(), "SELECT count(*) FROM "+p.table()).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (p pair) table() string {
	table := p.quote(p.layout.Table)
	if p.layout.Schema != "" {
		table = p.quote(p.layout.Schema) + "." + table
	}
	return table
}

func (p pair) quote(name string) string {
	mark := `"`
	if p.layout.Dialect == nodestore.MySQL {
		mark = "`"
	}
	return mark + strings.ReplaceAll(name, mark, mark+mark) + mark
}

// wantDocument checks what somebody has read, to the last byte, unless the
// database prints documents in its own way.
func (p pair) wantDocument(t testing.TB, who string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(p.printed(t, got), p.printed(t, want)) {
		t.Errorf("%s reads %s, want %s", who, short(got), short(want))
	}
}

func (p pair) printed(t testing.TB, text []byte) []byte {
	t.Helper()
	if !p.does.reprints || text == nil {
		return text
	}
	var value any
	decode(t, text, &value)
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func short(text []byte) []byte {
	if len(text) > 500 {
		return append(text[:500:500], "…"...)
	}
	return text
}

// wantNear allows for the rounding of a column.
func wantNear(t testing.TB, what string, got, want time.Time) {
	t.Helper()
	if d := got.Sub(want); d < -time.Second || d > time.Second {
		t.Errorf("%s is %v, want %v to a second", what, got, want)
	}
}
