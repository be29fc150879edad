package dbtest

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/sojourn-go/sojourn/internal/testrig/pgserver"
)

// shared is the server of this test binary.
var shared struct {
	mu      sync.Mutex
	running bool // Main is there to stop it
	server  *core
	err     error
}

// Main is Run for a TestMain that does nothing else. It exits.
func Main(m *testing.M, opts ...goleak.Option) { os.Exit(Run(m, opts...)) }

// Run runs the tests of a package, stops the shared servers, and fails if a
// goroutine is left. Call it from TestMain. What is logged where no logger was
// set is dropped: tests make things fail on purpose.
func Run(m *testing.M, opts ...goleak.Option) (code int) {
	shared.mu.Lock()
	shared.running = true
	shared.mu.Unlock()
	mysqls.begin()
	slog.SetDefault(slog.New(slog.DiscardHandler))

	code = m.Run()

	shared.mu.Lock()
	shared.running = false
	server := shared.server
	shared.server = nil
	shared.mu.Unlock()
	if server != nil {
		if err := server.pg.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "dbtest: stop the shared server:", err)
			code = max(code, 1)
		}
	}
	if err := mysqls.end(); err != nil {
		fmt.Fprintln(os.Stderr, "dbtest: stop the shared servers:", err)
		code = max(code, 1)
	}
	// A failed test may well have left something behind: its own message counts.
	if code == 0 {
		if err := goleak.Find(opts...); err != nil {
			fmt.Fprintln(os.Stderr, "dbtest: goroutines are left after the tests:", err)
			code = 1
		}
	}
	return code
}

// Postgres returns the shared server of this test binary. It has fsync off and
// cannot be stopped, killed, paused or restarted by a test.
func Postgres(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.running {
		t.Fatal("dbtest: TestMain must call dbtest.Main, which stops the shared server")
	}
	if shared.server == nil && shared.err == nil {
		pg, err := pgserver.Start(t.Context(), pgserver.Config{})
		if err == nil {
			shared.server = &core{pg: pg}
		}
		// Otherwise every later test would wait for the same failure.
		shared.err = err
	}
	if shared.err != nil {
		missing(t, shared.err, pgserver.ErrNotInstalled, pgserver.InstallHint())
	}
	return &Server{core: shared.server, t: t, shared: true}
}
