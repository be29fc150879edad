package difftest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/migrations"
	mysqlmigrations "github.com/sojourn-go/sojourn/migrations/mysql"
	"github.com/sojourn-go/sojourn/mysqlstore"
	"github.com/sojourn-go/sojourn/pgstore"
	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/sqlitestore"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// store is one that can do all that is compared.
type store interface {
	session.Store
	session.Clock
	session.Putter
	session.Lister
	session.Clearer
	session.UserIndex
	session.Explainer
}

// patience is how long anything may take that has to happen.
const patience = 5 * time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
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

func openMemory(t testing.TB) store { return memory.Open(t, nil) }

func openSQLite(t testing.TB) store {
	s, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "sessions.db"), sqlitestore.Options{
		PruneInterval: -1, Logger: zap.NewNop(), WriteTimeout: patience,
	})
	must(t, err)
	closeLater(t, s)
	return s
}

func openMySQL(t testing.TB, srv *dbtest.MySQLServer) store {
	db := dbtest.DB(t, srv.Database(t), nil)
	must(t, mysqlmigrations.Up(t.Context(), db, mysqlmigrations.Config{}))
	s, err := mysqlstore.New(t.Context(), db, mysqlstore.Options{PruneInterval: -1, Logger: zap.NewNop(), WriteTimeout: patience})
	must(t, err)
	closeLater(t, s)
	return s
}

// openPostgres opens a store that reads from its memory what it can, if cached.
func openPostgres(t testing.TB, cached bool) store {
	dsn := dbtest.Postgres(t).Copy(t, "migrated", func(dsn string) {
		config, err := pgx.ParseConfig(dsn)
		must(t, err)
		must(t, migrations.Up(t.Context(), config, migrations.Config{}))
	})
	opts := pgstore.Options{PruneInterval: -1, Logger: zap.NewNop(), WriteTimeout: time.Minute, ReadTimeout: time.Minute}
	if !cached {
		opts.CacheBytes = -1
	}
	s, err := pgstore.New(t.Context(), dbtest.Pool(t, dsn, pgstore.ConfigurePool), opts)
	must(t, err)
	closeLater(t, s)
	if cached {
		dbtest.Eventually(t, "the cache has a lease", func() bool { return s.Stats().Cache.Leased })
	}
	return s
}
