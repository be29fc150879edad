package migrations

import (
	"cmp"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/logging"
	"github.com/sojourn-go/sojourn/internal/pgschema"
)

// Config says where the sessions are and how Up works. The zero Config is
// ready to use.
type Config struct {
	// Schema and Table name the sessions table, unquoted, as in NamesOf. Empty
	// means DefaultSchema and DefaultTable.
	Schema, Table string
	// Settings are written when Up makes the tables, and only then. A database
	// that has settings keeps them: see SetSettings.
	Settings Settings
	// Roles are made and given their rights by Up and SQL.
	Roles Roles
	// LockWait is how long Up waits for another process that migrates or
	// maintains the partitions. 0 means one minute, negative no limit but the
	// context's.
	LockWait time.Duration
	// DirectDSN is a way around a pooler to the same database, for UpFromPool.
	// Where it is silent, the pool's configuration counts.
	DirectDSN string
	// LockTimeout is how long a statement of Up waits for a lock on a table. 0
	// means 5 s, negative no limit. In whole milliseconds, rounded up.
	LockTimeout time.Duration
	// StatementTimeout is how long a statement of Up may take. 0 means five
	// minutes, negative no limit. In whole milliseconds, rounded up.
	StatementTimeout time.Duration
	// Logger is told of migrations that were run and of waits for other processes.
	// If it is nil, warnings and errors go to the default logger of log/slog;
	// zap.NewNop() silences them.
	Logger *zap.Logger
}

// Roles are group roles, which cannot log in: make your login roles members of
// them. Empty ones are not made. Roles that exist are used as they are; making
// missing ones takes CREATEROLE.
type Roles struct {
	// Owner owns the tables and the function. The role that runs Up becomes a
	// member of it.
	Owner string
	// Maintainer is a member of Owner and so may make and retire partitions.
	// It needs an Owner.
	Maintainer string
	// App may read and write sessions and call the function that makes
	// partitions. It is given no right to make, change or drop tables; before
	// PostgreSQL 15 everybody has one in the schema public.
	App string
}

func (c Config) withDefaults() Config {
	c.Schema = cmp.Or(c.Schema, DefaultSchema)
	c.Table = cmp.Or(c.Table, DefaultTable)
	c.Settings = c.Settings.WithDefaults()
	c.LockWait = cmp.Or(c.LockWait, time.Minute)
	c.LockTimeout = cmp.Or(c.LockTimeout, 5*time.Second)
	c.StatementTimeout = cmp.Or(c.StatementTimeout, 5*time.Minute)
	c.Logger = logging.Or(c.Logger)
	return c
}

func (c Config) names() (Names, error) {
	c = c.withDefaults()
	return NamesOf(c.Schema, c.Table)
}

func (c Config) validate() error {
	if _, err := c.names(); err != nil {
		return err
	}
	if err := c.Settings.WithDefaults().Validate(); err != nil {
		return err
	}
	return c.Roles.validate()
}

func (r Roles) validate() error {
	given := map[string]string{}
	for _, role := range []struct{ field, name string }{
		{"Roles.Owner", r.Owner}, {"Roles.Maintainer", r.Maintainer}, {"Roles.App", r.App},
	} {
		if role.name == "" {
			continue
		}
		if err := pgschema.CheckName(role.field, role.name); err != nil {
			return err
		}
		if other, ok := given[role.name]; ok {
			return fmt.Errorf("%w: %s and %s are the same role", ErrInvalid, other, role.field)
		}
		given[role.name] = role.field
	}
	if r.Maintainer != "" && r.Owner == "" {
		return fmt.Errorf("%w: Roles.Maintainer needs a Roles.Owner to be a member of", ErrInvalid)
	}
	return nil
}
