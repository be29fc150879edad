package leader_test

import (
	"os"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// childEnv makes the test binary a process that leads until it is killed.
const (
	childEnv          = "LEADER_TEST_CHILD_DSN"
	childStatementEnv = "LEADER_TEST_CHILD_STATEMENT"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childEnv); dsn != "" {
		leadUntilKilled(dsn, os.Getenv(childStatementEnv))
		return
	}
	dbtest.Main(m)
}
