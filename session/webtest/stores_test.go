package webtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore"
	"github.com/sojourn-go/sojourn/session"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// opener opens two nodes on an empty store. They are closed with the test.
type opener func(testing.TB) [2]session.Store

func TestInMemory(t *testing.T) { run(t, openMemory) }

func TestOnPostgresWithItsCache(t *testing.T) { run(t, openPostgres) }

// openMemory has one node play both.
func openMemory(t testing.TB) [2]session.Store {
	s, err := memstore.New(memstore.Options{PruneInterval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, s)
	return [2]session.Store{s, s}
}

// openPostgres opens nodes that read from their memory whatever they can.
func openPostgres(t testing.TB) (nodes [2]session.Store) {
	dsn := dbtest.Postgres(t).Copy(t, "migrated", func(dsn string) {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		if err := migrations.Up(t.Context(), config, migrations.Config{}); err != nil {
			t.Fatal(err)
		}
	})
	for i := range nodes {
		s, err := pgstore.New(t.Context(), dbtest.Pool(t, dsn, pgstore.ConfigurePool), pgstore.Options{
			PruneInterval: -1, Logger: zap.NewNop(),
			WriteTimeout: time.Minute, ReadTimeout: time.Minute, // a busy machine needs longer than the defaults
		})
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, s)
		dbtest.Eventually(t, "the cache has a lease", func() bool { return s.Stats().Cache.Leased })
		nodes[i] = s
	}
	return nodes
}

func closeLater(t testing.TB, s session.Store) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}
