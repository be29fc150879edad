package nodestore

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Dialect is the kind of database a layout is in.
type Dialect int

// The dialects. MySQL includes MariaDB.
const (
	Postgres Dialect = iota + 1
	MySQL
	SQLite
)

func (d Dialect) String() string {
	switch d {
	case Postgres:
		return "Postgres"
	case MySQL:
		return "MySQL"
	case SQLite:
		return "SQLite"
	}
	return fmt.Sprintf("Dialect(%d)", int(d))
}

// Layout is a table of sessions as a Node package keeps it. The functions that
// are named after the packages return those packages' defaults; change the
// fields where the Node application has other settings. A layout for another
// package is a Layout with its fields filled in.
type Layout struct {
	// Package names the layout in errors and logs.
	Package string

	// Dialect is the kind of database.
	Dialect Dialect

	// Schema is the table's schema; in MySQL its database; in SQLite there is
	// none. Empty means what the connection finds the table in. Schema, Table and
	// Columns are quoted: any character but NUL may be in them.
	Schema, Table string

	// DottedTable says that Table, where Schema is empty, may be two names with
	// a dot between.
	DottedTable bool

	// Columns are the names of the columns.
	Columns Columns

	// IDPrefix is in front of each session ID in the column. IDs that are given
	// to a Store or come from it are without. Rows of another prefix are other
	// applications': they are not listed, counted or cleared, but they are
	// pruned.
	IDPrefix string

	// Expires says what the column of expiries holds.
	Expires ExpiryKind

	// Write rounds an expiry that is written, Clock the application's clock
	// when it is compared with the column.
	Write, Clock Rounding

	// LiveAtExpiry says that a session is live when its expiry equals the clock,
	// both rounded; PrunedAtExpiry that pruning removes it then.
	LiveAtExpiry, PrunedAtExpiry bool

	// NullLives says that a session without an expiry never expires. Otherwise
	// it cannot be read.
	NullLives bool

	// DestroysBroken says that a session whose document is no JSON is destroyed
	// when it is read, and then is not found. Otherwise it is ErrUndecodable of
	// package session.
	DestroysBroken bool

	// DefaultTTL is how long a session lives whose document does not say.
	DefaultTTL time.Duration

	// TTL is where a document's lifetime is looked for, in this order.
	TTL []TTLSource

	// JSONB says that documents pass through Postgres' jsonb on their way into
	// the column, whatever its type, and so are printed anew.
	JSONB bool

	// Collation is that of the texts in a table that Options.CreateTable makes in
	// MySQL, and so says their character set. Empty means the database's.
	Collation string

	// DDL makes the table and its index, for Options.CreateTable. In it,
	// {table}, {id}, {data} and {expires} stand for the quoted names.
	// {timestamps} stands for the definitions of the columns CreatedAt and
	// UpdatedAt with a comma in front, as far as the layout has them.
	// {collate} stands for COLLATE and the Collation, where there is one.
	// {name:X_{}_y} stands for X_…_y, quoted, with the table's name in place of
	// the braces; {lower:X_{}_y} for that name in lower case.
	DDL []string
}

// Columns are the names of a table's columns. CreatedAt and UpdatedAt may be
// empty: then the table has no such column, or a default fills it.
type Columns struct {
	ID, Data, Expires    string
	CreatedAt, UpdatedAt string
}

// ExpiryKind is what a column of expiries holds.
type ExpiryKind int

const (
	// ExpiryDate is a date with time. In Postgres it is a timestamp with or
	// without time zone (without: the wall clock of the connection's TimeZone),
	// in MySQL a datetime in UTC. In SQLite it is a text such as
	// "2030-01-02 03:04:05.678 +00:00", as Sequelize writes it.
	ExpiryDate ExpiryKind = iota + 1
	// ExpirySeconds and ExpiryMillis are numbers of seconds or milliseconds
	// since 1970 UTC.
	ExpirySeconds
	ExpiryMillis
	// ExpiryISO is a text such as "2030-01-02T03:04:05.678Z", as Date.toISOString
	// writes it. It is for SQLite, where others write dates so.
	ExpiryISO
)

// isDate reports whether the database takes the column for a date.
func (k ExpiryKind) isDate() bool { return k == ExpiryDate || k == ExpiryISO }

// Rounding makes an instant one that a column can hold.
type Rounding struct {
	// To is the step, a millisecond or longer.
	To time.Duration
	// Mode is the direction.
	Mode RoundMode
}

// RoundMode is a direction of rounding.
type RoundMode int

const (
	// RoundDown, RoundUp and RoundHalfUp count the steps from 1970.
	RoundDown RoundMode = iota
	RoundUp
	RoundHalfUp
	// RoundLeftUp counts the steps from the clock: what is left of a lifetime
	// is rounded up.
	RoundLeftUp
	// RoundNext is the step after that of RoundDown. A clock that is compared so
	// finds a session dead within the step of its expiry.
	RoundNext
)

// TTLSource is a place in a session's document that tells its lifetime.
type TTLSource int

const (
	// CookieExpires is cookie.expires: a date as JSON.stringify writes it, or
	// milliseconds since 1970.
	CookieExpires TTLSource = iota + 1
	// CookieMaxAge is cookie.maxAge: milliseconds from now. 0 is like none.
	CookieMaxAge
	// MemberExpire is _expire, milliseconds since 1970, and ten seconds more: so
	// koa-session has its store keep a session longer than the browser.
	MemberExpire
)

// round applies r to t; now is for RoundLeftUp. Node's clocks and dates have
// whole milliseconds, so t is cut to that first.
func (r Rounding) round(t, now time.Time) time.Time {
	step := max(r.To.Milliseconds(), 1)
	ms, from := t.UnixMilli(), int64(0)
	if r.Mode == RoundLeftUp {
		from = now.UnixMilli()
	}
	ms -= from
	down := ms - (ms%step+step)%step
	switch over := ms - down; {
	case r.Mode == RoundNext, r.Mode == RoundHalfUp && 2*over >= step,
		(r.Mode == RoundUp || r.Mode == RoundLeftUp) && over > 0:
		down += step
	}
	return time.UnixMilli(from + down).UTC()
}

// split puts the two names of a dotted table where they belong.
func (l Layout) split() Layout {
	if l.DottedTable && l.Schema == "" {
		if schema, table, ok := strings.Cut(l.Table, "."); ok {
			l.Schema, l.Table = schema, table
		}
	}
	return l
}

func (l Layout) validate() error {
	fail := func(field, format string, args ...any) error {
		return fmt.Errorf("nodestore: Layout.%s %s", field, fmt.Sprintf(format, args...))
	}
	if l.Dialect < Postgres || l.Dialect > SQLite {
		return fail("Dialect", "is %v; it must be Postgres, MySQL or SQLite", l.Dialect)
	}
	if l.Dialect == MySQL && l.Package == koaSessionKnex {
		return fail("Dialect", "is MySQL, where the column of %s is a TIMESTAMP, which no Layout describes", l.Package)
	}
	seen := map[string]string{}
	for _, n := range []struct {
		field, name string
		optional    bool
	}{
		{"Schema", l.Schema, true},
		{"Table", l.Table, false},
		{"Columns.ID", l.Columns.ID, false},
		{"Columns.Data", l.Columns.Data, false},
		{"Columns.Expires", l.Columns.Expires, false},
		{"Columns.CreatedAt", l.Columns.CreatedAt, true},
		{"Columns.UpdatedAt", l.Columns.UpdatedAt, true},
	} {
		if n.name == "" && n.optional {
			continue
		}
		if why := badName(l.Dialect, n.name); why != "" {
			return fail(n.field, "%s", why)
		}
		if !strings.HasPrefix(n.field, "Columns.") {
			continue
		}
		if other, taken := seen[n.name]; taken {
			return fail(n.field, "is %q, like %s", n.name, other)
		}
		seen[n.name] = n.field
	}
	if l.Schema != "" && l.Dialect == SQLite {
		return fail("Schema", "is for Postgres and MySQL only")
	}
	if strings.ContainsRune(l.IDPrefix, 0) || !utf8.ValidString(l.IDPrefix) {
		return fail("IDPrefix", "has a NUL or is not UTF-8")
	}
	if l.Expires < ExpiryDate || l.Expires > ExpiryISO {
		return fail("Expires", "is %d; it must be ExpiryDate, ExpirySeconds, ExpiryMillis or ExpiryISO", l.Expires)
	}
	if l.Expires == ExpiryISO && l.Dialect != SQLite {
		return fail("Expires", "is ExpiryISO, which is for SQLite only, not for %v", l.Dialect)
	}
	if l.DefaultTTL < time.Millisecond {
		return fail("DefaultTTL", "is %v; it must be at least 1ms", l.DefaultTTL)
	}
	for _, r := range []struct {
		field string
		Rounding
		not RoundMode // of all the other one's
	}{{"Write", l.Write, RoundNext}, {"Clock", l.Clock, RoundLeftUp}} {
		if r.To < time.Millisecond || r.To%time.Millisecond != 0 {
			return fail(r.field+".To", "is %v; it must be whole milliseconds", r.To)
		}
		if r.Mode < RoundDown || r.Mode > RoundNext || r.Mode == r.not {
			return fail(r.field+".Mode", "is %d; it must be from 0 to %d and not %d", r.Mode, RoundNext, r.not)
		}
	}
	if i := slices.IndexFunc(l.TTL, func(s TTLSource) bool { return s < CookieExpires || s > MemberExpire }); i >= 0 {
		return fail("TTL", "has %d; it must be CookieExpires, CookieMaxAge or MemberExpire", l.TTL[i])
	}
	if l.Collation != "" && (l.Dialect != MySQL || !collationName.MatchString(l.Collation)) {
		return fail("Collation", "is %q; it must be the name of one in MySQL", l.Collation)
	}
	if l.JSONB && l.Dialect != Postgres {
		return fail("JSONB", "is for Postgres only, not for %v", l.Dialect)
	}
	return nil
}

var collationName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// badName says what is wrong with an identifier, if anything is.
func badName(d Dialect, name string) string {
	switch {
	case name == "":
		return "is empty"
	case strings.ContainsRune(name, 0):
		return "has a NUL"
	case !utf8.ValidString(name):
		return "is not UTF-8"
	case d == Postgres && len(name) > 63: // it would be cut, silently
		return fmt.Sprintf("has %d bytes; the limit is 63", len(name))
	case d == MySQL && utf8.RuneCountInString(name) > 64:
		return fmt.Sprintf("has %d characters; the limit is 64", utf8.RuneCountInString(name))
	}
	return ""
}

// String names the layout and its table.
func (l Layout) String() string {
	l = l.split()
	table := l.Table
	if l.Schema != "" {
		table = l.Schema + "." + table
	}
	return cmp.Or(l.Package, "custom layout") + " in " + table
}
