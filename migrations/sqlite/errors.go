package sqlite

import (
	"errors"
	"fmt"

	"github.com/sojourn-go/sojourn/internal/sqlitecode"
)

// The errors of this package. Match them with errors.Is: what is returned
// names the table and wraps the driver's error where there is one.
var (
	// ErrInvalid says that a Config can never be right. Nothing was done.
	ErrInvalid = errors.New("migrations/sqlite: invalid configuration")

	// ErrNotMigrated says that the database has no tables of ours under these
	// names. Up makes them.
	ErrNotMigrated = errors.New("migrations/sqlite: not migrated")

	// ErrOutdated says that the database is older than this program needs. Up
	// brings it up to date.
	ErrOutdated = errors.New("migrations/sqlite: database is outdated")

	// ErrIncompatible says that the database was migrated by a newer program
	// and no longer works with this one.
	ErrIncompatible = errors.New("migrations/sqlite: database is newer than this program can use")

	// ErrForeignTable says that something else has one of our names: a table of
	// another shape, or one without the tables that belong to it. Nothing was
	// changed.
	ErrForeignTable = errors.New("migrations/sqlite: name is taken by something else")

	// ErrNotDatabase says that the file is not an SQLite database, or that it
	// is encrypted or damaged.
	ErrNotDatabase = errors.New("migrations/sqlite: not an SQLite database")

	// ErrReadOnly says that the file or its folder cannot be written.
	ErrReadOnly = errors.New("migrations/sqlite: the database cannot be written")

	// ErrLocked says that another connection held the write lock for longer
	// than Config.LockWait.
	ErrLocked = errors.New("migrations/sqlite: another connection is writing")
)

func (n names) errorf(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: table %q: %w", sentinel, n.table, fmt.Errorf(format, args...))
}

// explain adds what was being done to an error of the database, and the
// sentinel that says what it means here.
func (n names) explain(doing string, err error) error {
	switch sqlitecode.Of(err) {
	case sqlitecode.NotADB, sqlitecode.Corrupt:
		return n.errorf(ErrNotDatabase, "%s: %w", doing, err)
	case sqlitecode.ReadOnly, sqlitecode.CantOpen:
		return n.errorf(ErrReadOnly, "%s: %w", doing, err)
	case sqlitecode.Busy, sqlitecode.Locked:
		return n.errorf(ErrLocked, "%s: %w", doing, err)
	}
	return fmt.Errorf("migrations/sqlite: %s: table %q: %w", doing, n.table, err)
}
