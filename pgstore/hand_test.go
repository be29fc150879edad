package pgstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// The rights of a partition are those of its parent, whatever was granted or
// revoked on either.
func TestPartitionsFollowTheRightsOfTheirParent(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		roles := newRoles(t, "reader ", "lender ", "borrower ", "new owner ")
		p := migrated(t)
		s := at(p).open(t, quiet)
		for _, role := range roles {
			p.exec(t, `CREATE ROLE `+quoted(role))
		}
		p.exec(t, `GRANT USAGE ON SCHEMA `+quoted(p.schema)+` TO `+quoted(roles[1]))
		reader, lender, borrower := quoted(roles[0]), quoted(roles[1]), quoted(roles[2])
		parent := s.names.Sessions
		partition := p.table(t, p.parts(t)[0].name)
		const rights = `SELECT pg_get_userbyid(c.relowner) || ' ' || COALESCE((
  SELECT string_agg(a.grantee::regrole || a.privilege_type || a.is_grantable, ' ' ORDER BY a.grantee, a.privilege_type)
  FROM aclexplode(c.relacl) AS a WHERE a.grantee <> c.relowner), '') || COALESCE((
  SELECT string_agg(t.attname || a.grantee::regrole || a.privilege_type || a.is_grantable, ' ' ORDER BY t.attname, a.grantee, a.privilege_type)
  FROM pg_attribute AS t, aclexplode(t.attacl) AS a WHERE t.attrelid = c.oid), '')
FROM pg_class AS c WHERE c.oid = $1::text::regclass`
		for _, sql := range []string{
			`GRANT SELECT, DELETE ON ` + parent + ` TO ` + reader,
			`REVOKE SELECT ON ` + parent + ` FROM ` + reader,
			`GRANT SELECT ON ` + parent + ` TO PUBLIC`,
			`REVOKE ALL ON ` + parent + ` FROM PUBLIC`,
			`GRANT SELECT ON ` + parent + ` TO ` + lender + ` WITH GRANT OPTION`,
			`GRANT SELECT ON ` + partition + ` TO ` + lender + ` WITH GRANT OPTION; SET ROLE ` + lender + `; GRANT SELECT ON ` + partition + ` TO ` + borrower + `; RESET ROLE`,
			`REVOKE GRANT OPTION FOR SELECT ON ` + parent + ` FROM ` + lender,
			`GRANT UPDATE (data), SELECT (key) ON ` + parent + ` TO ` + borrower,
			`REVOKE UPDATE (data) ON ` + parent + ` FROM ` + borrower,
			`GRANT ALL ON ` + partition + ` TO PUBLIC`,
			`GRANT SELECT (data) ON ` + partition + ` TO ` + reader,
			`ALTER TABLE ` + parent + ` OWNER TO ` + quoted(roles[3]),
			`REVOKE ALL ON ` + parent + ` FROM ` + reader + `, ` + lender + `, ` + borrower,
		} {
			p.exec(t, sql)
			prune(t, s)
			want := query[string](t, p, rights, parent)
			for _, l := range p.parts(t) {
				if got := query[string](t, p, rights, p.table(t, l.name)); got != want {
					t.Errorf("after %s: %v gives %q, its parent %q", sql, l, got, want)
				}
			}
		}
		// The database goes before its roles, but they own nothing then.
		p.exec(t, `ALTER TABLE `+parent+` OWNER TO CURRENT_USER`)
		prune(t, s)
	})
}

// A partition is kept whose comment says so, detached by an operator or by us.
func TestAPartitionIsKeptWhoseCommentSaysSo(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		p := migrated(t)
		s := at(p).open(t, quiet)
		present, past := p.partOf(t, p.hour(t)+400), p.ended(t, 10)
		other := p.addPart(t, p.hour(t)-550, p.hour(t)-500, 7)
		rec, err := s.Create(t.Context(), lasting(s, p.hour(t)+400))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []part{present, past} { // one of them is over, one is not
			p.exec(t, `BEGIN; ALTER TABLE `+s.names.Sessions+` DETACH PARTITION `+p.table(t, l.name)+
				`; COMMENT ON TABLE `+p.table(t, l.name)+` IS 'keep: evidence'; COMMIT`)
		}
		p.exec(t, `COMMENT ON TABLE `+p.table(t, other.name)+` IS 'keep'`)
		for range 2 {
			prune(t, s)
			for l, rows := range map[part]int{present: 1, past: 10, other: 7} {
				if n := query[int](t, p, `SELECT count(*) FILTER (WHERE version > 0)::int FROM `+p.table(t, l.name)); n != rows {
					t.Errorf("%v has %d rows, want %d", l, n, rows)
				}
				if slices.Contains(p.parts(t), l) {
					t.Errorf("%v is a partition", l)
				}
			}
		}
		// Its place was taken, and its sessions are gone until it is given back.
		if made := p.partOf(t, p.hour(t)+400); made.lo != present.lo || made.hi != present.hi {
			t.Errorf("%v takes the place of %v", made, present)
		}
		if _, err := s.table.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), rec.Key); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Get: %v, want ErrNotFound", err)
		}
		p.exec(t, `COMMENT ON TABLE `+p.table(t, present.name)+` IS '`+s.names.PartitionComment(present.lo, present.hi)+`'`)
		prune(t, s)
		if _, err := s.table.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustGet(t, s, rec.Key)
		if p.exists(t, present.name) {
			t.Error("the table that was given back is still there")
		}
	})
}

// A comment that was lost, as in a restore without comments, is no reason to
// keep a partition.
func TestAPartitionWithoutACommentIsDropped(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		p := migrated(t)
		s := at(p).open(t, quiet)
		past := p.ended(t, 10)
		p.exec(t, `COMMENT ON TABLE `+p.table(t, past.name)+` IS NULL`)
		if done := prune(t, s); done.Retired != 1 || p.exists(t, past.name) {
			t.Errorf("Pruned %+v, want one retired", done)
		}
	})
}

// What a pass has done is told apart in the journal.
func TestThePassesAreNotedByDuty(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		p, app, maintainer, _ := withRoles(t, migrations.Settings{})
		past := p.ended(t, 10)
		duties := func(s *Store) (made, retired, thinned, all session.Duty) {
			t.Helper()
			if _, err := s.table.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			st := s.Stats()
			return st.MadeAhead, st.Retired, st.Thinned, session.Duty{Done: st.Maintained, By: st.MaintainedBy}
		}
		s := app.open(t, Options{PruneInterval: -1, NodeName: "app"})
		if _, err := s.PruneNow(t.Context()); err == nil || !strings.Contains(err.Error(), "may not drop partitions") {
			t.Errorf("PruneNow: %v, want that the role may not", err)
		}
		made, retired, thinned, all := duties(s)
		if made.By != "app" || thinned.By != "app" || made.Done.IsZero() || thinned.Done.IsZero() || retired != (session.Duty{}) || all != (session.Duty{}) {
			t.Errorf("made %v, retired %v, thinned %v, all %v", made, retired, thinned, all)
		}
		if !strings.Contains(s.Stats().Limits, "may not drop partitions") {
			t.Errorf("Limits: %q", s.Stats().Limits)
		}
		fit := at(maintainer).open(t, Options{PruneInterval: -1, NodeName: "fit"})
		prune(t, fit)
		made, retired, thinned, all = duties(s)
		if made.By != "fit" || retired.By != "fit" || thinned.By != "fit" || all.By != "fit" || p.exists(t, past.name) {
			t.Errorf("made %v, retired %v, thinned %v, all %v", made, retired, thinned, all)
		}
		// Nothing is due that the role may not do.
		prune(t, s)
		if _, retired, _, all = duties(s); retired.By != "app" || all.By != "app" {
			t.Errorf("retired %v, all %v", retired, all)
		}
	})
}

// The election is open to all, but those who may retire partitions go first.
func TestWhoMayRetireLeads(t *testing.T) {
	t.Parallel()
	p, app, maintainer, roles := withRoles(t, migrations.Settings{})
	past := p.ended(t, 10)
	opts := func(name string) Options {
		o := Options{NodeName: name}
		passes(&o)
		return o
	}
	for i := range 3 {
		app.open(t, opts(fmt.Sprint("app ", i)))
	}
	ahead := p.partOf(t, p.hour(t)+400)
	p.exec(t, `DROP TABLE `+p.table(t, ahead.name))
	dbtest.Eventually(t, "partitions are made ahead though nobody may retire", func() bool {
		return slices.ContainsFunc(p.parts(t), func(l part) bool { return l.lo == ahead.lo })
	})
	if !p.exists(t, past.name) {
		t.Fatal("the partition was retired by a role that may not")
	}

	// One that may comes, and stays.
	fit := maintainer.open(t, opts("fit"))
	dbtest.Eventually(t, "the partition is retired", func() bool { return !p.exists(t, past.name) })
	dbtest.Eventually(t, "it is noted", func() bool { return fit.Stats().MaintainedBy == "fit" })
	term := fit.Stats().Term

	// It loses the right while it leads.
	user := maintainer.pool.Config().ConnConfig.User
	p.exec(t, `REVOKE `+quoted(roles.Maintainer)+` FROM `+quoted(user))
	dbtest.Eventually(t, "it leads no longer than a pass", func() bool { st := fit.Stats(); return !st.Leading || st.Term > term })

	// Another one gets it.
	p.exec(t, `GRANT `+quoted(roles.Maintainer)+` TO `+quoted(app.pool.Config().ConnConfig.User))
	past = p.ended(t, 10)
	dbtest.Eventually(t, "the next partition is retired", func() bool { return !p.exists(t, past.name) })
}
