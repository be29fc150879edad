package main

import (
	"cmp"
	"context"
	"crypto/rand"
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
)

const urlVariable = "SOJOURN_PG_URL"

// database is the Postgres that the nodes share.
type database struct {
	config *pgx.ConnConfig
	dsn    string
	about  string           // what it is, for people
	run    string           // tells this run's schema and connections from others'
	wire   string           // where it is reached by TCP; empty: it is not, see wireOf
	server *pgserver.Server // nil where the database was given to us
}

// openDatabase finds a database or starts one. What it installs is said on out.
func openDatabase(ctx context.Context, out io.Writer) (*database, error) {
	d := &database{run: "demo_" + strings.ToLower(rand.Text()[:8]), dsn: os.Getenv(urlVariable)}
	if d.dsn == "" {
		server, err := pgserver.Start(ctx, pgserver.Config{})
		if errors.Is(err, pgserver.ErrNotInstalled) {
			if err := pgserver.Install(ctx, out); err != nil {
				return nil, fmt.Errorf("there is neither %s nor a Postgres server here: %w", urlVariable, err)
			}
			server, err = pgserver.Start(ctx, pgserver.Config{})
		}
		if err != nil {
			return nil, err
		}
		d.server, d.dsn = server, server.DSN("postgres")
	}
	if err := d.look(ctx); err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	return d, nil
}

// look makes sure that the database answers.
func (d *database) look(ctx context.Context) error {
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
	version, _, _ = strings.Cut(version, " ")
	d.about = fmt.Sprintf("PostgreSQL %s, %s", version, d.place())
	return nil
}

func (d *database) place() string {
	if d.server != nil {
		return fmt.Sprintf("a throwaway server on port %d", d.server.Port())
	}
	return fmt.Sprintf("%s port %d, database %q (%s)", d.config.Host, d.config.Port,
		cmp.Or(d.config.Database, d.config.User), urlVariable)
}

// with runs do on a connection of its own.
func (d *database) with(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.ConnectConfig(ctx, d.config)
	if err != nil {
		return err
	}
	err = do(conn)
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, conn.Close(bye))
}

func (d *database) schema() string { return "sojourn_" + d.run }

func (d *database) tables() migrations.Config { return migrations.Config{Schema: d.schema()} }

// application is what the connections of a process call themselves. That of
// the leader begins like this too.
func (d *database) application(of string) string { return "sojourn " + d.run + " " + of }

// home is the folder that our server lives in, "" if we have none.
func (d *database) home() string {
	if d.server == nil {
		return ""
	}
	return filepath.Dir(d.server.DataDir())
}

func (d *database) migrate(ctx context.Context) error {
	return migrations.Up(ctx, d.config, d.tables())
}

// close leaves nothing behind. It also works when ctx has ended.
func (d *database) close(ctx context.Context) error {
	if d.server != nil {
		return d.server.Close()
	}
	if d.about == "" {
		return nil // it has never answered
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := d.with(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `DROP SCHEMA IF EXISTS `+pgx.Identifier{d.schema()}.Sanitize()+` CASCADE`)
		return err
	})
	if err != nil {
		return fmt.Errorf("schema %s is left in %s: %w", d.schema(), d.place(), err)
	}
	return nil
}
