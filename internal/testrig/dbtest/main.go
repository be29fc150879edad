package dbtest

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main is Run for a TestMain that does nothing else. It exits.
func Main(m *testing.M, opts ...goleak.Option) { os.Exit(Run(m, opts...)) }

// Run runs the tests of a package, stops the shared servers, and fails if a
// goroutine is left. Call it from TestMain. What is logged where no logger was
// set is dropped: tests make things fail on purpose.
func Run(m *testing.M, opts ...goleak.Option) (code int) {
	shared.begin()
	slog.SetDefault(slog.New(slog.DiscardHandler))

	code = m.Run()

	if err := shared.end(); err != nil {
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
