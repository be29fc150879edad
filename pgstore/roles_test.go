package pgstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// newRoles returns unused names of roles, which belong to all databases of the
// shared server. They are dropped after the databases that are made later.
func newRoles(t testing.TB, prefixes ...string) (names []string) {
	t.Helper()
	s := dbtest.Postgres(t)
	for _, prefix := range prefixes {
		names = append(names, prefix+strings.ToLower(rand.Text()[:8]))
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
		defer cancel()
		conn, err := pgx.Connect(ctx, s.DSN("postgres"))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(ctx)
		for _, name := range slices.Backward(names) { // members first
			if _, err := conn.Exec(ctx, `DROP ROLE IF EXISTS `+quoted(name)); err != nil {
				t.Error(err)
			}
		}
	})
	return names
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// withRoles makes a table with roles, and returns how a member of the
// application's and of the maintainers' role sees it.
func withRoles(t testing.TB, settings migrations.Settings) (p, app, maintainer place, roles migrations.Roles) {
	t.Helper()
	names := newRoles(t, "owner ", "maintainer ", "app ", "a node ", "a leader ")
	roles = migrations.Roles{Owner: names[0], Maintainer: names[1], App: names[2]}
	dsn := dbtest.Postgres(t).Database(t)
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	err = migrations.Up(t.Context(), config, migrations.Config{Settings: settings, Roles: roles})
	if err != nil {
		t.Fatal(err)
	}
	p = place{dsn: dsn, schema: migrations.DefaultSchema, pool: dbtest.Pool(t, dsn, nil)}
	return p, p.login(t, names[3], roles.App), p.login(t, names[4], roles.Maintainer), roles
}

// login makes a role that can log in, perhaps as a member of a group.
func (p place) login(t testing.TB, name, group string) place {
	t.Helper()
	p.exec(t, `CREATE ROLE `+quoted(name)+` LOGIN`)
	if group != "" {
		p.exec(t, `GRANT `+quoted(group)+` TO `+quoted(name))
	}
	return p.by(t, p.dsn, func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = name, "" })
}

// passes makes maintenance quick; done reports whether there were n passes.
func passes(opts *Options) (done func(n int64) bool) {
	var count atomic.Int64
	opts.NextPrune = func() time.Duration { count.Add(1); return 10 * time.Millisecond }
	return func(n int64) bool { return count.Load() >= n }
}

func TestAnApplicationsRoleNeedsNoRightsOnTables(t *testing.T) {
	t.Parallel()
	p, app, _, roles := withRoles(t, migrations.Settings{})
	past := p.ended(t, 10)
	p.exec(t, `DROP TABLE `+p.table(t, p.partOf(t, p.hour(t)+400).name))
	var background told
	core, logs := observer.New(zap.ErrorLevel)
	opts := Options{OnError: background.add, Logger: zap.New(core)}
	done := passes(&opts)
	s := app.open(t, opts)
	everything(t, s)
	rec, err := s.Create(t.Context(), lasting(s, p.hour(t)+400))
	if err != nil {
		t.Fatal(err)
	}
	mustGet(t, s, rec.Key)
	dbtest.Eventually(t, "some passes", func() bool { return done(3) })
	before := s.Stats()
	dbtest.Eventually(t, "what could be done is noted", func() bool {
		st := s.Stats()
		return st.MadeAhead.Done.After(before.MadeAhead.Done) && st.Thinned.Done.After(before.Thinned.Done)
	})
	if st := s.Stats(); !st.Maintained.Equal(before.Maintained) || !st.Retired.Done.Equal(before.Retired.Done) {
		t.Errorf("what could not be done counts as done: %+v", st)
	} else if !strings.Contains(st.Limits, "may not drop partitions") {
		t.Errorf("Limits is %q", st.Limits)
	}
	errs := background.list()
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "may not drop partitions") || !strings.Contains(errs[0].Error(), roles.Owner) {
		t.Errorf("OnError was told %q, want once that partitions may not be dropped, and who owns them", errs)
	}
	if n := logs.Len(); n != 1 {
		t.Errorf("%d errors were logged, want 1: %v", n, logs.All())
	}
	if !p.exists(t, past.name) {
		t.Error("the partition is gone")
	}
}

func TestWithoutTheRightToMakePartitions(t *testing.T) {
	t.Parallel()
	p, app, _, roles := withRoles(t, hourly)
	p.exec(t, `REVOKE EXECUTE ON FUNCTION `+p.names(t).MakePartition+` FROM `+quoted(roles.App))
	s := app.open(t, quiet)
	hour := p.hour(t)
	p.exec(t, `DROP TABLE `+p.table(t, p.partOf(t, hour+20).name))
	for _, known := range []bool{false, true} {
		if known {
			if _, err := s.table.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		// In one batch with others, which must not suffer.
		var ops []*batch.Op
		for i := range int32(9) {
			rec := lasting(s, hour+10+i%3*5)
			ops = append(ops, &batch.Op{Key: rec.Key, Rec: rec})
		}
		if err := s.writes.Creates.Start(t.Context(), ops...); err != nil {
			t.Fatal(err)
		}
		for _, o := range ops {
			err := s.writes.Creates.Await(t.Context(), o)
			if missing := o.Key.Bucket == hour+20; missing != errors.Is(err, session.ErrNoPartition) || !missing && err != nil {
				t.Errorf("Create with a partition %v: %v", !missing, err)
			}
		}
		if _, err := s.Create(t.Context(), lasting(s, hour+20)); !errors.Is(err, session.ErrNoPartition) {
			t.Errorf("Create: %v, want ErrNoPartition", err)
		}
		if _, _, err := s.CreateLimited(t.Context(), lasting(s, hour+20), session.UserLimit{Max: 100}); !errors.Is(err, session.ErrNoPartition) {
			t.Errorf("CreateLimited: %v, want ErrNoPartition", err)
		}
		if _, err := s.Put(t.Context(), session.Record{Key: session.ForeignKey("test", fmt.Sprint(known)), Deadline: lasting(s, hour+20).Deadline}); !errors.Is(err, session.ErrNoPartition) {
			t.Errorf("Put: %v, want ErrNoPartition", err)
		}
		old := create(t, s, "user")
		next := lasting(s, hour+20)
		next.Version = old.Version
		if _, err := s.Renew(t.Context(), old.Key, next, 0); !errors.Is(err, session.ErrNoPartition) {
			t.Errorf("Renew: %v, want ErrNoPartition", err)
		}
		mustGet(t, s, old.Key)
	}
	if _, err := s.PruneNow(t.Context()); err == nil || !strings.Contains(err.Error(), "grant it EXECUTE") || !db.IsCode(err, "42501") {
		t.Errorf("PruneNow: %v, want what right is missing", err)
	}
}

// A grant on the table does not reach its partitions by itself.
func TestARoleThatIsGrantedLaterWorksAtOnce(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		role := newRoles(t, "late ")[0]
		p := migrated(t)
		owner := at(p).open(t, quiet)
		late := p.login(t, role, "")
		n := p.names(t)
		for _, sql := range []string{
			`GRANT USAGE ON SCHEMA ` + quoted(p.schema) + ` TO `,
			`GRANT SELECT, INSERT, UPDATE, DELETE ON ` + n.Sessions + ` TO `,
			`GRANT SELECT, UPDATE ON ` + n.Meta + ` TO `,
			`GRANT EXECUTE ON FUNCTION ` + n.MakePartition + ` TO `,
		} {
			p.exec(t, sql+quoted(role))
		}
		s := late.open(t, quiet)
		partition := p.table(t, p.partOf(t, fresh(s, "").Key.Bucket).name)
		const may = `SELECT has_table_privilege($1, $2, 'SELECT, INSERT, UPDATE, DELETE')`
		if query[bool](t, p, `SELECT has_table_privilege($1, $2, 'SELECT')`, role, partition) {
			t.Fatal("the partition has the grant already")
		}
		rec := everything(t, s)
		mustGet(t, owner, rec.Key)
		if n, err := s.Clear(t.Context()); n == 0 || err != nil {
			t.Errorf("Clear = %d, %v", n, err)
		}
		if query[bool](t, p, `SELECT has_table_privilege($1, $2, 'SELECT')`, role, partition) {
			t.Fatal("the partition got the grant by itself: this was no test")
		}

		prune(t, owner)
		for _, l := range p.parts(t) {
			if !query[bool](t, p, may, role, p.table(t, l.name)) {
				t.Errorf("%v has not got the grant", l)
			}
		}
		before := s.Stats().Retries
		rec = create(t, s, "user")
		if saved, err := s.Save(t.Context(), rec); err != nil || saved.Version <= rec.Version {
			t.Errorf("Save = version %d of %d, %v", saved.Version, rec.Version, err)
		}
		mustGet(t, s, rec.Key)
		if n := s.Stats().Retries - before; n != 0 {
			t.Errorf("%d writes were repeated, so they went through the parent", n)
		}
	})
}

func TestAMaintainersRoleRetires(t *testing.T) {
	t.Parallel()
	p, app, maintainer, roles := withRoles(t, migrations.Settings{})
	var background told
	s := maintainer.open(t, Options{PruneInterval: -1, OnError: background.add})
	rec := create(t, app.open(t, quiet), "user")
	past := p.ended(t, 10)
	p.exec(t, `ALTER TABLE `+p.table(t, past.name)+` OWNER TO `+quoted(roles.Owner))
	l := p.partOf(t, p.hour(t)+400)
	p.exec(t, `DROP TABLE `+p.table(t, l.name))
	if done := prune(t, s); done != (session.Pruned{Retired: 1, Made: 1, Rows: 10}) {
		t.Errorf("Pruned %+v, want one retired with 10 rows and one made", done)
	}
	if owner := query[string](t, p, `SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = $1::text::regclass`, p.table(t, p.partOf(t, l.lo).name)); owner != roles.Owner {
		t.Errorf("the partition made belongs to %q, want %q", owner, roles.Owner)
	}
	mustGet(t, s, rec.Key)
	if errs := background.list(); len(errs) != 0 {
		t.Errorf("OnError was told %q", errs)
	}
}
