package mysqlserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

const (
	startLimit = 5 * time.Minute
	stopLimit  = 2 * time.Minute
	homePrefix = "sojourn-my-"
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
	inst     Installation
	acct     *throwaway.Account
	settings map[string]string
	home     *throwaway.Home
	port     int
	password string

	mu       sync.Mutex // serialises starting and ending
	proc     *throwaway.Process
	ending   bool  // we have asked proc to end
	vanished error // what Err returns
	closed   bool
}

// Start starts a server in a new folder and returns when it accepts
// connections. ctx bounds the start only; the server runs until Close.
func Start(ctx context.Context, f Flavour, cfg Config) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	acct, err := serverAccount()
	if err != nil {
		return nil, err
	}
	found, err := Find(ctx, f)
	if err != nil {
		return nil, err
	}
	sweep(ctx)
	home, err := throwaway.NewHome(homePrefix, cfg.Durable)
	if err != nil {
		return nil, fmt.Errorf("mysqlserver: start: %w", err)
	}
	s := &Server{inst: found[0], acct: acct, settings: settings(f, cfg), home: home}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("mysqlserver: start %s: %w", f, err), s.Close())
	}
	return s, nil
}

func (s *Server) begin(ctx context.Context) (err error) {
	// Servers that share a folder for temporary files get in each other's way.
	if err := errors.Join(os.Mkdir(s.tmpDir(), 0o700), s.acct.Own(s.tmpDir())); err != nil {
		return err
	}
	if s.password, err = initialise(ctx, s.inst, s.acct, s.DataDir()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.launch(ctx)
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

// launch starts the server and waits until it answers. s.mu is held.
func (s *Server) launch(ctx context.Context) error {
	const attempts = 10
	fixed := s.port != 0
	for attempt := 1; ; attempt++ {
		if !fixed {
			port, err := loopback.FreePort()
			if err != nil {
				return err
			}
			s.port = port
		}
		printed := len(s.Log())
		err := s.launchOnce(ctx)
		if err == nil {
			return nil
		}
		log := s.Log()[printed:]
		if attempt == attempts || !strings.Contains(log, "Address already in use") || ctx.Err() != nil {
			return fmt.Errorf("%w; the server said:\n%s", err, strings.TrimSpace(log))
		}
		if fixed { // somebody tries out whether it is free
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

func (s *Server) launchOnce(ctx context.Context) error {
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{
		"--datadir=" + s.DataDir(),
		"--tmpdir=" + s.tmpDir(),
		"--port=" + strconv.Itoa(s.port),
		"--socket=socket", "--pid-file=" + pidFile, // below the data folder: paths of sockets must be short
	}
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		args = append(args, "--"+strings.ReplaceAll(name, "_", "-")+"="+s.settings[name])
	}
	cmd := s.inst.build(context.Background(), args...) // it outlives the start
	s.acct.Prepare(cmd, configPrefixes...)
	cmd.Stdout, cmd.Stderr = log, log
	s.ending = true // an end before it is ready is the start's failure
	if s.proc, err = throwaway.Spawn(cmd, throwaway.Kill); err != nil {
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		s.endNow()
		return err
	}
	s.ending = false
	return nil
}

// awaitReady returns once our server, and not another one that got the port
// first, answers.
func (s *Server) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		dir, err := s.askDataDir(ctx)
		if err == nil && filepath.Clean(dir) == s.DataDir() {
			return nil
		}
		select {
		case <-s.proc.Done():
			return fmt.Errorf("the server ended (%v)", s.proc.State())
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func (s *Server) askDataDir(ctx context.Context) (dir string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cfg := s.config("")
	cfg.Logger = &mysql.NopLogger{} // it may not be there yet
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return "", err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	err = db.QueryRowContext(ctx, "SELECT @@datadir").Scan(&dir)
	return dir, err
}

func (s *Server) config(database string) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd = "root", s.password
	cfg.Net, cfg.Addr = "tcp", loopback.Addr(s.port)
	cfg.DBName = database
	return cfg
}

// DSN returns the data source name of a database for the superuser, in the
// format of github.com/go-sql-driver/mysql.
func (s *Server) DSN(database string) string { return s.config(database).FormatDSN() }

// Port is the TCP port on 127.0.0.1. A restart keeps it.
func (s *Server) Port() int { return s.port }

// Installation names the program that the server runs from.
func (s *Server) Installation() Installation { return s.inst }

// DataDir is the server's data folder.
func (s *Server) DataDir() string { return dataDir(s.home.Dir) }

func dataDir(home string) string { return filepath.Join(home, "data") }

func (s *Server) tmpDir() string { return filepath.Join(s.home.Dir, "tmp") }

// LogPath is the file that holds what the server printed, over all restarts.
func (s *Server) LogPath() string { return filepath.Join(s.home.Dir, "server.log") }

// Log returns what the server has printed so far.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.LogPath())
	if err != nil {
		return "" // not started yet, or closed
	}
	return string(text)
}
