package mysqlserver

import (
	"database/sql"
	"errors"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

func TestServerKeepsCommitsOverAKill(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f Flavour) {
		s := run(t, f, Config{})
		db := open(t, s.DSN("mysql"))
		exec1(t, db, "CREATE DATABASE x")
		exec1(t, db, "CREATE TABLE x.t (n int) ENGINE=InnoDB")
		exec1(t, db, "INSERT INTO x.t VALUES (7)")
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := connects(t.Context(), s.DSN("")); err == nil {
			t.Fatal("a killed server accepts connections")
		}
		port := s.Port()
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.Port() != port {
			t.Errorf("port %d after a restart, want %d", s.Port(), port)
		}
		if got := ask[int](t, open(t, s.DSN("x")), "SELECT n FROM t"); got != 7 {
			t.Errorf("got %d, want 7", got)
		}
		if err := s.Err(); err != nil {
			t.Errorf("a kill was taken for an accident: %v", err)
		}
	})
}

func TestPausedServerHangsAndCanBeClosed(t *testing.T) {
	t.Parallel()
	skipWithout(t, MariaDB)
	s := run(t, MariaDB, Config{})
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := connects(t.Context(), s.DSN("")); err == nil {
		t.Error("a paused server accepts new connections")
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it answers again", func() bool { return connects(t.Context(), s.DSN("")) == nil })
	// Ending a paused server must not wait for anyone to resume it.
	for _, end := range []func() error{s.Stop, s.Close} {
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Pause(); err != nil {
			t.Fatal(err)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClosedServerLeavesNothing(t *testing.T) {
	t.Parallel()
	skipWithout(t, MariaDB)
	s := run(t, MariaDB, Config{})
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
	if err := connects(t.Context(), s.DSN("")); err == nil {
		t.Error("a closed server accepts connections")
	}
	if err := s.Restart(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Restart: %v, want ErrClosed", err)
	}
}

func TestAServerThatEndsByItselfIsReportedWithItsLog(t *testing.T) {
	t.Parallel()
	skipWithout(t, MariaDB)
	s, err := Start(t.Context(), MariaDB, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Err(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	if err := s.proc.OS().Signal(throwaway.Kill); err != nil { // not by us
		t.Fatal(err)
	}
	<-s.proc.Done()
	for what, err := range map[string]error{"Err": s.Err(), "Close": s.Close()} {
		if !errors.Is(err, ErrVanished) || !strings.Contains(err.Error(), "killed") || !strings.Contains(err.Error(), "ready for connections") {
			t.Errorf("%s: %v; want ErrVanished with the signal and the log", what, err)
		}
	}
}

func TestSettingsWinOverTheDefaults(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f Flavour) {
		s := run(t, f, Config{Durable: true, Settings: map[string]string{"max_connections": "20", "wait_timeout": "77"}})
		db := open(t, s.DSN(""))
		for name, want := range map[string]string{
			"max_connections": "20", "wait_timeout": "77", "innodb_flush_log_at_trx_commit": "1", "innodb_doublewrite": "ON",
			"bind_address": "127.0.0.1", "tmpdir": s.tmpDir(),
		} {
			var got string
			if err := db.QueryRowContext(t.Context(), "SHOW GLOBAL VARIABLES LIKE '"+name+"'").Scan(new(string), &got); err != nil || got != want {
				t.Errorf("%s: got %q (%v), want %q", name, got, err, want)
			}
		}
	})
}

func TestBadSettingIsReportedWithTheServersWords(t *testing.T) {
	t.Parallel()
	skipWithout(t, MariaDB)
	s, err := Start(t.Context(), MariaDB, Config{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil {
		s.Close()
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("the error does not name the setting: %v", err)
	}
}

func TestRootNeedsItsPasswordAndNobodyElseCanLogIn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f Flavour) {
		s := run(t, f, Config{})
		cfg, err := mysql.ParseDSN(s.DSN(""))
		if err != nil {
			t.Fatal(err)
		}
		for user, password := range map[string]string{"root": "", "": "", "mysql": ""} {
			cfg.User, cfg.Passwd = user, password
			var answer *mysql.MySQLError
			if err := connects(t.Context(), cfg.FormatDSN()); !errors.As(err, &answer) {
				t.Errorf("%q without a password: %v, want the server's refusal", user, err)
			}
		}
		db := open(t, s.DSN("mysql"))
		var with sql.NullInt64
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM user WHERE user = 'root' AND host NOT IN ('localhost', '127.0.0.1')").Scan(&with); err != nil || with.Int64 != 0 {
			t.Errorf("%d more roots (%v), want none", with.Int64, err)
		}
	})
}

func TestManyServersStartAtOnceFromAnEmptyCache(t *testing.T) {
	skipWithout(t, MariaDB)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("TMPDIR", folder(t))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := Start(t.Context(), MariaDB, Config{})
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

func TestARestartWaitsForSomebodyWhoTriesItsPort(t *testing.T) {
	t.Parallel()
	skipWithout(t, MariaDB)
	s := run(t, MariaDB, Config{})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	var other net.Listener
	eventually(t, "the port is free", func() (free bool) {
		var err error
		other, err = net.Listen("tcp", loopback.Addr(s.Port()))
		return err == nil
	})
	restarted := make(chan error, 1)
	go func() { restarted <- s.Restart(t.Context()) }()
	eventually(t, "the server has found its port taken", func() bool { return strings.Contains(s.Log(), "port: "+strconv.Itoa(s.Port())+" ?") })
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if err := <-restarted; err != nil {
		t.Error(err)
	}
}

func TestServerOfAKilledProcessEndsAndItsFolderIsRemoved(t *testing.T) {
	t.Parallel()
	skipWithout(t, MariaDB)
	tmp := folder(t)
	home, dsn, kill := startChild(t, tmp)
	// Whoever starts a server sweeps first.
	_, _, killOther := startChild(t, tmp)
	killOther()
	if err := connects(t.Context(), dsn); err != nil {
		t.Fatalf("the server of a living process was swept: %v", err)
	}
	kill()
	if runtime.GOOS == "linux" {
		eventually(t, "the server ends by itself", func() bool { return connects(t.Context(), dsn) != nil })
	}
	if _, err := os.Stat(home); err != nil {
		t.Fatal(err)
	}
	startChild(t, tmp)
	if err := connects(t.Context(), dsn); err == nil {
		t.Error("the server runs after a sweep")
	}
	if _, err := os.Stat(home); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder: %v, want none", err)
	}
}

// folder is one for temporary files that the servers' account can enter, but not
// write to.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}
