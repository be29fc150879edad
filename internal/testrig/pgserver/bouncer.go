package pgserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// ErrNoBouncer is returned when PgBouncer is not installed.
var ErrNoBouncer = errors.New("pgserver: pgbouncer not found")

// Bouncer is a running PgBouncer in front of one database and for one user.
type Bouncer struct {
	*throwaway.Server
	path     string
	acct     *throwaway.Account
	target   *pgx.ConnConfig
	settings map[string]string
}

// FindBouncer returns the path of the PgBouncer program.
func FindBouncer() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} { // users' PATH often lacks sbin
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoBouncer
}

// StartBouncer starts PgBouncer in front of the database that dsn names, in
// transaction mode. Settings are those of the section [pgbouncer] and win over
// the defaults. Clients log in with the user and password of dsn.
func StartBouncer(ctx context.Context, dsn string, settings map[string]string) (*Bouncer, error) {
	path, err := FindBouncer()
	if err != nil {
		return nil, err
	}
	acct, err := serverAccount()
	if err != nil {
		return nil, err
	}
	target, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("pgserver: start pgbouncer: %w", err)
	}
	b := &Bouncer{path: path, acct: acct, target: target, settings: settings}
	b.Server, err = throwaway.New(ctx, throwaway.Program{
		Name: "PgBouncer", Account: acct, Without: []string{configPrefix},
		Stop: throwaway.Terminate, Quit: throwaway.Kill,
		Command: b.command, Ask: b.ask,
		Ready: "process up", PortTaken: "in use",
	}, false)
	if err != nil {
		return nil, err
	}
	if err := b.Server.Start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("pgserver: %w", err), b.Close())
	}
	return b, nil
}

func (b *Bouncer) command() (*exec.Cmd, error) {
	users := filepath.Join(b.Dir(), "users.txt")
	conf := filepath.Join(b.Dir(), "pgbouncer.ini")
	err := errors.Join(
		b.acct.WriteFile(users, iniQuote(b.target.User)+" "+iniQuote(b.target.Password)+"\n"),
		b.acct.WriteFile(conf, bouncerConfig(b.target, users, b.Port(), b.settings)),
	)
	return exec.Command(b.path, conf), err
}

func bouncerConfig(target *pgx.ConnConfig, users string, port int, settings map[string]string) string {
	all := map[string]string{
		"listen_addr":     "127.0.0.1",
		"listen_port":     strconv.Itoa(port),
		"unix_socket_dir": "",
		"auth_type":       "scram-sha-256",
		"auth_file":       users,
		"pool_mode":       "transaction",
		"max_client_conn": "500",
	}
	maps.Copy(all, settings)
	var text strings.Builder
	fmt.Fprintf(&text, "[databases]\n%s = host=%s port=%d dbname=%s\n\n[pgbouncer]\n",
		target.Database, target.Host, target.Port, target.Database)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s = %s\n", name, all[name])
	}
	return text.String()
}

func iniQuote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func (b *Bouncer) ask(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.DSN())
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// DSN is the URL of the database behind PgBouncer.
func (b *Bouncer) DSN() string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(b.target.User, b.target.Password),
		Host:     loopback.Addr(b.Port()),
		Path:     "/" + b.target.Database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}
