package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/mysqlproc"
	"github.com/sojourn-go/sojourn/internal/mysqlserver"
	"github.com/sojourn-go/sojourn/internal/throwaway"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
	"github.com/sojourn-go/sojourn/mysqlstore"
)

const dsnVariable = "SOJOURN_MYSQL_DSN"

func mysql() backend {
	return backend{
		name: "mysql", find: "find or start MariaDB", leads: true,
		lacks: []string{
			"answers from a node's memory, and how soon it hears of a logout: every read asks the database",
			"partitions: the leader deletes expired sessions, a few at a time",
		},
		open: openMySQL, node: openMySQLNode, ended: mysqlEnded,
	}
}

// mysqlDB is the MySQL or MariaDB that the nodes share.
type mysqlDB struct {
	dsn    string
	config *driver.Config
	run    string
	table  string              // of this run
	what   string              // "MariaDB 10.11.19"; empty: it has never answered
	server *mysqlserver.Server // nil where the database was given to us
}

func newMySQLDB(dsn string) *mysqlDB {
	run := newRun()
	return &mysqlDB{run: run, table: "sojourn_" + run, dsn: dsn}
}

func openMySQL(ctx context.Context, out io.Writer) (_ database, err error) {
	d := newMySQLDB(os.Getenv(dsnVariable))
	if d.dsn == "" {
		d.server, err = mysqlserver.Start(ctx, mysqlserver.MariaDB, mysqlserver.Config{})
		if errors.Is(err, mysqlserver.ErrNotInstalled) {
			if err := mysqlserver.Install(ctx, mysqlserver.MariaDB, out); err != nil {
				return nil, noServer{fmt.Errorf("there is neither %s nor a MariaDB server here: %w", dsnVariable, err)}
			}
			d.server, err = mysqlserver.Start(ctx, mysqlserver.MariaDB, mysqlserver.Config{})
		}
		if err != nil {
			return nil, err
		}
	}
	if err := d.look(ctx); err != nil {
		_, closeErr := d.close(ctx)
		return nil, errors.Join(err, closeErr)
	}
	return d, nil
}

// look makes sure that the database answers.
func (d *mysqlDB) look(ctx context.Context) (err error) {
	const own = "sojourn"
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if d.server != nil {
		err := withMySQL(d.server.DSN(""), func(db *sql.DB) error {
			_, err := db.ExecContext(ctx, `CREATE DATABASE `+own)
			return err
		})
		if err != nil {
			return err
		}
		d.dsn = d.server.DSN(own)
	}
	if d.config, err = driver.ParseDSN(d.dsn); err != nil {
		return fmt.Errorf("%s is not a data source name of github.com/go-sql-driver/mysql", dsnVariable) // the cause could show the password
	}
	if d.config.DBName == "" {
		return fmt.Errorf("%s names no database", dsnVariable)
	}
	var version string
	err = d.with(func(db *sql.DB) error { return db.QueryRowContext(ctx, `SELECT VERSION()`).Scan(&version) })
	if err != nil {
		return fmt.Errorf("the database at %s: %w", d.place(), err)
	}
	number, rest, _ := strings.Cut(version, "-")
	d.what = "MySQL " + number
	if strings.Contains(rest, mariaDB) {
		d.what = mariaDB + " " + number
	}
	return nil
}

const mariaDB = "MariaDB"

func (d *mysqlDB) isMariaDB() bool { return strings.HasPrefix(d.what, mariaDB) }

func (d *mysqlDB) about() string { return d.what + ", " + d.place() }

func (d *mysqlDB) place() string {
	if d.server != nil {
		return fmt.Sprintf("a throwaway server on port %d", d.server.Port())
	}
	return fmt.Sprintf("%s, database %q (%s)", d.config.Addr, d.config.DBName, dsnVariable)
}

// with runs do on connections of its own.
func (d *mysqlDB) with(do func(*sql.DB) error) error { return withMySQL(d.dsn, do) }

func withMySQL(dsn string, do func(*sql.DB) error) error {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

func (d *mysqlDB) node() nodeConfig {
	conf := nodeConfig{Run: d.run, DSN: d.dsn, Table: d.table}
	if d.server != nil {
		conf.Home = filepath.Dir(d.server.DataDir())
	}
	return conf
}

func (d *mysqlDB) migrate(ctx context.Context) (string, error) {
	return "as " + d.table, d.with(func(db *sql.DB) error {
		return migrations.Up(ctx, db, migrations.Config{Table: d.table})
	})
}

func (d *mysqlDB) open(ctx context.Context) (*opened, error) {
	return openTable(ctx, d.dsn, mysqlstore.Options{Table: d.table, PruneInterval: -1})
}

// told only runs do: nodes that ask the database each time need no messages.
func (d *mysqlDB) told(_ context.Context, _ int, do func() error) (string, error) {
	return "", do()
}

// left knows the nodes' connections only where nobody else uses the server.
func (d *mysqlDB) left(ctx context.Context) (names []string, err error) {
	if d.server == nil {
		return nil, errors.ErrUnsupported
	}
	err = d.with(func(db *sql.DB) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		var own int64
		var database string
		if err := conn.QueryRowContext(ctx, `SELECT CONNECTION_ID(), DATABASE()`).Scan(&own, &database); err != nil {
			return err
		}
		all, err := mysqlproc.List(ctx, conn)
		for _, p := range all {
			if p.ID != own && p.Database == database {
				names = append(names, p.User+" from "+p.Host)
			}
		}
		return err
	})
	return names, err
}

func (d *mysqlDB) log() string {
	if d.server == nil {
		return ""
	}
	return d.server.Log()
}

func (d *mysqlDB) close(ctx context.Context) (string, error) {
	if d.server != nil {
		return serverGone, d.server.Close()
	}
	if d.what == "" {
		return "", nil // it has never answered
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	names, err := migrations.NamesOf(d.table)
	if err == nil {
		err = d.with(func(db *sql.DB) error {
			_, err := db.ExecContext(ctx, `DROP TABLE IF EXISTS `+names.Sessions+`, `+names.Meta+`, `+names.Users)
			return err
		})
	}
	if err != nil {
		err = fmt.Errorf("tables %s* are left in %s: %w", d.table, d.place(), err)
	}
	return "tables dropped", err
}

func openMySQLNode(ctx context.Context, conf nodeConfig, log *zap.Logger) (*opened, error) {
	return openTable(ctx, conf.DSN, mysqlstore.Options{
		Table: conf.Table, PruneInterval: pruneInterval, NodeName: conf.nodeName(), Logger: log,
	})
}

// openTable opens a store on a pool of its own.
func openTable(ctx context.Context, dsn string, opts mysqlstore.Options) (*opened, error) {
	// What the driver has to say comes with errors, too.
	config, err := driver.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	config.Logger = &driver.NopLogger{}
	connector, err := driver.NewConnector(config)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	store, err := mysqlstore.New(ctx, db, opts)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &opened{store: store, close: func(ctx context.Context) error {
		return errors.Join(store.Close(ctx), db.Close())
	}}, nil
}

// mysqlEnded looks for the process: a server that was killed leaves its number.
func mysqlEnded(home string) bool {
	data := filepath.Join(home, "data")
	return throwaway.Orphan(context.Background(), filepath.Join(data, "pid"), data) == nil
}
