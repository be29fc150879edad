package mysqlserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// Config says what kind of server to start. The zero value is a fast one.
type Config struct {
	// Durable makes commits survive a crash of the machine, which costs a disk
	// flush for each. Without it they survive a crash of the server only.
	Durable bool
	// Settings are server variables, such as "wait_timeout". They win over the
	// defaults: listening on 127.0.0.1 only, 300 connections, no binary log.
	Settings map[string]string
}

// Server is a running MariaDB or MySQL. Its methods are safe for concurrent use.
type Server struct {
	*throwaway.Server
	inst     Installation
	settings map[string]string
	password string
}

// Start starts a server in a new folder and returns when it accepts
// connections. ctx bounds the start only; the server runs until Close.
func Start(ctx context.Context, f Flavour, cfg Config) (*Server, error) {
	acct, err := serverAccount()
	if err != nil {
		return nil, err
	}
	inst, err := Find(ctx, f)
	if err != nil {
		return nil, err
	}
	s := &Server{inst: inst, settings: settings(f, cfg)}
	s.Server, err = throwaway.New(ctx, throwaway.Program{
		Name: string(f), Account: acct, Without: configPrefixes,
		Stop: throwaway.Terminate, Quit: throwaway.Kill,
		Command: s.command, Ask: s.ask,
		Ready: ": ready for connections", PortTaken: "Address already in use",
	}, cfg.Durable)
	if err != nil {
		return nil, err
	}
	// Servers that share a folder for temporary files get in each other's way.
	err = acct.Mkdir(s.tmpDir())
	if err == nil {
		s.password, err = template(inst, acct).Copy(ctx, s.DataDir())
	}
	if err == nil {
		err = s.Server.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mysqlserver: %w", err), s.Close())
	}
	return s, nil
}

func settings(f Flavour, cfg Config) map[string]string {
	all := map[string]string{
		"bind_address":      "127.0.0.1",
		"max_connections":   "300",
		"skip_name_resolve": "ON",
		// The number of requests that the kernel queues is limited over all
		// servers of the machine.
		"innodb_use_native_aio":   "OFF",
		"innodb_buffer_pool_size": "64M",
	}
	if f == MySQL {
		maps.Copy(all, map[string]string{
			"mysqlx":                   "OFF",
			"log_bin":                  "OFF",
			"performance_schema":       "OFF",
			"secure_file_priv":         "NULL",
			"innodb_redo_log_capacity": "32M",
		})
	} else {
		all["innodb_log_file_size"] = "32M"
		// Releases that know it reserve terabytes of addresses otherwise.
		all["loose_innodb_buffer_pool_size_max"] = "256M"
	}
	if cfg.Durable {
		all["innodb_flush_log_at_trx_commit"] = "1"
	} else {
		// Each commit is written but not flushed: a killed server keeps it. Pages
		// are still written twice, as a kill can tear one.
		all["innodb_flush_log_at_trx_commit"] = "2"
		all["innodb_flush_method"] = "nosync"
		if f == MariaDB {
			all["debug_no_sync"] = "ON" // of what is not InnoDB's: definitions of tables
		}
	}
	maps.Copy(all, cfg.Settings)
	return all
}

func (s *Server) command() (*exec.Cmd, error) {
	args := []string{
		"--datadir=" + s.DataDir(),
		"--tmpdir=" + s.tmpDir(),
		"--port=" + strconv.Itoa(s.Port()),
		"--socket=socket", "--pid-file=pid", // below the data folder: paths of sockets must be short
	}
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		args = append(args, "--"+strings.ReplaceAll(name, "_", "-")+"="+s.settings[name])
	}
	return s.inst.build(context.Background(), args...), nil // it outlives the start
}

// ask fails unless the server that answers has our data folder.
func (s *Server) ask(ctx context.Context) error {
	cfg := s.config("")
	cfg.Logger = &mysql.NopLogger{} // it may not be there yet
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	var dir string
	if err := db.QueryRowContext(ctx, "SELECT @@datadir").Scan(&dir); err != nil {
		return err
	}
	if filepath.Clean(dir) != s.DataDir() {
		return fmt.Errorf("the server of %s has the port", dir)
	}
	return nil
}

func (s *Server) config(database string) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd = "root", s.password
	cfg.Net, cfg.Addr = "tcp", loopback.Addr(s.Port())
	cfg.DBName = database
	return cfg
}

// DSN returns the data source name of a database for the superuser, in the
// format of github.com/go-sql-driver/mysql.
func (s *Server) DSN(database string) string { return s.config(database).FormatDSN() }

// Installation names the program that the server runs from.
func (s *Server) Installation() Installation { return s.inst }

func (s *Server) tmpDir() string { return filepath.Join(s.Dir(), "tmp") }
