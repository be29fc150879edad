package direct_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/internal/pooled"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

func TestADSNSaysWhatDiffersFromThePool(t *testing.T) {
	t.Setenv("PGPASSFILE", "/nowhere")
	t.Setenv("PGUSER", "of the environment")
	t.Setenv("PGPASSWORD", "of the environment")
	const pool = "postgres://app:secret@pooler:6432/shop?sslmode=verify-full&timezone=UTC&connect_timeout=7"
	for _, tt := range []struct{ dsn, want string }{
		{"host=db", "app:secret@db:5432/shop tls=db"},
		{"port=5432", "app:secret@pooler:5432/shop tls=pooler"},
		{"host=db port=5433 user=owner", "owner:of the environment@db:5433/shop tls=db"},
		{"host = db user=app", "app:secret@db:5432/shop tls=db"},
		{`host='db' user='o\'w ner' password = 'pass=host x' dbname=other`, "o'w ner:pass=host x@db:5432/other tls=db"},
		{`user=host\ x host=db password=p`, "host x:p@db:5432/shop tls=db"},
		{"host=db sslmode=disable", "app:secret@db:5432/shop tls="},
		{"host=/run/postgresql", "app:secret@/run/postgresql:5432/shop tls="},
		{"postgres://db", "app:secret@db:5432/shop tls=db"},
		{"postgres://db/other", "app:secret@db:5432/other tls=db"},
		{"postgres://owner@db:5433/", "owner:of the environment@db:5433/shop tls=db"},
		{"postgres://owner:p@db:5433/other?sslmode=disable", "owner:p@db:5433/other tls="},
		{"postgresql://app:new@db", "app:new@db:5432/shop tls=db"},
		{"postgres:///?host=db&port=1", "app:secret@db:1/shop tls=db"},
		{"postgres://a:1,b:2/?pool_max_conns=3", "app:secret@a:1/shop tls=a b:2 tls=b"},
		{"postgres://[::1]:5/", "app:secret@::1:5/shop tls=::1"},
	} {
		from, err := pgx.ParseConfig(pool)
		if err != nil {
			t.Fatal(err)
		}
		got, err := direct.Merged(from, tt.dsn)
		if err != nil {
			t.Errorf("%s: %v", tt.dsn, err)
			continue
		}
		name := func(c *tls.Config) string {
			if c == nil {
				return ""
			}
			return c.ServerName
		}
		text := fmt.Sprintf("%s:%s@%s:%d/%s tls=%s", got.User, got.Password, got.Host, got.Port, got.Database, name(got.TLSConfig))
		for _, f := range got.Fallbacks {
			text += fmt.Sprintf(" %s:%d tls=%s", f.Host, f.Port, name(f.TLSConfig))
		}
		if text != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.dsn, text, tt.want)
		}
		if got.RuntimeParams["timezone"] != "UTC" || len(got.RuntimeParams) != 1 || got.ConnectTimeout != from.ConnectTimeout {
			t.Errorf("%s: parameters %v, connect timeout %v", tt.dsn, got.RuntimeParams, got.ConnectTimeout)
		}
	}
	if _, err := direct.Merged(config(t, pool), "host=db port=many"); err == nil {
		t.Error("a port that is none is taken")
	}
}

func around(t testing.TB, pool *pgxpool.Pool, dsn string) *direct.Source {
	t.Helper()
	s, err := direct.Around(pool, dsn)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAWayAroundLeadsToTheDatabaseOfThePool(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	dsn, other := server.Database(t), server.Database(t)
	bouncer := dbtest.Bouncer(t, server, dsn, nil)
	exec := func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec }

	for name, pool := range map[string]*pgxpool.Pool{"a pool": dbtest.Pool(t, dsn, nil), "a pooler": dbtest.Pool(t, bouncer, exec)} {
		conn := open(t, around(t, pool, dsn), direct.Options{Proven: true})
		var locks int
		err := conn.QueryRow(within(t), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()`).Scan(&locks)
		if err != nil || locks != 0 {
			t.Errorf("%s: the proof left %d locks: %v", name, locks, err)
		}
		_, err = around(t, pool, other).Connect(within(t), direct.Options{Proven: true})
		if !errors.Is(err, direct.ErrElsewhere) || !strings.Contains(err.Error(), fmt.Sprintf("%q", config(t, other).Database)) {
			t.Errorf("%s: another database: got %v, want ErrElsewhere with its name", name, err)
		}
	}
	if _, err := around(t, dbtest.Pool(t, bouncer, exec), "").Connect(within(t), direct.Options{}); !errors.Is(err, pooled.Err) {
		t.Errorf("the pooler's own way: got %v, want ErrPooled", err)
	}
	open(t, around(t, dbtest.Pool(t, dsn, nil), ""), direct.Options{Proven: true})
}

// The lock that the pool looks for goes with the connection that has it.
func TestAConnectionThatEndsMeanwhileLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	pool := dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
		c.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
			_, err := conn.Exec(ctx, `
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'the ended one'`)
			return true, err
		}
	})
	_, err := around(t, pool, dsn).Connect(within(t), direct.Options{Name: "the ended one", Proven: true})
	if err == nil || errors.Is(err, direct.ErrElsewhere) {
		t.Errorf("got %v, want another error than ErrElsewhere", err)
	}
}

func TestACopyOfTheServerIsNotTheServer(t *testing.T) {
	t.Parallel()
	// A standby that was promoted has all that tells servers and databases apart.
	server := dbtest.Start(t, dbtest.Config{})
	dsn := server.Database(t)
	standby := dbtest.Standby(t, server)
	standby.Promote(t)
	copied := standby.DSN(config(t, dsn).Database)
	_, err := around(t, dbtest.Pool(t, dsn, nil), copied).Connect(within(t), direct.Options{Proven: true})
	if !errors.Is(err, direct.ErrElsewhere) || !strings.Contains(err.Error(), "another server") {
		t.Errorf("got %v, want ErrElsewhere: another server", err)
	}
}

func TestAWayAroundHasTheCredentialsThatThePoolGets(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	dsn := server.Database(t)
	role := newRole(t, server, "")
	way := config(t, dbtest.Bouncer(t, server, dsn, nil))
	pool := dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		c.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			c.Host, c.Port, c.Database = way.Host, way.Port, way.Database // the pool's way
			c.RuntimeParams["application_name"] = "before"
			return nil
		}
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SET ROLE `+role)
			return err
		}
	})
	conn := open(t, around(t, pool, dsn), direct.Options{Proven: true})
	var user, name string
	err := conn.QueryRow(within(t), `SELECT current_user, current_setting('application_name')`).Scan(&user, &name)
	if err != nil || user != role || name != "before" {
		t.Errorf("it is %q of %q: %v; want the role of AfterConnect and the name of BeforeConnect", name, user, err)
	}
}
