package pgschema

import "errors"

// The errors that say what a database holds. Package migrations gives them to
// users, with what each means.
var (
	ErrInvalid       = errors.New("migrations: invalid configuration")
	ErrSchemaMissing = errors.New("migrations: schema does not exist")
	ErrNotMigrated   = errors.New("migrations: not migrated")
	ErrOutdated      = errors.New("migrations: database is outdated")
	ErrIncompatible  = errors.New("migrations: database is newer than this program can use")
	ErrForeignTable  = errors.New("migrations: name is taken by something else")
	ErrPermission    = errors.New("migrations: permission denied")
)
