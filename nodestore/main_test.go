package nodestore

import (
	"testing"

	"github.com/sojourn-go/sojourn/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }
