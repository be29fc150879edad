package sqlitestore

import (
	"errors"
	"fmt"

	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
	"github.com/sojourn-go/sojourn/session"
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
)

// Primary result codes (sqlite.org/rescode.html).
const (
	codeBusy       = 5
	codeLocked     = 6
	codeNoMem      = 7
	codeReadOnly   = 8
	codeInterrupt  = 9
	codeCorrupt    = 11
	codeFull       = 13
	codeCantOpen   = 14
	codeProtocol   = 15
	codeTooBig     = 18
	codeConstraint = 19
	codeNotADB     = 26
)

// codeOf is the primary result code of a driver's error, or 0.
func codeOf(err error) int {
	var coded interface {
		error
		Code() int
	}
	if errors.As(err, &coded) {
		return coded.Code() & 0xff
	}
	return 0
}

// isBusy reports whether it may work a moment later.
func isBusy(err error) bool {
	switch codeOf(err) {
	case codeBusy, codeLocked, codeProtocol:
		return true
	}
	return false
}

// isOpen reports whether a COMMIT that failed with err may have happened, or
// happen yet: after an I/O error what was written may be found in the log when
// it is next recovered.
func isOpen(err error) bool {
	switch codeOf(err) {
	case codeBusy, codeLocked, codeNoMem, codeReadOnly, codeInterrupt, codeFull, codeProtocol, codeTooBig, codeConstraint:
		return false
	}
	return true
}

// explain adds to an error of the driver what it means.
func explain(err error) error {
	var meaning error
	switch codeOf(err) {
	case codeFull:
		meaning = ErrFull
	case codeReadOnly, codeCantOpen:
		meaning = ErrReadOnly
	case codeBusy, codeLocked, codeProtocol:
		meaning = ErrLocked
	case codeCorrupt, codeNotADB:
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

// isRefusal reports whether the store had a reason of its own to say no.
func isRefusal(err error) bool {
	for _, reason := range []error{
		session.ErrNotFound, session.ErrConflict, session.ErrExists, session.ErrUserChanged,
		session.ErrDeadline, session.ErrUserLimit, session.ErrInvalid, session.ErrTooLarge,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}
