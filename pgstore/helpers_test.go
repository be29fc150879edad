package pgstore

import (
	"cmp"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// place is a migrated table of a test's own, and a pool on it.
type place struct {
	dsn, schema string
	pool        *pgxpool.Pool

	// How nodes connect, if not as the test does.
	as     string // role
	mode   pgx.QueryExecMode
	direct string // Options.DirectDSN
}

// id tells p from all other places.
func (p place) id() string { return placeID(p.pool, p.schema) }

func placeID(pool *pgxpool.Pool, schema string) string {
	return pool.Config().ConnConfig.Database + "." + schema
}

// nodePool is the pool of a node at p.
func (p place) nodePool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	if p.as == "" {
		return p.pool
	}
	return dbtest.Pool(t, p.dsn, p.asNode)
}

func (p place) asNode(c *pgxpool.Config) {
	c.ConnConfig.User = cmp.Or(p.as, c.ConnConfig.User)
	c.ConnConfig.DefaultQueryExecMode = cmp.Or(p.mode, c.ConnConfig.DefaultQueryExecMode)
}

// migrated makes a table in a database of its own, on the shared server:
// snapshots, statistics and locks of other tests do not reach it.
func migrated(t testing.TB) place { return migratedWith(t, migrations.Settings{}) }

// migratedWith is migrated for a table with these settings, in a database in
// which these statements were run before.
func migratedWith(t testing.TB, settings migrations.Settings, before ...string) place {
	t.Helper()
	hour := time.Now().Unix() / 3600 // the partitions are for it and later ones
	dsn := dbtest.Postgres(t).Copy(t, fmt.Sprintf("%d %+v %q", hour, settings, before), func(dsn string) {
		execAll(t, dsn, before)
		migrateAt(t, dsn, migrations.DefaultSchema, settings)
	})
	return place{dsn: dsn, schema: migrations.DefaultSchema, pool: dbtest.Pool(t, dsn, nil)}
}

func execAll(t testing.TB, dsn string, statements []string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// migratedAt makes a table of few partitions, which is quicker made, unless
// settings say otherwise.
func migratedAt(t testing.TB, dsn, schema string, settings migrations.Settings) place {
	t.Helper()
	migrateAt(t, dsn, schema, settings)
	return place{dsn: dsn, schema: schema, pool: dbtest.Pool(t, dsn, nil)}
}

func migrateAt(t testing.TB, dsn, schema string, settings migrations.Settings) {
	t.Helper()
	if settings.LongestLifetime == 0 {
		settings.PartitionWidth = cmp.Or(settings.PartitionWidth, 15*24*time.Hour)
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if err := migrations.Up(t.Context(), config, migrations.Config{Schema: schema, Settings: settings, LockWait: -1}); err != nil {
		t.Fatal(err)
	}
}

// open makes a store at p that is closed with the test.
func (p place) open(t testing.TB, opts Options) *Store {
	t.Helper()
	opts.Schema = p.schema
	opts.DirectDSN = cmp.Or(opts.DirectDSN, p.direct)
	opts.WriteTimeout = cmp.Or(opts.WriteTimeout, time.Minute) // a busy machine needs longer than the defaults
	opts.ReadTimeout = cmp.Or(opts.ReadTimeout, time.Minute)
	if opts.CacheBytes == 0 { // what is not about the cache is about the database
		opts.CacheBytes = -1
	}
	s, err := New(t.Context(), p.pool, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t testing.TB, s *Store) {
	ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// quiet is for stores whose test does the maintenance itself.
var quiet = Options{PruneInterval: -1, CacheBytes: -1}

// fresh is a record for Create that lives for a while.
func fresh(s *Store, user string) session.Record {
	deadline := s.Now().Add(24 * time.Hour)
	return session.Record{
		Key:      session.NewID(deadline).Key(),
		Expires:  s.Now().Add(30 * time.Minute),
		Deadline: deadline,
		User:     user,
		Data:     []byte(`{"some":"data"}`),
	}
}

func create(t testing.TB, s *Store, user string) session.Record {
	t.Helper()
	rec, err := s.Create(t.Context(), fresh(s, user))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// exec runs a statement on the side; %s-free text with the table's name in it
// comes from the test.
func (p place) exec(t testing.TB, sql string, args ...any) int64 {
	t.Helper()
	tag, err := p.pool.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return tag.RowsAffected()
}

func query[T any](t testing.TB, p place, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := p.pool.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}
