// Package memory opens stores in memory for tests.
package memory

import (
	"context"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/await"
	"github.com/sojourn-go/sojourn/memstore"
)

// Open opens a store that does not prune, with that clock. nil is the machine's. It is
// closed with the test.
func Open(t testing.TB, now func() time.Time) *memstore.Store {
	t.Helper()
	return OpenWith(t, memstore.Options{Now: now, PruneInterval: -1})
}

// OpenWith is Open with options of the test's own.
func OpenWith(t testing.TB, opts memstore.Options) *memstore.Store {
	t.Helper()
	s, err := memstore.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}
