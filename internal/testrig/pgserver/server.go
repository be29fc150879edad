package pgserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os/exec"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
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
	*throwaway.Server
	inst     Installation
	acct     *throwaway.Account
	settings map[string]string
	password string
}

// Start starts a server in a new folder and returns when it accepts
// connections. ctx bounds the start only; the server runs until Close.
// All servers started from one installation have the same system identifier.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	return start(ctx, cfg, func(s *Server) (err error) {
		s.password, err = template(s.inst, s.acct).Copy(ctx, s.DataDir())
		return err
	})
}

// start starts a server whose data folder is made by fill.
func start(ctx context.Context, cfg Config, fill func(*Server) error) (*Server, error) {
	acct, err := serverAccount()
	if err != nil {
		return nil, err
	}
	inst, err := choose(ctx, cfg.Bin)
	if err != nil {
		return nil, err
	}
	s := &Server{inst: inst, acct: acct, settings: settings(cfg)}
	s.Server, err = throwaway.New(ctx, throwaway.Program{
		Name: "Postgres", Account: acct, Without: []string{configPrefix},
		Stop:    throwaway.Interrupt, // fast shutdown
		Quit:    throwaway.Quit,      // immediate shutdown
		Command: s.command, Ask: s.ask,
		Ready: "ready to accept", PortTaken: "could not bind",
		NotYet: "pre-existing shared memory block", // of a killed server, until the last of its processes is gone
	}, cfg.Durable)
	if err != nil {
		return nil, err
	}
	err = fill(s)
	if err == nil {
		err = s.Server.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pgserver: %w", err), s.Close())
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
	return Find(ctx)
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

func (s *Server) command() (*exec.Cmd, error) {
	args := []string{"-D", s.DataDir(), "-c", "port=" + strconv.Itoa(s.Port())}
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		args = append(args, "-c", name+"="+s.settings[name])
	}
	return exec.Command(s.inst.program(), args...), nil
}

// ask fails unless the server that answers has our data folder.
func (s *Server) ask(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var dir string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return err
	}
	if dir != s.DataDir() {
		return fmt.Errorf("the server of %s has the port", dir)
	}
	return nil
}

// DSN returns the URL of a database for the superuser.
func (s *Server) DSN(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", s.password),
		Host:     loopback.Addr(s.Port()),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Version is the major version, such as 15.
func (s *Server) Version() int { return s.inst.Version }

// Installation names the programs that the server runs from.
func (s *Server) Installation() Installation { return s.inst }
