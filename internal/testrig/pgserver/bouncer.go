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

// ErrNoBouncer is returned when PgBouncer is not installed.
var ErrNoBouncer = errors.New("pgserver: pgbouncer not found")

// Bouncer is a running PgBouncer in front of one database and for one user.
type Bouncer struct {
	home  *throwaway.Home
	proc  *throwaway.Process
	dsn   string
	close sync.Once
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
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
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
	sweep(ctx)
	b := &Bouncer{}
	if b.home, err = throwaway.NewHome(homePrefix, false); err != nil {
		return nil, fmt.Errorf("pgserver: start pgbouncer: %w", err)
	}
	const attempts = 5
	for attempt := 1; ; attempt++ {
		err := b.launch(ctx, path, acct, target, settings)
		if err == nil {
			return b, nil
		}
		log, _ := os.ReadFile(b.logPath())
		if attempt == attempts || !strings.Contains(string(log), "in use") {
			return nil, errors.Join(fmt.Errorf("pgserver: start pgbouncer: %w; it said:\n%s", err, log), b.Close())
		}
	}
}

func (b *Bouncer) launch(ctx context.Context, path string, acct *throwaway.Account, target *pgx.ConnConfig, settings map[string]string) error {
	port, err := loopback.FreePort()
	if err != nil {
		return err
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(target.User, target.Password),
		Host:     loopback.Addr(port),
		Path:     "/" + target.Database,
		RawQuery: "sslmode=disable",
	}
	b.dsn = u.String()

	users := filepath.Join(b.home.Dir, "users.txt")
	conf := filepath.Join(b.home.Dir, "pgbouncer.ini")
	files := map[string]string{
		users: iniQuote(target.User) + " " + iniQuote(target.Password) + "\n",
		conf:  bouncerConfig(target, users, port, settings),
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
		if err := acct.Own(name); err != nil {
			return err
		}
	}

	log, err := os.OpenFile(b.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, conf)
	acct.Prepare(cmd, configPrefix)
	cmd.Stdout, cmd.Stderr = log, log
	if b.proc, err = throwaway.Spawn(cmd, sigImmediate); err != nil {
		return err
	}
	return b.awaitReady(ctx)
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

func (b *Bouncer) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		conn, err := pgx.Connect(try, b.dsn)
		if err == nil {
			err = conn.Close(try)
		}
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-b.proc.Done():
			return fmt.Errorf("it ended (%v)", b.proc.State())
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// DSN is the URL of the database behind PgBouncer.
func (b *Bouncer) DSN() string { return b.dsn }

func (b *Bouncer) logPath() string { return filepath.Join(b.home.Dir, "pgbouncer.log") }

// Close ends PgBouncer with all its connections and deletes its folder. It may
// be called repeatedly.
func (b *Bouncer) Close() error {
	var err error
	b.close.Do(func() {
		if b.proc != nil {
			_ = b.proc.OS().Kill()
			<-b.proc.Done()
		}
		err = b.home.Close()
	})
	return err
}
