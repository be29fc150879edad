package mysql

import (
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"
)

// The errors of this package. Match them with errors.Is: what is returned
// names the table and wraps the server's error where there is one.
var (
	// ErrInvalid says that a Config can never be right, or that the connection
	// has no database selected. Nothing was done.
	ErrInvalid = errors.New("migrations/mysql: invalid configuration")

	// ErrNotMigrated says that the database has no tables of ours under these
	// names, or not all of them and of the rows that are locks. Up makes them.
	ErrNotMigrated = errors.New("migrations/mysql: not migrated")

	// ErrOutdated says that the database is older than this program needs. Up
	// brings it up to date.
	ErrOutdated = errors.New("migrations/mysql: database is outdated")

	// ErrIncompatible says that the database was migrated by a newer program
	// and no longer works with this one.
	ErrIncompatible = errors.New("migrations/mysql: database is newer than this program can use")

	// ErrForeignTable says that something else has one of our names: a table of
	// another shape, or one without the tables that belong to it. Nothing was
	// changed.
	ErrForeignTable = errors.New("migrations/mysql: name is taken by something else")

	// ErrPermission says that the user lacks a right.
	ErrPermission = errors.New("migrations/mysql: permission denied")

	// ErrReadOnly says that the server takes no writes, as a replica, or the
	// transaction.
	ErrReadOnly = errors.New("migrations/mysql: the server is read-only")

	// ErrUnsupported says that the server is too old.
	ErrUnsupported = errors.New("migrations/mysql: unsupported server version")

	// ErrLocked says that another process migrated for longer than
	// Config.LockWait, or that a table was in use for five seconds on end.
	ErrLocked = errors.New("migrations/mysql: another migration or a long transaction is under way")
)

func (n names) errorf(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: table %q: %w", sentinel, n.table, fmt.Errorf(format, args...))
}

// The numbers of errors that mean the same on every server.
const (
	errDatabaseDenied  = 1044
	errAccessDenied    = 1045
	errNoDatabase      = 1046
	errUnknownDatabase = 1049
	errTableExists     = 1050
	errUnknownColumn   = 1054
	errColumnExists    = 1060
	errKeyExists       = 1061
	errNothingToDrop   = 1091
	errTableDenied     = 1142
	errColumnDenied    = 1143
	errNoTable         = 1146
	errLockWait        = 1205
	errPrivilege       = 1227
	errOptionPrevents  = 1290 // --read-only
	errReadOnlyTx      = 1792
	errReadOnlyMode    = 1836
)

func number(err error) uint16 {
	var server *mysql.MySQLError
	if errors.As(err, &server) {
		return server.Number
	}
	return 0
}

// explain adds what was being done to an error of the database, and the
// sentinel that says what it means here.
func (n names) explain(doing string, err error) error {
	switch number(err) {
	case errNoDatabase, errUnknownDatabase:
		return n.errorf(ErrInvalid, "%s: %w", doing, err)
	case errDatabaseDenied, errAccessDenied, errTableDenied, errColumnDenied, errPrivilege:
		return n.errorf(ErrPermission, "%s: %w", doing, err)
	case errOptionPrevents, errReadOnlyTx, errReadOnlyMode:
		return n.errorf(ErrReadOnly, "%s: %w", doing, err)
	case errLockWait:
		return n.errorf(ErrLocked, "%s: %w", doing, err)
	}
	return fmt.Errorf("migrations/mysql: %s: table %q: %w", doing, n.table, err)
}

// doneAlready reports whether a statement failed because what it makes is there
// or what it drops is not.
func doneAlready(err error) bool {
	switch number(err) {
	case errTableExists, errColumnExists, errKeyExists, errNothingToDrop:
		return true
	}
	return false
}
