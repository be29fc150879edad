package mysqlserver

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"
)

const childEnv = "SOJOURN_MYSQLSERVER_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// child starts a server, says where, and waits for its end.
func child() int {
	s, err := Start(context.Background(), MariaDB, Config{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.home.Dir)
	fmt.Println(s.DSN(""))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// startChild runs a server in a process of its own, which kill ends, with tmp for
// temporary files: our own sweeps do not look there.
func startChild(t *testing.T, tmp string) (home, dsn string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1", "TMPDIR="+tmp)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ended bool
	kill = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			_ = stdin.Close()
		}
	}
	t.Cleanup(kill)
	lines := bufio.NewScanner(stdout)
	for _, to := range []*string{&home, &dsn} {
		if !lines.Scan() {
			t.Fatal("the child process started no server:", lines.Err())
		}
		*to = lines.Text()
	}
	return home, dsn, kill
}

// each runs a test with each flavour, in parallel.
func each(t *testing.T, test func(t *testing.T, f Flavour)) {
	t.Helper()
	for _, f := range Flavours() {
		t.Run(strings.ToLower(string(f)), func(t *testing.T) {
			t.Parallel()
			skipWithout(t, f)
			test(t, f)
		})
	}
}

func skipWithout(t *testing.T, f Flavour) {
	t.Helper()
	_, err := Find(t.Context(), f)
	if errors.Is(err, ErrNotInstalled) && (f == MySQL || os.Getenv("CI") != "true") {
		t.Skipf("%v; run: %s", err, InstallHint(f))
	}
}

func run(t *testing.T, f Flavour, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), f, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// open opens a pool of one connection that complains to nobody.
func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := openWith(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func openWith(dsn string) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return db, nil
}

func exec1(t *testing.T, db *sql.DB, stmt string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), stmt); err != nil {
		t.Fatalf("%s: %v", stmt, err)
	}
}

func ask[T any](t *testing.T, db *sql.DB, query string) (got T) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&got); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return got
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(5 * time.Minute)
	defer limit.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal("not within 30 s:", what)
		}
	}
}

func connects(ctx context.Context, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	db, err := openWith(dsn)
	if err != nil {
		return err
	}
	return errors.Join(db.PingContext(ctx), db.Close())
}
