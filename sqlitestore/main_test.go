package sqlitestore

import (
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childEnv tells a test binary that it is to be a process of a test's.
const childEnv = "SOJOURN_SQLITESTORE_CHILD"

func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(child(job))
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // tests make things fail on purpose
	goleak.VerifyTestMain(m)
}
