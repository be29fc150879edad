package nodestore

import (
	"strings"
	"time"
)

// dialect is what the databases say differently. The texts are templates of a
// compiler.
type dialect struct {
	quote    string // around identifiers; doubled within
	numbered bool   // parameters are $1, $2 …
	prepares bool   // the store prepares its statements; the driver does not
	returns  bool   // a write can return what it wrote
	// countsChanges says that a write counts only the rows that it changed, not
	// all that it found. The connection decides.
	countsChanges bool

	types map[string]string // of parameters, where the database has to be told

	// exact is true where two texts are the same, byte for byte, whatever the
	// column's collation says; first is the beginning of {id}.
	exact func(a, b string) string
	first func(runes int) string

	dataText string // {data} as text
	// A date is read as microseconds since 1970.
	dateRead, dateWrite, dateColumn, dateNow string
	intRead, intNow                          string
	bindDate                                 func(time.Time) any
	timestamp                                string // the type of CreatedAt and UpdatedAt, for DDL

	insert, set string
	catalog     string            // see catalog.go
	kinds       map[role][]string // the types that fit, without lengths
}

func (d Dialect) dialect() *dialect {
	switch d {
	case Postgres:
		return &postgres
	case MySQL:
		return &mysqlOrMariaDB
	default:
		return &sqlite
	}
}

// quoted quotes an identifier.
func (d *dialect) quoted(name string) string {
	return d.quote + strings.ReplaceAll(name, d.quote, d.quote+d.quote) + d.quote
}
