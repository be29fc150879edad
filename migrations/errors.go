package migrations

import (
	"errors"

	"github.com/sojourn-go/sojourn/internal/pgschema"
)

// The errors of this package. Match them with errors.Is: what is returned
// names the schema and table and wraps the server's error where there is one.
var (
	// ErrInvalid says that a Config, a name or Settings can never be right.
	// Nothing was sent to the database.
	ErrInvalid = pgschema.ErrInvalid

	// ErrSchemaMissing says that there is no such schema and, from Up, that
	// it could not be created.
	ErrSchemaMissing = pgschema.ErrSchemaMissing

	// ErrNotMigrated says that the schema has no tables of ours under these
	// names. Up makes them.
	ErrNotMigrated = pgschema.ErrNotMigrated

	// ErrOutdated says that the database is older than this program needs.
	// Up brings it up to date.
	ErrOutdated = pgschema.ErrOutdated

	// ErrIncompatible says that the database was migrated by a newer program
	// and no longer works with this one.
	ErrIncompatible = pgschema.ErrIncompatible

	// ErrForeignTable says that something else has one of our names: a table
	// of another shape, or one that was made without the tables that belong
	// to it. Nothing was changed.
	ErrForeignTable = pgschema.ErrForeignTable

	// ErrPermission says that the database role lacks a right.
	ErrPermission = pgschema.ErrPermission

	// ErrNotDirect says that the connection goes through a pooler. Up needs
	// one that leads straight to the server.
	ErrNotDirect = errors.New("migrations: not a direct connection to the server")

	// ErrUnsupported says that the server is too old.
	ErrUnsupported = errors.New("migrations: unsupported server version")

	// ErrLocked says that another process migrated, or made or retired
	// partitions, for longer than Config.LockWait.
	ErrLocked = errors.New("migrations: another migration or maintenance is under way")
)
