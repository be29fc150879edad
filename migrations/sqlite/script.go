package sqlite

import (
	"cmp"
	"embed"
	"io/fs"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlmigrate"
)

//go:embed sql
var files embed.FS

// Version is the version of the tables that this package knows.
const Version = 1

// Config says where the sessions are. The zero Config is ready to use.
type Config struct {
	// Table is the sessions table, unquoted, from 1 to 200 bytes of UTF-8
	// without NUL; empty means DefaultTable.
	Table string
	// LockWait is how long Up waits for others that write; 0 means a minute,
	// negative no limit but the context's.
	LockWait time.Duration
}

func (c Config) withDefaults() Config {
	c.Table = cmp.Or(c.Table, DefaultTable)
	c.LockWait = cmp.Or(c.LockWait, time.Minute)
	return c
}

// FS returns the migrations, as templates in which the names are to be filled
// in.
func FS() fs.FS {
	sub, err := fs.Sub(files, "sql")
	if err != nil {
		return files // not reached: the name is a constant and valid
	}
	return sub
}

func (n names) steps(fsys fs.FS) ([]sqlmigrate.Step, error) {
	return sqlmigrate.Load(fsys, map[string]string{
		"sessions":   unqualified(n.sessions),
		"meta":       unqualified(n.meta),
		"end_index":  quote(n.table + "_end_idx"),
		"user_index": quote(n.table + "_user_idx"),
	})
}

// unqualified is for CREATE INDEX, which takes the table's name alone.
func unqualified(name string) string { return strings.TrimPrefix(name, "main.") }

// SQL returns what Up does to an empty database, for those who run it
// themselves: with the sqlite3 shell, say. It is ErrInvalid when cfg is.
func SQL(cfg Config) (string, error) {
	n, err := namesOf(cfg.withDefaults().Table)
	if err != nil {
		return "", err
	}
	steps, err := n.steps(FS())
	if err != nil {
		return "", err
	}
	return "BEGIN IMMEDIATE;\n" + sqlmigrate.Script(steps) + "COMMIT;\n", nil
}
