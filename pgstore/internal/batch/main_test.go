package batch

import (
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }
