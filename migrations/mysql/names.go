package mysql

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// DefaultTable is the table of a Config that names none.
const DefaultTable = "sojourn_sessions"

// maxName leaves room for what we and the server append. A name may have 64
// characters, and 255 bytes as the name of a file, in which one may take five.
const maxName = 40

// Names are the names of what belongs to one sessions table, quoted, ready to
// be put into SQL.
type Names struct{ Sessions, Meta, Users string }

// NamesOf returns the names that belong to a table, or ErrInvalid.
func NamesOf(table string) (Names, error) {
	n, err := namesOf(table)
	return Names{Sessions: n.sessions, Meta: n.meta, Users: n.users}, err
}

type names struct {
	table, metaTable, usersTable string // unquoted
	sessions, meta, users        string
}

func namesOf(table string) (names, error) {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: Table %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	switch {
	case table == "":
		return names{}, invalid("is empty")
	case !utf8.ValidString(table):
		return names{}, invalid("is not valid UTF-8")
	case utf8.RuneCountInString(table) > maxName:
		return names{}, invalid("has %d characters; the limit is %d", utf8.RuneCountInString(table), maxName)
	case strings.HasSuffix(table, " "):
		return names{}, invalid("ends with a space")
	}
	for _, r := range table {
		switch {
		case r == 0:
			return names{}, invalid("contains a NUL byte")
		case r > 0xffff:
			return names{}, invalid("contains %q, which the server has no place for in a name", r)
		}
	}
	n := names{table: table, metaTable: table + "_meta", usersTable: table + "_users"}
	n.sessions, n.meta, n.users = quote(n.table), quote(n.metaTable), quote(n.usersTable)
	return n, nil
}

func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
