package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader/pglock"
	"github.com/sojourn-go/sojourn/migrations"
)

// partitions lists the partitions.
func (p place) partitions(t testing.TB) string {
	t.Helper()
	return query[string](t, p, `SELECT coalesce(string_agg(inhrelid::regclass::text, ' ' ORDER BY 1), '')
		FROM pg_inherits WHERE inhparent = '`+p.names(t).Sessions+`'::regclass`)
}

func TestADirectDSNThatLeadsElsewhereDoesNothingThere(t *testing.T) {
	t.Parallel()
	p, other := migrated(t), migrated(t)
	past, foreign := p.ended(t, 10), other.ended(t, 10)
	made := other.partitions(t)

	core, logs := observer.New(zap.DebugLevel)
	var background told
	opts := Options{DirectDSN: other.dsn, Logger: zap.New(core), OnError: background.add}
	passes(&opts)
	s := p.open(t, opts)
	cannot := func() *observer.ObservedLogs { return logs.FilterMessage("leader: cannot compete") }
	dbtest.Eventually(t, "it has tried to lead", func() bool { return cannot().Len() >= 3 })
	for _, line := range cannot().All() {
		if text := fmt.Sprint(line.ContextMap()["error"]); !strings.Contains(text, pglock.ErrElsewhere.Error()) {
			t.Errorf("it cannot lead because %s, want ErrElsewhere", text)
		}
	}
	if n := cannot().FilterLevelExact(zap.WarnLevel).Len(); n != 1 {
		t.Errorf("%d warnings, want one", n)
	}
	if _, err := s.PruneNow(t.Context()); !errors.Is(err, pglock.ErrElsewhere) {
		t.Errorf("PruneNow: %v, want ErrElsewhere", err)
	}
	if s.Stats().Leading || s.Stats().Term != 0 {
		t.Error("it leads elsewhere")
	}
	if got := other.partitions(t); got != made || !other.exists(t, foreign.name) || !p.exists(t, past.name) {
		t.Errorf("partitions were dropped or made: %s, was %s", got, made)
	}
	if _, err := s.Get(t.Context(), create(t, s, "ada").Key); err != nil {
		t.Error(err)
	}
}

func TestCredentialsThatChangeReachAllConnections(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.Config{})
	p := migratedAt(t, server.Database(t), "sojourn", migrations.Settings{})
	admin := dbtest.Conn(t, p.dsn)
	was := parsed(t, p.dsn).Password
	var password atomic.Value
	password.Store(was)
	change := func(to string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := admin.Exec(ctx, `ALTER ROLE postgres PASSWORD '`+to+`'`); err != nil {
			t.Fatal(err)
		}
		password.Store(to)
		_, err := admin.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE pid <> pg_backend_pid() AND datname = current_database()`)
		if err != nil {
			t.Fatal(err)
		}
	}
	defer change(was)
	_, around := dbtest.Proxy(t, p.dsn)
	direct := parsed(t, around)
	for name, dsn := range map[string]string{
		"the pool's way": "", "another one": fmt.Sprintf("host=%s port=%d", direct.Host, direct.Port), "one with an old password": around,
	} {
		t.Run(name, func(t *testing.T) {
			change(was)
			current := func(_ context.Context, c *pgx.ConnConfig) error {
				c.Password = password.Load().(string)
				return nil
			}
			opts := Options{DirectDSN: dsn, NodeName: "rotating", PruneInterval: time.Minute}
			done := passes(&opts)
			s := p.cached(t, opts, func(c *pgxpool.Config) { c.BeforeConnect = current })
			dbtest.Eventually(t, "the node leads", func() bool { return s.Stats().Leading && done(1) })
			for i := range 2 {
				before := s.Stats()
				change(fmt.Sprint("changed ", i))
				dbtest.Eventually(t, "it leads again", func() bool { st := s.Stats(); return st.Leading && st.Term > before.Term })
				dbtest.Eventually(t, "it reads and writes", func() bool {
					_, err := s.Destroy(t.Context(), fresh(s, "ada").Key)
					return err == nil && s.pool.Ping(t.Context()) == nil
				})
				awaitLease(t, s)
				rec := create(t, s, "ada")
				warm(t, rec.Key, s)
				destroyed(t, s, rec.Key)
				if _, err := s.PruneNow(t.Context()); err != nil {
					t.Error(err)
				}
				if name, err := s.Leader(t.Context()); err != nil || name != "rotating" {
					t.Errorf("Leader = %q, %v", name, err)
				}
			}
		})
	}
}

func parsed(t testing.TB, dsn string) *pgx.ConnConfig {
	t.Helper()
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
