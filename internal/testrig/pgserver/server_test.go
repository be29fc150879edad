package pgserver

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

func TestServerKeepsCommitsOverAKill(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	conn := connect(t, s.DSN("postgres"))
	exec1(t, conn, "CREATE TABLE t (n int)")
	exec1(t, conn, "INSERT INTO t VALUES (7)")
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Fatal("the connection outlived a kill")
	}
	if err := connects(t.Context(), s.DSN("postgres")); err == nil {
		t.Fatal("a killed server accepts connections")
	}
	port := s.Port()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Port() != port {
		t.Errorf("port %d after a restart, want %d", s.Port(), port)
	}
	if got := ask[int](t, connect(t, s.DSN("postgres")), "SELECT n FROM t"); got != 7 {
		t.Errorf("got %d, want 7", got)
	}
}

func TestKillEndsAStatementThatRuns(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	conn := connect(t, s.DSN("postgres"))
	watcher := connect(t, s.DSN("postgres"))
	pid := conn.PgConn().PID()
	ended := make(chan error, 1)
	go func() {
		// No client wait in it: the backend would not notice the postmaster's end.
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := conn.Exec(ctx, "SELECT count(*) FROM generate_series(1, 1000000000) a, generate_series(1, 1000) b")
		ended <- err
	}()
	eventually(t, "the statement runs", func() bool {
		return ask[int](t, watcher, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series%' AND pid <> pg_backend_pid()") == 1
	})
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Fatal("the statement succeeded")
	}
	if line, err := throwaway.CommandLine(t.Context(), int(pid)); err == nil && strings.Contains(line, "postgres") {
		t.Errorf("the backend still runs: %s", line)
		if backend, err := os.FindProcess(int(pid)); err == nil {
			_ = backend.Kill()
		}
	}
}

func TestPausedServerLetsNewConnectionsWait(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	conn := connect(t, s.DSN("postgres"))
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Errorf("an open connection: %v", err)
	}
	if err := connects(t.Context(), s.DSN("postgres")); err == nil {
		t.Error("a paused server accepts new connections")
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := connects(t.Context(), s.DSN("postgres")); err != nil {
		t.Error(err)
	}
	// Ending a paused server must not wait for anyone to resume it.
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestClosedServerLeavesNothing(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Pause(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Pause of a stopped server: %v, want ErrNotRunning", err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(s.home.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder: %v, want none", err)
	}
	if err := connects(t.Context(), s.DSN("postgres")); err == nil {
		t.Error("a closed server accepts connections")
	}
	if err := s.Restart(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Restart: %v, want ErrClosed", err)
	}
}

func TestSettingsWinOverTheDefaults(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Durable: true, Settings: map[string]string{"timezone": "Asia/Kolkata", "max_connections": "20"}})
	conn := connect(t, s.DSN("postgres"))
	for name, want := range map[string]string{
		"timezone": "Asia/Kolkata", "max_connections": "20", "fsync": "on", "full_page_writes": "on", "listen_addresses": "127.0.0.1",
	} {
		if got := ask[string](t, conn, "SHOW "+name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	exec1(t, conn, "DO $$ BEGIN RAISE LOG 'marker 4711'; END $$")
	if n := strings.Count(s.Log(), "LOG:  marker 4711"); n != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", n, s.Log())
	}
}

func TestBadSettingIsReportedWithTheServersWords(t *testing.T) {
	t.Parallel()
	skipWithoutPostgres(t)
	s, err := Start(t.Context(), Config{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil {
		s.Close()
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), `"no_such_setting"`) {
		t.Errorf("the error does not name the setting: %v", err)
	}
}

func TestSuperuserNeedsItsPasswordAndOthersNone(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	exec1(t, connect(t, s.DSN("postgres")), "CREATE ROLE app LOGIN")
	u, err := url.Parse(s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("postgres", "wrong")
	var pgErr *pgconn.PgError
	if err := connects(t.Context(), u.String()); !errors.As(err, &pgErr) || pgErr.Code != "28P01" {
		t.Errorf("wrong password: %v, want 28P01", err)
	}
	u.User = url.User("app")
	if err := connects(t.Context(), u.String()); err != nil {
		t.Errorf("another role: %v", err)
	}
}

func TestManyServersStartAtOnceFromAnEmptyCache(t *testing.T) {
	skipWithoutPostgres(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := Start(t.Context(), Config{Settings: map[string]string{"max_connections": "10"}})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestOldTemplatesAreReplaced(t *testing.T) {
	skipWithoutPostgres(t)
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	cache = filepath.Join(cache, "sojourn-postgres")
	if err := os.MkdirAll(filepath.Join(cache, "9-other"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"9-other.lock", "9-other/password"} {
		if err := os.WriteFile(filepath.Join(cache, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	passwords := func() (paths []string) {
		t.Helper()
		paths, err := filepath.Glob(filepath.Join(cache, "*", "password"))
		if err != nil {
			t.Fatal(err)
		}
		return paths
	}
	startOnce := func() string {
		t.Helper()
		s, err := Start(t.Context(), Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		return s.password
	}
	first := startOnce()
	if again := startOnce(); again != first {
		t.Error("a fresh template was not used again")
	}
	yesterday := time.Now().Add(-throwaway.TemplateAge - time.Hour)
	for _, path := range passwords() {
		if err := os.Chtimes(path, yesterday, yesterday); err != nil {
			t.Fatal(err)
		}
	}
	if again := startOnce(); again == first {
		t.Error("an old template was used")
	}
	if left := passwords(); len(left) != 1 {
		t.Errorf("%d templates are left, want the new one: %v", len(left), left)
	}
}

func TestServerOfAKilledProcessEndsAndItsFolderIsRemoved(t *testing.T) {
	t.Parallel()
	home, dsn, kill := startChild(t)
	if err := connects(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	sweep(t.Context())
	if err := connects(t.Context(), dsn); err != nil {
		t.Fatalf("the server of a living process was swept: %v", err)
	}
	kill()
	if runtime.GOOS == "linux" {
		eventually(t, "the server ends by itself", func() bool { return connects(t.Context(), dsn) != nil })
	}
	sweep(t.Context())
	if err := connects(t.Context(), dsn); err == nil {
		t.Error("the server runs after a sweep")
	}
	eventually(t, "the folder is gone", func() bool {
		_, err := os.Stat(home)
		return errors.Is(err, fs.ErrNotExist)
	})
}
