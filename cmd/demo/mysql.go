package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"

	driver "github.com/go-sql-driver/mysql"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/testrig/mysqlserver"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
	"github.com/sojourn-go/sojourn/mysqlstore"
)

const dsnVariable = "SOJOURN_MYSQL_DSN"

func mysql() backend {
	return backend{
		name: "mysql",
		lacks: []string{
			"answers from a node's memory: every read asks the database",
			"partitions: the leader deletes expired sessions, a few at a time",
		},
		open: openMySQL, openStore: openMySQLStore,
	}
}

// openMySQL uses tables of its own, and drops them at the end, in a database that
// was given to us; else a server that is thrown away.
func openMySQL(ctx context.Context, out io.Writer) (*database, error) {
	if dsn := os.Getenv(dsnVariable); dsn != "" {
		return openTables(ctx, dsn, "")
	}
	server, err := mysqlserver.Start(ctx, mysqlserver.MariaDB, mysqlserver.Config{})
	if errors.Is(err, mysqlserver.ErrNotInstalled) {
		if err := mysqlserver.Install(ctx, mysqlserver.MariaDB, out); err != nil {
			return nil, fmt.Errorf("%w, and %s names none: %w", errNoServer, dsnVariable, err)
		}
		server, err = mysqlserver.Start(ctx, mysqlserver.MariaDB, mysqlserver.Config{})
	}
	if err != nil {
		return nil, err
	}
	var db *database
	err = withMySQL(ctx, server.DSN(""), func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, `CREATE DATABASE sojourn`)
		return err
	})
	if err == nil {
		db, err = openTables(ctx, server.DSN("sojourn"), fmt.Sprintf("a throwaway server on port %d", server.Port()))
	}
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	db.close = func(context.Context) error { return server.Close() }
	return db, nil
}

func openTables(ctx context.Context, dsn, place string) (*database, error) {
	config, err := driver.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("%s is not a data source name of github.com/go-sql-driver/mysql", dsnVariable) // the cause could show the password
	}
	if config.DBName == "" {
		return nil, fmt.Errorf("%s names no database", dsnVariable)
	}
	if place == "" {
		place = fmt.Sprintf("%s, database %q (%s)", config.Addr, config.DBName, dsnVariable)
	}
	run := newRun()
	table := "sojourn_" + run
	names, err := migrations.NamesOf(table)
	if err != nil {
		return nil, err
	}
	var version string
	err = withMySQL(ctx, dsn, func(ctx context.Context, db *sql.DB) error {
		if err := db.QueryRowContext(ctx, `SELECT VERSION()`).Scan(&version); err != nil {
			return err
		}
		return migrations.Up(ctx, db, migrations.Config{Table: table})
	})
	if err != nil {
		return nil, fmt.Errorf("the database at %s: %w", place, err)
	}
	drop := func(ctx context.Context) error {
		err := withMySQL(ctx, dsn, func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, `DROP TABLE IF EXISTS `+names.Sessions+`, `+names.Meta+`, `+names.Users)
			return err
		})
		if err != nil {
			return fmt.Errorf("tables %s* are left in %s: %w", table, place, err)
		}
		return nil
	}
	return &database{
		about: fmt.Sprintf("MySQL or MariaDB %s, %s", version, place),
		node:  nodeConfig{Run: run, DSN: dsn, Table: table},
		close: drop,
	}, nil
}

// withMySQL runs do on connections of its own, even if ctx has ended.
func withMySQL(ctx context.Context, dsn string, do func(context.Context, *sql.DB) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerLimit)
	defer cancel()
	db, err := openPool(dsn)
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, db), db.Close())
}

func openPool(dsn string) (*sql.DB, error) {
	_ = driver.SetLogger(&driver.NopLogger{}) // what the driver has to say comes with errors, too
	return sql.Open("mysql", dsn)
}

// openMySQLStore opens a store on a pool of its own, as a service does.
func openMySQLStore(ctx context.Context, conf nodeConfig, log *zap.Logger) (*opened, error) {
	db, err := openPool(conf.DSN)
	if err != nil {
		return nil, err
	}
	store, err := mysqlstore.New(ctx, db, mysqlstore.Options{
		Table: conf.Table, PruneInterval: pruneInterval, NodeName: conf.nodeName(), Logger: log,
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &opened{store: store, close: func(ctx context.Context) error {
		return errors.Join(store.Close(ctx), db.Close())
	}}, nil
}
