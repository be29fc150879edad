package migrations

import (
	"context"

	"github.com/sojourn-go/sojourn/internal/pgschema"
)

// Version is the newest version of the tables that this package knows, and the
// oldest that the program it is part of can use.
const Version = pgschema.Version

// The schema and table of a Config that names none.
const (
	DefaultSchema = pgschema.DefaultSchema
	DefaultTable  = pgschema.DefaultTable
)

// The limits of Settings.
const (
	MaxLifetime = pgschema.MaxLifetime // ten years
	MinLease    = pgschema.MinLease
	MaxLease    = pgschema.MaxLease
	// MinRetireGrace is the least of Settings.RetireGrace, and DefaultRetireGrace
	// goes back to the default where zero changes nothing.
	MinRetireGrace     = pgschema.MinRetireGrace
	DefaultRetireGrace = pgschema.DefaultRetireGrace
	// MaxPartitions is how many partitions may lie ahead: a lookup that does not
	// know the deadline asks each of them.
	MaxPartitions = pgschema.MaxPartitions
)

// Settings is what all nodes that share the sessions must agree on. The database
// holds it. Zero is the default:
//
//	LongestLifetime  how far ahead a deadline may lie: whole hours, 1 h to MaxLifetime; 30 days
//	PartitionWidth   hours of deadlines in a partition: whole hours; a ninth of
//	                 LongestLifetime and a day, rounded up
//	Lease            for how long after its last proof of being in touch a node may answer
//	                 from its cache: whole milliseconds, MinLease to MaxLease; 2 s
//	RetireGrace      how long a partition is kept after its last deadline, and an idle-expired
//	                 session in any case: whole seconds, MinRetireGrace to MaxLifetime; an hour,
//	                 or a day once the table holds keys without a bucket
type Settings = pgschema.Settings

// Querier is a pgx connection, pool or transaction, in any mode of execution.
type Querier = pgschema.Querier

// Names are the names of everything that belongs to one sessions table. Schema
// and Table are as they were given. Sessions, Meta, Version and MakePartition
// are quoted and with their schema, ready to be put into SQL. Two pairs of
// schema and table never share one.
type Names = pgschema.Names

// NamesOf derives the names from the names of a schema and a table. Any name
// that Postgres can hold is allowed: 1 to 63 bytes of UTF-8 without NUL.
// Another one is ErrInvalid.
func NamesOf(schema, table string) (Names, error) { return pgschema.NamesOf(schema, table) }

// Validate returns nil if the database is one that this program can use. It
// needs no rights but to read: USAGE of the schema and SELECT on the meta
// table.
//
// It is ErrSchemaMissing, ErrNotMigrated, ErrOutdated, ErrIncompatible,
// ErrForeignTable or ErrPermission when it is not, and else the error of the
// connection.
func Validate(ctx context.Context, db Querier, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	n, err := cfg.names()
	if err != nil {
		return err
	}
	return pgschema.Validate(ctx, db, n)
}

// LoadSettings returns the settings that the database holds.
func LoadSettings(ctx context.Context, db Querier, cfg Config) (Settings, error) {
	n, err := cfg.names()
	if err != nil {
		return Settings{}, err
	}
	return pgschema.LoadSettings(ctx, db, n)
}

// SetSettings changes the settings that are not zero in s and returns all that
// hold then. It needs the rights of the tables' owner.
//
// Nodes that run follow within a minute, and in maintenance from the next pass
// on. Nodes whose options say something else refuse to start from then on.
// Partitions keep their width; new ones fill the gaps. A shorter longest
// lifetime does not shorten sessions that exist, and a shorter retire grace is
// in force once the former has passed.
func SetSettings(ctx context.Context, db Querier, cfg Config, s Settings) (Settings, error) {
	n, err := cfg.names()
	if err != nil {
		return Settings{}, err
	}
	return pgschema.SetSettings(ctx, db, n, s)
}
