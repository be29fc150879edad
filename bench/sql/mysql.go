package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/alexedwards/scs/mysqlstore"
	"github.com/alexedwards/scs/v2"
	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/mysqlserver"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
	sojourn "github.com/sojourn-go/sojourn/mysqlstore"
)

// startMySQL has a database for each store on one MariaDB, which flushes each
// commit to disk. The driver puts the arguments into the statements of scs, which
// then take one round trip each.
func startMySQL(ctx context.Context) (*site, error) { return startMySQLFor(ctx, true) }

// startPlainMySQL leaves the driver's settings as they are: it prepares each
// statement of scs, every time.
func startPlainMySQL(ctx context.Context) (*site, error) { return startMySQLFor(ctx, false) }

func startMySQLFor(ctx context.Context, interpolate bool) (*site, error) {
	server, err := mysqlserver.Start(ctx, mysqlserver.MariaDB, mysqlserver.Config{
		Durable:  true,
		Settings: map[string]string{"innodb_buffer_pool_size": "256M", "innodb_log_file_size": "256M"},
	})
	if errors.Is(err, mysqlserver.ErrNotInstalled) {
		return nil, fmt.Errorf("%w; run: %s", err, mysqlserver.InstallHint(mysqlserver.MariaDB))
	}
	if err != nil {
		return nil, err
	}
	return &site{
		about: fmt.Sprintf("MariaDB %s, innodb_flush_log_at_trx_commit = 1; interpolateParams = %t", server.Installation().Version, interpolate),
		own:   candidate{"mysqlstore", func(ctx context.Context) (backend, error) { return openMySQL(ctx, server, interpolate) }},
		peer:  candidate{"scs mysqlstore", func(ctx context.Context) (backend, error) { return openPeerMySQL(ctx, server, interpolate) }},
		close: server.Close,
	}, nil
}

func openMySQL(ctx context.Context, server *mysqlserver.Server, interpolate bool) (backend, error) {
	db, err := newDatabase(ctx, server, "own", interpolate)
	if err != nil {
		return nil, err
	}
	err = migrations.Up(ctx, db, migrations.Config{})
	var store *sojourn.Store
	if err == nil {
		store, err = sojourn.New(ctx, db, sojourn.Options{PruneInterval: -1})
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return own{store, db.Close}, nil
}

func openPeerMySQL(ctx context.Context, server *mysqlserver.Server, interpolate bool) (backend, error) {
	db, err := newDatabase(ctx, server, "peer", interpolate)
	if err != nil {
		return nil, err
	}
	return openPeer(ctx, db, 16, []string{
		`CREATE TABLE sessions (token CHAR(43) PRIMARY KEY, data BLOB NOT NULL, expiry TIMESTAMP(6) NOT NULL)`,
		`CREATE INDEX sessions_expiry_idx ON sessions (expiry)`,
	}, func(db *sql.DB) scs.Store { return mysqlstore.NewWithCleanupInterval(db, 0) })
}

// newDatabase makes a database and a pool on it.
func newDatabase(ctx context.Context, server *mysqlserver.Server, name string, interpolate bool) (*sql.DB, error) {
	admin, err := sql.Open("mysql", server.DSN(""))
	if err != nil {
		return nil, err
	}
	_, err = admin.ExecContext(ctx, `CREATE DATABASE `+name)
	if err = errors.Join(err, admin.Close()); err != nil {
		return nil, err
	}
	config, err := mysql.ParseDSN(server.DSN(name))
	if err != nil {
		return nil, err
	}
	config.InterpolateParams = interpolate
	config.Params = map[string]string{"time_zone": "'+00:00'"}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}
