package pgstore

import (
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// pooled is p through PgBouncer in transaction mode, which has so few
// connections that transactions of a client rarely meet the same one.
func (p place) pooled(t testing.TB, mode pgx.QueryExecMode) place {
	t.Helper()
	dsn := dbtest.Bouncer(t, dbtest.Postgres(t), p.dsn, map[string]string{"default_pool_size": "4"})
	return p.by(t, dsn, func(c *pgxpool.Config) {
		inMode(mode)(c)
		ConfigurePool(c)
	})
}

func TestEverythingWorksBehindAPooler(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			node := p.pooled(t, mode)
			a, b := node.open(t, quiet), node.open(t, quiet)
			past := p.ended(t, 10)
			l := p.partOf(t, p.hour(t)+400)
			p.exec(t, `DROP TABLE `+p.table(t, l.name))
			done := prune(t, a)
			if done != (session.Pruned{Retired: 1, Made: 1, Rows: 10}) || p.exists(t, past.name) {
				t.Errorf("Pruned %+v, want one retired with 10 rows and one made", done)
			}
			var wg sync.WaitGroup
			recs := make([]session.Record, 2)
			times := rounds.Of(20)
			for i, s := range []*Store{a, b} {
				wg.Go(func() {
					for range times {
						recs[i] = everything(t, s)
					}
				})
			}
			wg.Wait()
			mustGet(t, a, recs[1].Key)
			mustGet(t, b, recs[0].Key)
			if n, err := a.Clear(t.Context()); n < int64(2*times) || err != nil {
				t.Errorf("Clear = %d, %v", n, err)
			}
			// Settings of a transaction must not stay on the pooler's connections.
			for range 20 {
				if got := query[string](t, node, `SELECT current_setting('enable_seqscan') || current_setting('synchronous_commit') || current_setting('lock_timeout')`); got != "onon0" {
					t.Fatalf("the connection was left with %s", got)
				}
			}
		})
	}
}

func TestMaintenanceBehindAPoolerTakesTurns(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	node := p.pooled(t, pgx.QueryExecModeExec)
	var background told
	core, logs := observer.New(zap.WarnLevel)
	var stores []*Store
	var done []func(int64) bool
	for range 2 {
		opts := Options{OnError: background.add, Logger: zap.New(core)}
		done = append(done, passes(&opts))
		stores = append(stores, node.open(t, opts))
	}
	hour := p.hour(t)
	for i := range int32(4) {
		l := p.addPart(t, hour-1000+10*i, hour-990+10*i, 10)
		dbtest.Eventually(t, "the partition is retired", func() bool { return !p.exists(t, l.name) })
	}
	dbtest.Eventually(t, "some passes", func() bool { return done[0](5) && done[1](5) })
	dbtest.Eventually(t, "four partitions with 40 rows are counted", func() bool {
		retired, rows := 0, int64(0)
		for _, s := range stores {
			retired += s.Stats().Pruned.Retired
			rows += s.Stats().Pruned.Rows
		}
		return retired == 4 && rows == 40
	})
	for _, s := range stores {
		if s.Stats().Leading {
			t.Error("a node thinks that it leads")
		}
	}
	if errs := background.list(); len(errs) != 0 {
		t.Errorf("OnError was told %q", errs)
	}
	if n := logs.FilterMessageSnippet("the pool goes through a pooler").Len(); n != len(stores) {
		t.Errorf("%d warnings of a pooler, want one of each node: %v", n, logs.All())
	}
}

func TestAnApplicationsRoleBehindAPooler(t *testing.T) {
	t.Parallel()
	p, app, _, _ := withRoles(t, migrations.Settings{})
	past := p.ended(t, 10)
	user := app.pool.Config().ConnConfig.User
	p.exec(t, `ALTER ROLE `+quoted(user)+` PASSWORD 'secret'`)
	dsn := strings.Replace(p.dsn, p.dsn[strings.Index(p.dsn, "//")+2:strings.Index(p.dsn, "@")], strings.ReplaceAll(user, " ", "%20")+":secret", 1)
	app.dsn = dsn
	var background told
	opts := Options{OnError: background.add}
	done := passes(&opts)
	s := app.pooled(t, pgx.QueryExecModeExec).open(t, opts)
	everything(t, s)
	dbtest.Eventually(t, "some passes", func() bool { return done(5) })
	if errs := background.list(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "may not drop partitions") {
		t.Errorf("OnError was told %q, want once that partitions may not be dropped", errs)
	}
	if !p.exists(t, past.name) {
		t.Error("the partition is gone")
	}
}

func TestADirectDSNLeadsAroundThePooler(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	past := p.ended(t, 10)
	var background told
	core, logs := observer.New(zap.WarnLevel)
	opts := Options{DirectDSN: p.dsn, OnError: background.add, Logger: zap.New(core)}
	done := passes(&opts)
	node := p.pooled(t, pgx.QueryExecModeExec)
	s := node.open(t, opts)
	dbtest.Eventually(t, "the node leads", func() bool { return s.Stats().Leading })
	dbtest.Eventually(t, "some passes", func() bool { return done(3) })
	if p.exists(t, past.name) {
		t.Error("the partition is still there")
	}
	everything(t, s)
	if errs := background.list(); len(errs) != 0 || logs.Len() != 0 {
		t.Errorf("OnError was told %q; logged %v", errs, logs.All())
	}

	if _, err := New(t.Context(), node.pool, Options{DirectDSN: "postgres://%zz"}); err == nil || !strings.Contains(err.Error(), "Options.DirectDSN") {
		t.Errorf("New with a DSN that is none: %v", err)
	}
}
