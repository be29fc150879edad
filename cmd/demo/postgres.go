package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/pgserver"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore"
)

const urlVariable = "SOJOURN_PG_URL"

func postgres() backend {
	return backend{
		name: "postgres", find: "find or start Postgres", memory: true, leads: true,
		open: openPostgres, node: openPostgresNode, ended: postgresEnded,
	}
}

// postgresDB is the Postgres that the nodes share.
type postgresDB struct {
	config  *pgx.ConnConfig
	dsn     string
	version string           // empty: it has never answered
	run     string           // tells this run's schema and connections from others'
	wire    string           // where it is reached by TCP; empty: it is not, see wireOf
	server  *pgserver.Server // nil where the database was given to us
}

func openPostgres(ctx context.Context, out io.Writer) (database, error) {
	d := &postgresDB{run: newRun(), dsn: os.Getenv(urlVariable)}
	if d.dsn == "" {
		server, err := pgserver.Start(ctx, pgserver.Config{})
		if errors.Is(err, pgserver.ErrNotInstalled) {
			if err := pgserver.Install(ctx, out); err != nil {
				return nil, noServer{fmt.Errorf("there is neither %s nor a Postgres server here: %w", urlVariable, err)}
			}
			server, err = pgserver.Start(ctx, pgserver.Config{})
		}
		if err != nil {
			return nil, err
		}
		d.server, d.dsn = server, server.DSN("postgres")
	}
	if err := d.look(ctx); err != nil {
		_, closeErr := d.close(ctx)
		return nil, errors.Join(err, closeErr)
	}
	return d, nil
}

// look makes sure that the database answers.
func (d *postgresDB) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	config, err := pgx.ParseConfig(d.dsn)
	if err != nil {
		return fmt.Errorf("%s: %w", urlVariable, err) // pgx leaves out the password
	}
	d.config = config
	d.config.RuntimeParams["application_name"] = d.application("check")
	var version string
	err = d.with(ctx, func(conn *pgx.Conn) error {
		d.wire = wireOf(conn)
		return conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('server_version')`).Scan(&version)
	})
	if err != nil {
		return fmt.Errorf("the database at %s: %w", d.place(), err)
	}
	d.version, _, _ = strings.Cut(version, " ")
	return nil
}

func (d *postgresDB) about() string { return fmt.Sprintf("PostgreSQL %s, %s", d.version, d.place()) }

func (d *postgresDB) place() string {
	if d.server != nil {
		return fmt.Sprintf("a throwaway server on port %d", d.server.Port())
	}
	return fmt.Sprintf("%s port %d, database %q (%s)", d.config.Host, d.config.Port,
		cmp.Or(d.config.Database, d.config.User), urlVariable)
}

// with runs do on a connection of its own.
func (d *postgresDB) with(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.ConnectConfig(ctx, d.config)
	if err != nil {
		return err
	}
	err = do(conn)
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, conn.Close(bye))
}

func (d *postgresDB) schema() string { return "sojourn_" + d.run }

func (d *postgresDB) tables() migrations.Config { return migrations.Config{Schema: d.schema()} }

// application is what the connections of a process call themselves. That of
// the leader begins like this too.
func (d *postgresDB) application(of string) string { return "sojourn " + d.run + " " + of }

func (d *postgresDB) node() nodeConfig {
	conf := nodeConfig{Run: d.run, DSN: d.dsn, Schema: d.schema()}
	if d.server != nil {
		conf.Home = filepath.Dir(d.server.DataDir())
	}
	return conf
}

func (d *postgresDB) migrate(ctx context.Context) (string, error) {
	return "in schema " + d.schema(), migrations.Up(ctx, d.config, d.tables())
}

func (d *postgresDB) open(ctx context.Context) (*opened, error) {
	return openPG(ctx, d.dsn, d.application("check"), pgstore.Options{Schema: d.schema(), CacheBytes: -1, PruneInterval: -1})
}

func (d *postgresDB) left(ctx context.Context) (names []string, err error) {
	err = d.with(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `
SELECT application_name FROM pg_catalog.pg_stat_activity
WHERE pg_catalog.starts_with(application_name, $1) AND pid <> pg_catalog.pg_backend_pid()`, d.application("node"))
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return names, err
}

func (d *postgresDB) log() string {
	if d.server == nil {
		return ""
	}
	return d.server.Log()
}

func (d *postgresDB) close(ctx context.Context) (string, error) {
	if d.server != nil {
		return serverGone, d.server.Close()
	}
	if d.version == "" {
		return "", nil // it has never answered
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := d.with(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `DROP SCHEMA IF EXISTS `+pgx.Identifier{d.schema()}.Sanitize()+` CASCADE`)
		return err
	})
	if err != nil {
		err = fmt.Errorf("schema %s is left in %s: %w", d.schema(), d.place(), err)
	}
	return "schema dropped", err
}
