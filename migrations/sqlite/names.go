package sqlite

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// DefaultTable is the table of a Config that names none.
const DefaultTable = "sojourn_sessions"

// maxName keeps names readable in errors. SQLite has no limit.
const maxName = 200

// Names are the names of what belongs to one sessions table, quoted and with
// the schema main, ready to be put into SQL.
type Names struct{ Sessions, Meta string }

// NamesOf returns the names that belong to a table, or ErrInvalid.
func NamesOf(table string) (Names, error) {
	n, err := namesOf(table)
	return Names{Sessions: n.sessions, Meta: n.meta}, err
}

type names struct {
	table, metaTable string // unquoted
	sessions, meta   string
}

func namesOf(table string) (names, error) {
	invalid := func(reason string) error {
		return fmt.Errorf("%w: Table %s", ErrInvalid, reason)
	}
	switch {
	case table == "":
		return names{}, invalid("is empty")
	case len(table) > maxName:
		return names{}, invalid(fmt.Sprintf("has %d bytes; the limit is %d", len(table), maxName))
	case !utf8.ValidString(table):
		return names{}, invalid("is not valid UTF-8")
	case strings.ContainsRune(table, 0):
		return names{}, invalid("contains a NUL byte")
	case len(table) >= 7 && strings.EqualFold(table[:7], "sqlite_"):
		return names{}, invalid("begins with sqlite_, which SQLite keeps for itself")
	}
	n := names{table: table, metaTable: table + "_meta"}
	n.sessions, n.meta = "main."+quote(n.table), "main."+quote(n.metaTable)
	return n, nil
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
