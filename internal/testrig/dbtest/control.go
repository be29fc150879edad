package dbtest

import (
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// Control is what a test can do to a server of any kind that is its own. Its
// methods may be called from any goroutine of the test.
type Control struct {
	t      testing.TB
	server *throwaway.Server
	shared bool
}

// own is the control of a server that is deleted when the test ends.
func own(t testing.TB, server *throwaway.Server) Control {
	t.Cleanup(func() {
		if t.Failed() {
			log := server.Log()
			t.Logf("end of the server's log:\n%s", log[max(0, len(log)-4000):])
		}
		if err := server.Close(); err != nil {
			t.Error("dbtest:", err)
		}
	})
	return Control{t: t, server: server}
}

// Port is the TCP port on 127.0.0.1. A restart keeps it.
func (c Control) Port() int { return c.server.Port() }

// DataDir is the server's data folder.
func (c Control) DataDir() string { return c.server.DataDir() }

// LogPath is the file that holds what the server printed, over all restarts.
func (c Control) LogPath() string { return c.server.LogPath() }

// Log returns what the server has printed so far.
func (c Control) Log() string { return c.server.Log() }

// Stop shuts the server down. Restart starts it again.
func (c Control) Stop() { c.do("stop", c.server.Stop) }

// Kill ends the server and all its connections at once, like a crash.
// Restart starts it again; acknowledged commits are then still there.
func (c Control) Kill() { c.do("kill", c.server.Kill) }

// Pause stops the process that accepts connections until Resume: new ones hang.
// Open ones hang too on MariaDB and MySQL, and go on on Postgres.
func (c Control) Pause() { c.do("pause", c.server.Pause) }

// Freeze stops the whole server until Resume: open connections hang, too.
func (c Control) Freeze() { c.do("freeze", c.server.Freeze) }

// Resume ends a Pause or Freeze.
func (c Control) Resume() { c.do("resume", c.server.Resume) }

// Restart stops the server if it runs and starts it again on the same port.
func (c Control) Restart(t testing.TB) {
	t.Helper()
	c.do("restart", func() error { return c.server.Restart(t.Context()) })
}

func (c Control) do(what string, do func() error) {
	c.t.Helper()
	if c.shared {
		c.t.Errorf("dbtest: %s: other tests use this server; start one of your own", what)
		return
	}
	if err := do(); err != nil {
		c.t.Errorf("dbtest: %s: %v", what, err)
	}
}
