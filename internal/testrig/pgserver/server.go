package pgserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

const (
	startLimit = 5 * time.Minute
	stopLimit  = 2 * time.Minute
)

// Config says what kind of server to start. The zero value is a fast one.
type Config struct {
	// Bin is the folder of the server programs; "" takes the first of Find.
	Bin string
	// Durable makes commits survive a crash of the machine (fsync and
	// full_page_writes on), which costs a disk flush for each. Without it they
	// survive a crash of the server only.
	Durable bool
	// Settings are server parameters. They win over the defaults: listening on
	// 127.0.0.1 only, 300 connections, time zone UTC.
	Settings map[string]string
}

// Server is a running Postgres. Its methods are safe for concurrent use.
type Server struct {
	inst     Installation
	acct     *throwaway.Account
	settings map[string]string
	home     *throwaway.Home
	port     int
	password string

	mu     sync.Mutex // serialises starting and ending
	proc   *throwaway.Process
	closed bool
}

// Start starts a server in a new folder and returns when it accepts
// connections. ctx bounds the start only; the server runs until Close.
// All servers started from one installation have the same system identifier.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	return start(ctx, cfg, func(s *Server) (err error) {
		s.password, err = initialise(ctx, s.inst, s.acct, s.DataDir())
		return err
	})
}

func start(ctx context.Context, cfg Config, fill func(*Server) error) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	acct, err := serverAccount()
	if err != nil {
		return nil, err
	}
	inst, err := choose(ctx, cfg.Bin)
	if err != nil {
		return nil, err
	}
	sweep(ctx)
	home, err := throwaway.NewHome(homePrefix, cfg.Durable)
	if err != nil {
		return nil, fmt.Errorf("pgserver: start: %w", err)
	}
	s := &Server{inst: inst, acct: acct, settings: settings(cfg), home: home}
	err = fill(s)
	if err == nil {
		s.mu.Lock()
		err = s.launch(ctx)
		s.mu.Unlock()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pgserver: start: %w", err), s.Close())
	}
	return s, nil
}

func choose(ctx context.Context, bin string) (Installation, error) {
	if bin != "" {
		inst, err := inspect(ctx, bin)
		if err != nil {
			return inst, fmt.Errorf("pgserver: Config.Bin=%s: %w", bin, err)
		}
		return inst, nil
	}
	found, err := Find(ctx)
	if err != nil {
		return Installation{}, err
	}
	return found[0], nil
}

func settings(cfg Config) map[string]string {
	durable := "off"
	if cfg.Durable {
		durable = "on"
	}
	all := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "", // Debian's default is not writable for us, and long paths fail
		"max_connections":         "300",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"log_line_prefix":         "%m [%p] %q%u@%d ",
		"fsync":                   durable,
		"full_page_writes":        durable,
		"synchronous_commit":      "on", // off would lose commits when only the server is killed
		// A standby that lost its primary looks for it again this often.
		"wal_retrieve_retry_interval": "100ms",
	}
	maps.Copy(all, cfg.Settings)
	return all
}

// launch starts the postmaster and waits until it answers. s.mu is held.
func (s *Server) launch(ctx context.Context) error {
	const attempts = 10
	for attempt := 1; ; {
		fixed := s.port != 0
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
		// A killed server's memory is in use until the last of its processes is gone.
		if strings.Contains(log, "pre-existing shared memory block") {
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
				continue
			}
		}
		if attempt == attempts || !strings.Contains(log, "could not bind") || ctx.Err() != nil {
			return fmt.Errorf("%w; the server said:\n%s", err, strings.TrimSpace(log))
		}
		if !fixed {
			s.port = 0
		}
		attempt++
	}
}

func (s *Server) launchOnce(ctx context.Context) error {
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", s.DataDir(), "-c", "port=" + strconv.Itoa(s.port)}
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		args = append(args, "-c", name+"="+s.settings[name])
	}
	cmd := exec.Command(filepath.Join(s.inst.BinDir, "postgres"), args...)
	s.acct.Prepare(cmd, configPrefix)
	cmd.Stdout, cmd.Stderr = log, log
	if s.proc, err = throwaway.Spawn(cmd, sigImmediate); err != nil {
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		s.endNow()
		return err
	}
	return nil
}

// awaitReady returns once our server, and not another one that got the port
// first, answers.
func (s *Server) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		dir, err := s.askDataDir(ctx)
		if err == nil && dir == s.DataDir() {
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
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir)
	return dir, err
}

// DSN returns the URL of a database for the superuser.
func (s *Server) DSN(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", s.password),
		Host:     loopback.Addr(s.port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Port is the TCP port on 127.0.0.1. A restart keeps it.
func (s *Server) Port() int { return s.port }

// Version is the major version, such as 15.
func (s *Server) Version() int { return s.inst.Version }

// Installation names the programs that the server runs from.
func (s *Server) Installation() Installation { return s.inst }

// DataDir is the server's data folder.
func (s *Server) DataDir() string { return dataDir(s.home.Dir) }

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
