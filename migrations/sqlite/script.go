package sqlite

import (
	"embed"
	"io/fs"
	"strconv"
	"strings"

	"github.com/sojourn-go/sojourn/internal/sqlmigrate"
)

//go:embed sql
var files embed.FS

// FS returns the migrations, as templates in which the names are to be filled
// in.
func FS() fs.FS {
	sub, err := fs.Sub(files, "sql")
	if err != nil {
		return files // not reached: the name is a constant and valid
	}
	return sub
}

func (n names) steps(fsys fs.FS, s Settings) ([]sqlmigrate.Step, error) {
	return sqlmigrate.Load(fsys, map[string]string{
		"sessions":   unqualified(n.sessions),
		"meta":       unqualified(n.meta),
		"end_index":  quote(n.table + "_end_idx"),
		"user_index": quote(n.table + "_user_idx"),

		"retire_grace_s": strconv.FormatInt(s.retireSeconds(), 10),
	})
}

// unqualified is for CREATE INDEX, which takes the table's name alone.
func unqualified(name string) string { return strings.TrimPrefix(name, "main.") }

// SQL returns what Up does to an empty database, to be run by hand: with the
// sqlite3 shell, say. It is ErrInvalid when cfg is.
func SQL(cfg Config) (string, error) {
	cfg = cfg.withDefaults()
	n, err := cfg.names()
	if err != nil {
		return "", err
	}
	steps, err := n.steps(FS(), cfg.Settings)
	if err != nil {
		return "", err
	}
	return "BEGIN IMMEDIATE;\n" + sqlmigrate.Script(steps) + "COMMIT;\n", nil
}
