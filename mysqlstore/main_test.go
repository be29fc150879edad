package mysqlstore

import (
	"os"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// childEnv tells a test binary that it is to be a node of a test's.
const childEnv = "SOJOURN_MYSQLSTORE_CHILD"

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childEnv); dsn != "" {
		os.Exit(child(dsn))
	}
	dbtest.Main(m)
}
