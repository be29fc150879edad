package adapters

import (
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore"
	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/sqlitestore"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	gin.DefaultWriter = io.Discard
	var theirs []goleak.Option
	for _, f := range []string{ // what the frameworks start and do not end
		"github.com/alexedwards/scs/v2/memstore.(*MemStore).startCleanup",
		"github.com/gofiber/fiber/v2/internal/storage/memory.(*Storage).gc",
		"github.com/gofiber/fiber/v2/internal/storage/memory.New.StartTimeStampUpdater.func1.1",
		"github.com/gofiber/fiber/v2/utils.StartTimeStampUpdater.func1.1",
		"github.com/gofiber/fiber/v3/internal/storage/memory.(*Storage).gc",
		"github.com/gofiber/fiber/v3/internal/storage/memory.New.StartTimeStampUpdater.func1.1",
		"github.com/gofiber/utils/v2.StartTimeStampUpdater.func1.1",
		"github.com/valyala/fasthttp.(*workerPool).Start.func2",
		"github.com/valyala/fasthttp.updateServerDate.func1",
	} {
		theirs = append(theirs, goleak.IgnoreAnyFunction(f))
	}
	dbtest.Main(m, theirs...)
}

// database is one that both this module and scs have a store for.
type database struct {
	open func(testing.TB) [2]session.Store // two nodes on an empty store, closed with the test
	scs  func(testing.TB) scs.Store        // scs's own
}

// onDatabases runs a test on Postgres, where nodes read from their memory, and on SQLite.
func onDatabases(t *testing.T, test func(t *testing.T, db database)) {
	t.Run("Postgres", func(t *testing.T) { t.Parallel(); test(t, database{openPostgres, scsOnPostgres}) })
	t.Run("SQLite", func(t *testing.T) { t.Parallel(); test(t, database{openSQLite, scsOnSQLite}) })
}

// migratedPostgres returns the DSN of an empty store.
func migratedPostgres(t testing.TB) string {
	return dbtest.Postgres(t).Copy(t, "migrated", func(dsn string) {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		if err := migrations.Up(t.Context(), config, migrations.Config{}); err != nil {
			t.Fatal(err)
		}
	})
}

func openPostgres(t testing.TB) (nodes [2]session.Store) {
	dsn := migratedPostgres(t)
	for i := range nodes {
		s, err := pgstore.New(t.Context(), dbtest.Pool(t, dsn, pgstore.ConfigurePool), pgstore.Options{
			PruneInterval: -1, Logger: zap.NewNop(), WriteTimeout: time.Minute, ReadTimeout: time.Minute,
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

func openSQLite(t testing.TB) (nodes [2]session.Store) {
	path := filepath.Join(t.TempDir(), "sessions.db")
	for i := range nodes {
		s, err := sqlitestore.Open(t.Context(), path, sqlitestore.Options{PruneInterval: -1, Logger: zap.NewNop(), WriteTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, s)
		nodes[i] = s
	}
	return nodes
}

// inMemory opens a store for what has nothing to do with databases.
func inMemory(t testing.TB) session.Store { return memory.Open(t, nil) }

func closeLater(t testing.TB, s session.Store) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}
