package sqlitestore

import (
	"errors"
	"fmt"

	"github.com/sojourn-go/sojourn/internal/sqlitecode"
	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
)

// The errors of this package, beside those of package session and of
// migrations/sqlite. They wrap the driver's error. A write that fails with one
// of them has changed nothing.
var (
	// ErrFull says that there is no room left: on the disk, or because of
	// PRAGMA max_page_count. Sessions can still be read.
	ErrFull = errors.New("sqlitestore: no room left")

	// ErrReadOnly says that the file or its folder cannot be written.
	ErrReadOnly = errors.New("sqlitestore: the database cannot be written")

	// ErrLocked says that another connection kept the database locked for
	// longer than Options.WriteTimeout.
	ErrLocked = errors.New("sqlitestore: the database is locked by another connection")

	// ErrDamaged says that the file is not a database, or no longer.
	ErrDamaged = errors.New("sqlitestore: not a database, or damaged")

	// ErrUnsuitable says that a *sql.DB is not set up as New needs it.
	ErrUnsuitable = errors.New("sqlitestore: unsuitable *sql.DB")

	// ErrSettings says that the processes that use the table have agreed on
	// another setting than the one given.
	ErrSettings = errors.New("sqlitestore: other settings than those of the other processes")
)

// isBusy reports whether it may work a moment later.
func isBusy(err error) bool {
	switch sqlitecode.Of(err) {
	case sqlitecode.Busy, sqlitecode.Locked, sqlitecode.Protocol:
		return true
	}
	return false
}

// isOpen reports whether a COMMIT that failed with err may have happened, or
// may happen yet. After an I/O error the next recovery may find in the log what
// was written.
func isOpen(err error) bool {
	switch sqlitecode.Of(err) {
	case sqlitecode.Busy, sqlitecode.Locked, sqlitecode.NoMem, sqlitecode.ReadOnly, sqlitecode.Interrupt, sqlitecode.Full, sqlitecode.Protocol, sqlitecode.TooBig, sqlitecode.Constraint:
		return false
	}
	return true
}

// explain adds to an error of the driver what it means.
func explain(err error) error {
	var meaning error
	switch sqlitecode.Of(err) {
	case sqlitecode.Full:
		meaning = ErrFull
	case sqlitecode.ReadOnly, sqlitecode.CantOpen:
		meaning = ErrReadOnly
	case sqlitecode.Busy, sqlitecode.Locked, sqlitecode.Protocol:
		meaning = ErrLocked
	case sqlitecode.Corrupt, sqlitecode.NotADB:
		meaning = ErrDamaged
	default:
		return err
	}
	if errors.Is(err, meaning) || errors.Is(err, migrations.ErrNotDatabase) || errors.Is(err, migrations.ErrReadOnly) {
		return err
	}
	return fmt.Errorf("%w: %w", meaning, err)
}

// wrap names the operation. It returns nil for nil.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sqlitestore: %s: %w", op, explain(err))
}
