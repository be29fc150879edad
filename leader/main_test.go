package leader_test

import (
	"os"
	"testing"

	"github.com/sojourn-go/sojourn/internal/dbtest"
)

// childEnv makes the test binary a process that leads until it is killed.
const childEnv = "LEADER_TEST_CHILD_DSN"

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childEnv); dsn != "" {
		leadUntilKilled(dsn)
		return
	}
	dbtest.Main(m)
}
