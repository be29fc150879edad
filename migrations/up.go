package migrations

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/tern/v2/migrate"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/internal/wait"
)

// Up brings the database to the newest version. It makes the schema, the
// tables, the function, the partitions for the first sessions, and the roles of
// cfg, as far as they are missing. Where nothing is missing it changes and
// locks nothing. Any number of processes may call it at once.
//
// It opens a connection of its own with a copy of config, which must lead to
// the server itself, not to a pooler. Up tries a server that cannot be reached
// yet again until ctx ends, or for 30 seconds if ctx has no deadline. A wrong
// password or an unknown database fails at once. Each migration is a
// transaction: one that is interrupted has not happened, and Up can be called
// again.
//
// A database that a newer program has migrated is left as it is: nil if this
// program can still use it, else ErrIncompatible. Otherwise it fails with an
// error of this package, of the server or of ctx, its cause included.
func Up(ctx context.Context, config *pgx.ConnConfig, cfg Config) error {
	return wait.Because(ctx, up(ctx, config, cfg, FS()))
}

// UpFromPool is [Up] for the database that pool leads to, with all that the pool
// knows of connecting: its configuration, BeforeConnect (credentials that change)
// and AfterConnect (another role). The connection is not the pool's.
//
// Behind a pooler it needs Config.DirectDSN, and is ErrNotDirect without: a way
// around, to the same database, which counts where it says something, as in
// pgstore's Options.
func UpFromPool(ctx context.Context, pool *pgxpool.Pool, cfg Config) error {
	if pool == nil {
		return fmt.Errorf("%w: pool is nil", ErrInvalid)
	}
	source, err := direct.Around(pool, cfg.DirectDSN)
	if err != nil {
		return fmt.Errorf("%w: Config.DirectDSN: %w", ErrInvalid, err)
	}
	return wait.Because(ctx, upBy(ctx, source, cfg, FS()))
}

func up(ctx context.Context, config *pgx.ConnConfig, cfg Config, fsys fs.FS) error {
	if config == nil {
		return fmt.Errorf("%w: config is nil", ErrInvalid)
	}
	return upBy(ctx, direct.New(config), cfg, fsys)
}

func upBy(ctx context.Context, source *direct.Source, cfg Config, fsys fs.FS) error {
	s, err := newScript(cfg, fsys)
	if err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	n, err := cfg.names()
	if err != nil {
		return err
	}
	conn, err := connect(ctx, source, cfg)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return runner{conn: conn, cfg: cfg, names: n, script: s, version: int32(len(s.steps))}.run(ctx)
}

type runner struct {
	conn    *pgx.Conn
	cfg     Config
	names   Names
	script  script
	version int32 // the newest
}

func (r runner) run(ctx context.Context) error {
	if _, done, err := r.look(ctx); done || err != nil {
		return err
	}
	if err := lock(ctx, r.conn, r.names, r.cfg); err != nil {
		return err
	}
	st, done, err := r.look(ctx)
	if done || err != nil {
		return err
	}
	if err := r.makeSchema(ctx, st); err != nil {
		return err
	}
	if st.Rowless() {
		if err := r.makeMetaRow(ctx); err != nil {
			return err
		}
		if st, _, err = r.look(ctx); err != nil {
			return err
		}
	}
	if st.Version < r.version {
		if err := r.migrate(ctx, st); err != nil {
			return err
		}
		if st, _, err = r.look(ctx); err != nil {
			return err
		}
	}
	if !st.VersionTable {
		if err := r.makeVersionTable(ctx, st); err != nil {
			return err
		}
	}
	if st.Function == "" || st.Renamed(r.names, r.version) {
		if _, err := r.conn.Exec(ctx, r.script.makePartition); err != nil {
			return pgschema.Explain(r.names, "make the function that makes partitions", err)
		}
		r.log("made the function that makes partitions")
	}
	if err := r.makeRoles(ctx); err != nil {
		return err
	}
	if _, done, err = r.look(ctx); err == nil && !done {
		err = pgschema.Errorf(r.names, ErrOutdated, "it is still not as it should be after all migrations to version %d", r.version)
	}
	return err
}

// look reports whether there is nothing to do.
func (r runner) look(ctx context.Context) (st pgschema.State, done bool, err error) {
	st, err = pgschema.Inspect(ctx, r.conn, r.names)
	if err != nil {
		return st, false, err
	}
	err = st.Usable(r.names, r.version)
	switch {
	case errors.Is(err, ErrSchemaMissing), errors.Is(err, ErrNotMigrated), errors.Is(err, ErrOutdated):
		return st, false, nil
	case err != nil || st.Version > r.version:
		return st, true, err
	case !st.Whole():
		return st, false, nil
	}
	done, err = r.rolesDone(ctx)
	return st, done, err
}

func (r runner) makeSchema(ctx context.Context, st pgschema.State) error {
	if st.Schema {
		return nil
	}
	_, err := r.conn.Exec(ctx, `CREATE SCHEMA `+pgx.Identifier{r.names.Schema}.Sanitize())
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "42P06", "23505": // duplicate_schema, unique_violation: made meanwhile by somebody else
			return nil
		case "42501": // insufficient_privilege
			return pgschema.Errorf(r.names, ErrSchemaMissing, "%w: role %q may not create it: %w", ErrPermission, r.conn.Config().User, err)
		}
	}
	if err != nil {
		return pgschema.Explain(r.names, "create the schema", err)
	}
	r.log("created schema")
	return nil
}

// makeMetaRow writes the row that a restore has left out.
func (r runner) makeMetaRow(ctx context.Context) error {
	if _, err := r.conn.Exec(ctx, r.script.metaRow); err != nil {
		return pgschema.Explain(r.names, "write the row of the meta table", err)
	}
	r.log("wrote the row of the meta table, which was empty")
	return nil
}

// makeVersionTable makes tern's table say what the meta table says. The meta
// table decides: it tells what the database holds, also where another tool ran
// the migrations or a restore has left tern's table out.
func (r runner) makeVersionTable(ctx context.Context, st pgschema.State) error {
	if err := r.checkRights(ctx); err != nil {
		return err
	}
	if _, err := r.migrator(ctx, st); err != nil {
		return err
	}
	r.log("made the version table", zap.Int32("version", st.Version))
	return nil
}

func (r runner) migrator(ctx context.Context, st pgschema.State) (*migrate.Migrator, error) {
	m, err := migrate.NewMigrator(ctx, r.conn, r.names.Version)
	if err != nil {
		return nil, pgschema.Explain(r.names, "make the version table", err)
	}
	if _, err := r.conn.Exec(ctx, `UPDATE `+r.names.Version+` SET version = $1 WHERE version <> $1`, st.Version); err != nil {
		return nil, pgschema.Explain(r.names, "set the version table", err)
	}
	return m, nil
}

func (r runner) migrate(ctx context.Context, st pgschema.State) error {
	if err := r.checkRights(ctx); err != nil {
		return err
	}
	m, err := r.migrator(ctx, st)
	if err != nil {
		return err
	}
	for _, step := range r.script.steps {
		// As functions, so that no name can be taken for a directive of tern's.
		m.Migrations = append(m.Migrations, &migrate.Migration{
			Sequence: step.Sequence,
			Name:     step.Name,
			UpFunc: func(ctx context.Context, conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, step.UpSQL)
				return err
			},
		})
	}
	m.OnStart = func(version int32, name, _, _ string) {
		r.log("running migration", zap.Int32("version", version), zap.String("name", name))
	}
	if err := m.Migrate(ctx); err != nil {
		return pgschema.Explain(r.names, "migrate", err)
	}
	return nil
}

// checkRights says what is missing before the server does so with the name of
// the first object it could not make.
func (r runner) checkRights(ctx context.Context) error {
	var may bool
	var current string
	err := r.conn.QueryRow(ctx, `SELECT pg_catalog.has_schema_privilege($1::text, 'USAGE')
			AND pg_catalog.has_schema_privilege($1::text, 'CREATE'),
		coalesce(pg_catalog.current_schema()::text, '')`, r.names.Schema).Scan(&may, &current)
	if err != nil {
		return pgschema.Explain(r.names, "check the rights", err)
	}
	if !may {
		return pgschema.Errorf(r.names, ErrPermission, "role %q may not create tables in the schema", r.conn.Config().User)
	}
	if current != r.names.Schema {
		return pgschema.Errorf(r.names, ErrNotDirect, "the search_path of the new connection is not the one asked for but leads to schema %q: a pooler or AfterConnect changes it", current)
	}
	return nil
}

// makeRoles tries again when it fails because the same role is being changed
// for another database: locks do not reach that far.
func (r runner) makeRoles(ctx context.Context) error {
	if r.script.roles == "" {
		return nil
	}
	for try := 1; ; try++ {
		_, err := r.conn.Exec(ctx, r.script.roles)
		if err == nil {
			return nil
		}
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || try == 10 || (pgErr.Code != "XX000" && pgErr.Code != "23505") {
			return pgschema.Explain(r.names, "make the roles", err)
		}
		select {
		case <-time.After(rand.N(time.Duration(try) * 20 * time.Millisecond)):
		case <-ctx.Done():
			return pgschema.Explain(r.names, "make the roles", context.Cause(ctx))
		}
	}
}

// rolesDone reports whether the roles of the configuration have their rights.
func (r runner) rolesDone(ctx context.Context) (done bool, err error) {
	if r.script.roles == "" {
		return true, nil
	}
	roles, n := r.cfg.Roles, r.names
	err = r.conn.QueryRow(ctx, `
		WITH r AS (
			SELECT (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1::text) AS owner,
				(SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2::text) AS maintainer,
				(SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $3::text) AS app,
				pg_catalog.to_regclass($4::text)::oid AS sessions,
				pg_catalog.to_regclass($5::text)::oid AS meta,
				pg_catalog.to_regprocedure($6::text)::oid AS make_partition,
				pg_catalog.to_regnamespace($7::text)::oid AS space
		)
		SELECT ($1::text = '' OR coalesce((
				SELECT bool_and(c.relowner = r.owner) FROM pg_catalog.pg_class AS c
				WHERE c.oid IN (r.sessions, r.meta)
					OR c.oid IN (SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = r.sessions)
			), false))
			AND ($2::text = '' OR coalesce(pg_catalog.pg_has_role(r.maintainer, r.owner, 'USAGE'), false))
			AND ($3::text = '' OR coalesce(
				pg_catalog.has_schema_privilege(r.app, r.space, 'USAGE')
				AND pg_catalog.has_table_privilege(r.app, r.sessions, 'SELECT')
				AND pg_catalog.has_table_privilege(r.app, r.sessions, 'INSERT')
				AND pg_catalog.has_table_privilege(r.app, r.sessions, 'UPDATE')
				AND pg_catalog.has_table_privilege(r.app, r.sessions, 'DELETE')
				AND pg_catalog.has_table_privilege(r.app, r.meta, 'SELECT')
				AND pg_catalog.has_column_privilege(r.app, r.meta, 'maintained_at', 'UPDATE')
				AND pg_catalog.has_column_privilege(r.app, r.meta, 'retired_at', 'UPDATE')
				AND (r.make_partition IS NULL OR pg_catalog.has_function_privilege(r.app, r.make_partition, 'EXECUTE')), false))
		FROM r`,
		roles.Owner, roles.Maintainer, roles.App, n.Sessions, n.Meta, n.MakePartition+"(integer)",
		pgx.Identifier{n.Schema}.Sanitize()).Scan(&done)
	if err != nil {
		return false, pgschema.Explain(n, "check the roles", err)
	}
	return done, nil
}

func (r runner) log(msg string, fields ...zap.Field) {
	r.cfg.Logger.Info(msg, append(fields, zap.String("schema", r.names.Schema), zap.String("table", r.names.Table))...)
}
