// Package sqlitecode tells SQLite's errors apart.
package sqlitecode

import (
	"errors"

	sqlite3 "modernc.org/sqlite/lib"
)

// Primary result codes (sqlite.org/rescode.html).
const (
	Busy       = sqlite3.SQLITE_BUSY
	Locked     = sqlite3.SQLITE_LOCKED
	NoMem      = sqlite3.SQLITE_NOMEM
	ReadOnly   = sqlite3.SQLITE_READONLY
	Interrupt  = sqlite3.SQLITE_INTERRUPT
	Corrupt    = sqlite3.SQLITE_CORRUPT
	Full       = sqlite3.SQLITE_FULL
	CantOpen   = sqlite3.SQLITE_CANTOPEN
	Protocol   = sqlite3.SQLITE_PROTOCOL
	TooBig     = sqlite3.SQLITE_TOOBIG
	Constraint = sqlite3.SQLITE_CONSTRAINT
	NotADB     = sqlite3.SQLITE_NOTADB
)

// Of is the primary result code of a driver's error, or 0.
func Of(err error) int {
	var coded interface {
		error
		Code() int
	}
	if errors.As(err, &coded) {
		return coded.Code() & 0xff
	}
	return 0
}
