package mysql

import (
	"embed"
	"io/fs"
	"strconv"

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
		"sessions":      n.sessions,
		"meta":          n.meta,
		"users":         n.users,
		"longest_hours": strconv.FormatInt(s.hours(), 10),

		"retire_grace_s": strconv.FormatInt(s.retireSeconds(), 10),
	})
}

// SQL returns what Up does to an empty database, to be run by hand: with the
// client mariadb or mysql, say. It is ErrInvalid when cfg is.
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
	return sqlmigrate.Script(steps), nil
}
