package pgstore

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
	"github.com/sojourn-go/sojourn/migrations"
)

func TestOptionsOutOfRangeAreRefusedByName(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	for _, c := range []struct {
		field, value string
		opts         Options
	}{
		{"LongestLifetime", "-1ns", Options{LongestLifetime: -1}},
		{"PartitionWidth", "-1h0m0s", Options{PartitionWidth: -time.Hour}},
		{"MaxData", "-1", Options{MaxData: -1}},
		{"MaxData", "1073741824", Options{MaxData: 1 << 30}},
		{"MaxUser", "-1", Options{MaxUser: -1}},
		{"MaxUser", "2001", Options{MaxUser: 2001}},
		{"BatchItems", "-1", Options{BatchItems: -1}},
		{"BatchItems", "10001", Options{BatchItems: 10_001}},
		{"BatchBytes", "-1", Options{BatchBytes: -1}},
		{"BatchBytes", "1073741824", Options{BatchBytes: 1 << 30}},
		{"WriteTimeout", "-1s", Options{WriteTimeout: -time.Second}},
		{"WriteTimeout", "1ns", Options{WriteTimeout: 1}},
		{"Premake", "-24h0m0s", Options{Premake: -24 * time.Hour}},
		{"Premake", "23h0m0s", Options{Premake: 23 * time.Hour}},
		{"RetireGrace", "-1h0m0s", Options{RetireGrace: -time.Hour}},
		{"RetireGrace", "59s", Options{RetireGrace: 59 * time.Second}},
		{"RetireGrace", "2562047h47m16.854775807s", Options{RetireGrace: math.MaxInt64}},
		{"WriteTimeout", "2562047h47m16.854775807s", Options{WriteTimeout: math.MaxInt64}},
		{"PruneInterval", "2562047h47m16.854775807s", Options{PruneInterval: math.MaxInt64}},
		{"Premake", "48h0m0s", Options{Premake: 48 * time.Hour}},
		{"Lease", "99ms", Options{Lease: 99 * time.Millisecond}},
		{"Lease", "1m1s", Options{Lease: time.Minute + time.Second}},
		{"LongestLifetime", "87601h0m0s", Options{LongestLifetime: 87601 * time.Hour}},
	} {
		c.opts.Schema = p.schema
		s, err := New(t.Context(), p.pool, c.opts)
		if s != nil {
			t.Errorf("New with %s = %s made a store", c.field, c.value)
			closeStore(t, s)
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "Options."+c.field+" is "+c.value+";") {
			t.Errorf("New with %s = %s: %v", c.field, c.value, err)
		}
	}
	if n := p.pool.Stat().AcquireCount(); n != 0 {
		t.Errorf("the database was asked %d times", n)
	}
}

// refusedNew checks that New fails, mentions what it has to, and leaves no
// connection behind but those of the caller's pool.
func refusedNew(t *testing.T, p place, opts Options, want error, mentions ...string) {
	t.Helper()
	name := "refused " + fmt.Sprint(time.Now().UnixNano())
	pool := dbtest.Pool(t, p.dsn, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["application_name"] = name })
	if opts.Schema == "" {
		opts.Schema = p.schema
	}
	s, err := New(t.Context(), pool, opts)
	if s != nil {
		t.Errorf("New made a store")
		closeStore(t, s)
		return
	}
	if want != nil {
		wantErr(t, "New", err, want)
	}
	for _, text := range mentions {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("New: %v; it does not mention %s", err, text)
		}
	}
	if strings.Contains(fmt.Sprint(err), "sekrit") {
		t.Errorf("the error has the password in it: %v", err)
	}
	pool.Close()
	if p.pool == nil {
		return
	}
	dbtest.Eventually(t, "no connection is left", func() bool {
		return query[int](t, p, `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1`, name) == 0
	})
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()

	t.Run("options that differ from the stored ones", func(t *testing.T) {
		t.Parallel()
		p := migrated(t)
		refusedNew(t, p, Options{LongestLifetime: time.Hour}, nil, "Options.LongestLifetime", "1h0m0s", "720h0m0s")
		refusedNew(t, p, Options{PartitionWidth: time.Hour}, nil, "Options.PartitionWidth", "1h0m0s", "360h0m0s")
		p.node(t, Options{LongestLifetime: 720 * time.Hour, PartitionWidth: 360 * time.Hour}, 2)
	})
	t.Run("a direct DSN that is none", func(t *testing.T) {
		t.Parallel()
		refusedNew(t, migrated(t), Options{DirectDSN: "postgres://user:sekrit@127.0.0.1:port/"}, nil, "Options.DirectDSN")
	})
	t.Run("names that are none", func(t *testing.T) {
		t.Parallel()
		p := migrated(t)
		refusedNew(t, p, Options{Table: strings.Repeat("x", 64)}, migrations.ErrInvalid)
		refusedNew(t, p, Options{Table: "a\x00b"}, migrations.ErrInvalid)
		refusedNew(t, p, Options{Schema: "a\xffb"}, migrations.ErrInvalid)
	})
	t.Run("no Postgres", func(t *testing.T) {
		t.Parallel()
		port, err := loopback.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		p := place{dsn: fmt.Sprintf("postgres://postgres:sekrit@127.0.0.1:%d/postgres?sslmode=disable", port), schema: "s"}
		refusedNew(t, p, Options{}, nil, fmt.Sprint(port), `schema "s"`, `table "sessions"`)
	})
	t.Run("a role or password that is wrong", func(t *testing.T) {
		t.Parallel()
		p := migrated(t)
		config, err := pgx.ParseConfig(p.dsn)
		if err != nil {
			t.Fatal(err)
		}
		for role, code := range map[string]string{"postgres": "28P01", "nobody_of_this_name": "28000"} {
			bad := p
			bad.dsn = fmt.Sprintf("postgres://%s:sekrit@127.0.0.1:%d/%s?sslmode=disable", role, config.Port, config.Database)
			refusedNew(t, bad, Options{}, nil, code, role)
		}
	})
	t.Run("a schema that is missing", func(t *testing.T) {
		t.Parallel()
		refusedNew(t, migrated(t), Options{Schema: "not there"}, migrations.ErrSchemaMissing, `"not there"`)
	})
	t.Run("a schema that was not migrated", func(t *testing.T) {
		t.Parallel()
		dsn, schema := dbtest.Postgres(t).Schema(t)
		p := place{dsn: dsn, schema: schema, pool: dbtest.Pool(t, dsn, nil)}
		refusedNew(t, p, Options{}, migrations.ErrNotMigrated, schema, "sessions")
		refusedNew(t, migrated(t), Options{Table: "others"}, migrations.ErrNotMigrated, `"others"`)
	})
	t.Run("a table of another shape", func(t *testing.T) {
		t.Parallel()
		dsn, schema := dbtest.Postgres(t).Schema(t)
		p := place{dsn: dsn, schema: schema, pool: dbtest.Pool(t, dsn, nil)}
		p.exec(t, `CREATE TABLE `+schema+`.sessions (sid text PRIMARY KEY, sess json, expire timestamp)`)
		refusedNew(t, p, Options{}, migrations.ErrForeignTable, schema, "sessions")
		changed := migrated(t)
		changed.exec(t, `ALTER TABLE `+changed.schema+`.sessions ALTER COLUMN version TYPE numeric`)
		refusedNew(t, changed, Options{}, migrations.ErrForeignTable, changed.schema, "version")
	})
	t.Run("a newer version", func(t *testing.T) {
		t.Parallel()
		p := migrated(t)
		p.exec(t, `UPDATE `+p.schema+`.sessions_meta SET schema_version = 9`)
		create(t, p.node(t, Options{}, 2), "ada") // it says that older programs can use it
		p.exec(t, `UPDATE `+p.schema+`.sessions_meta SET min_compatible = 8`)
		refusedNew(t, p, Options{}, migrations.ErrIncompatible, p.schema, "sessions", "9", "8")
	})
	t.Run("a context that has ended", func(t *testing.T) {
		t.Parallel()
		p := migrated(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s, err := New(ctx, p.pool, Options{Schema: p.schema})
		if s != nil {
			closeStore(t, s)
		}
		wantErr(t, "New", err, context.Canceled)
	})
}

func TestANodeNameThatNoServerTakesIsRefused(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	for name, reason := range map[string]string{
		"a\x00b": "has a NUL at byte 1", "a\xff": "is not UTF-8", strings.Repeat("n", 256): "has 256 bytes; the limit is 255",
	} {
		s, err := New(t.Context(), p.pool, Options{Schema: p.schema, NodeName: name, PruneInterval: -1})
		if s != nil {
			closeStore(t, s)
		}
		if err == nil || !strings.Contains(err.Error(), "Options.NodeName "+reason) {
			t.Errorf("%q: %v; want %q", name, err, reason)
		}
	}
}
