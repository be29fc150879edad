package throwaway_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/await"
	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

func TestAKilledServerKeepsCommitsAndItsPort(t *testing.T) {
	t.Parallel()
	each(t, 3, func(t *testing.T, k kind) {
		s := k.run(t, nil)
		open := s.conn(t)
		exec(t, open, k.database, "CREATE TABLE "+k.table+" (n int)", "INSERT INTO "+k.table+" VALUES (7)")
		must(t, s.Kill())
		if err := answers(t.Context(), open); err == nil {
			t.Error("a connection outlived a kill")
		}
		if err := s.connects(t.Context()); err == nil {
			t.Error("a killed server accepts connections")
		}
		port := s.Port()
		must(t, s.Restart(t.Context()))
		if s.Port() != port {
			t.Errorf("port %d after a restart, want %d", s.Port(), port)
		}
		var got int
		if err := s.conn(t).QueryRowContext(t.Context(), "SELECT n FROM "+k.table).Scan(&got); err != nil || got != 7 {
			t.Errorf("got %d (%v), want 7", got, err)
		}
		must(t, s.Err()) // a kill is no accident
	})
}

func TestAPausedServerLetsNewConnectionsWaitAndAFrozenOneAll(t *testing.T) {
	t.Parallel()
	each(t, 2, func(t *testing.T, k kind) {
		s := k.run(t, nil)
		for _, freeze := range []bool{false, true} {
			stop, goesOn := s.Pause, k.serves
			if freeze {
				stop, goesOn = s.Freeze, false
			}
			open := s.conn(t)
			must(t, stop())
			// A thread may be done with what it does before it stops.
			await.True(t, "an open connection hangs or goes on", func() bool { return (answers(t.Context(), open) == nil) == goesOn })
			if err := s.connects(t.Context()); err == nil {
				t.Errorf("frozen %v: it accepts new connections", freeze)
			}
			must(t, s.Resume())
			await.True(t, "it answers again", func() bool { return s.connects(t.Context()) == nil })
			// Ending it must not wait for anyone to resume it.
			must(t, stop(), s.Stop(), s.Restart(t.Context()))
		}
		must(t, s.Freeze(), s.Close())
	})
}

func TestAClosedServerLeavesNothing(t *testing.T) {
	t.Parallel()
	each(t, 2, func(t *testing.T, k kind) {
		s := k.run(t, nil)
		must(t, s.Stop(), s.Stop())
		for what, do := range map[string]func() error{"Pause": s.Pause, "Freeze": s.Freeze, "Resume": s.Resume} {
			if err := do(); !errors.Is(err, throwaway.ErrNotRunning) {
				t.Errorf("%s of a stopped server: %v, want ErrNotRunning", what, err)
			}
		}
		must(t, s.Start(t.Context()), s.Start(t.Context()), s.Close(), s.Close())
		if _, err := os.Stat(s.Dir()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("its folder: %v, want none", err)
		}
		if err := s.connects(t.Context()); err == nil {
			t.Error("a closed server accepts connections")
		}
		if err := s.Restart(t.Context()); !errors.Is(err, throwaway.ErrClosed) {
			t.Errorf("Restart: %v, want ErrClosed", err)
		}
	})
}

func TestARestartWaitsForSomebodyWhoTriesItsPort(t *testing.T) {
	t.Parallel()
	taken := map[string]string{"postgres": "could not bind", "mariadb": "Address already in use"}
	each(t, 2, func(t *testing.T, k kind) {
		s := k.run(t, nil)
		must(t, s.Stop())
		var other net.Listener
		await.True(t, "the port is free", func() (free bool) {
			var err error
			other, err = net.Listen("tcp", loopback.Addr(s.Port()))
			return err == nil
		})
		restarted := make(chan error, 1)
		go func() { restarted <- s.Restart(t.Context()) }()
		await.True(t, "the server has found its port taken", func() bool { return strings.Contains(s.Log(), taken[k.name]) })
		must(t, other.Close(), <-restarted)
	})
}

func TestAServerThatEndsByItselfIsReportedWithItsLog(t *testing.T) {
	t.Parallel()
	each(t, 2, func(t *testing.T, k kind) {
		s, err := k.start(t.Context(), nil)
		must(t, err)
		must(t, s.Err())
		must(t, throwaway.KillBehind(s.Server))
		for what, err := range map[string]error{"Err": s.Err(), "Close": s.Close()} {
			if !errors.Is(err, throwaway.ErrVanished) || !strings.Contains(err.Error(), "killed") || !strings.Contains(err.Error(), "ready ") {
				t.Errorf("%s: %v; want ErrVanished with the signal and the log", what, err)
			}
		}
	})
}

func TestABadSettingIsReportedWithTheServersWords(t *testing.T) {
	t.Parallel()
	each(t, 2, func(t *testing.T, k kind) {
		s, err := k.start(t.Context(), map[string]string{"no_such_setting": "1"})
		if err == nil {
			s.Close()
			t.Fatal("it started")
		}
		if !strings.Contains(strings.ReplaceAll(err.Error(), "-", "_"), "no_such_setting") {
			t.Errorf("the error does not name the setting: %v", err)
		}
	})
}

// The data folder of the other tests is mostly a copy of one that an earlier run
// has made.
func TestAServerStartsFromAnEmptyCache(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", folder(t))
	for _, k := range kinds[:2] {
		k.need(t)
		k.run(t, nil)
	}
}
