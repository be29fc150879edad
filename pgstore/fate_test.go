package pgstore

import (
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/session"
)

func wantFate(t testing.TB, s *Store, key session.Key, want session.Fate) {
	t.Helper()
	if got, err := s.Fate(t.Context(), key); got != want || err != nil {
		t.Errorf("Fate = %v, %v; want %v", got, err, want)
	}
}

func TestAFateIsReadByThePrimaryKeyOfOnePartition(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	bucket := p.hour(t) + 400
	l := s.table.Known.Load().Find(bucket)
	primary := query[string](t, p, `SELECT indexrelid::regclass::text FROM pg_index WHERE indisprimary AND indrelid = $1::text::regclass`, l.Table)
	primary = primary[strings.LastIndexByte(primary, '.')+1:]
	want := fmt.Sprintf("Index Scan using %s on %s", primary, l.Name)
	filled := 0
	for _, rows := range []int{0, 3, 2000} {
		p.exec(t, fillSQL(l.Table, bucket, filled+1, rows, 600, "now() + interval '1 hour'"))
		filled = rows
		p.exec(t, `VACUUM ANALYZE `+l.Table)
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			for name, text := range map[string]string{"partition": textsOf(l).fate, "parent": s.onParent.fate} {
				pl := p.planner(t, `SET plan_cache_mode = `+mode, `PREPARE lookup (bytea, integer) AS`+text)
				plan := pl.explain(fmt.Sprintf(`EXECUTE lookup ('\x%x', %d)`, numbered(2, bucket).Hash, bucket))
				if !strings.Contains(plan, want) || len(scansOf(plan)) != 1 || !strings.Contains(plan, "Index Cond: ((key = ") {
					t.Errorf("%d rows, %s, %s: the plan is\n%s\nwant one %s", rows, mode, name, plan, want)
				}
			}
		}
	}
}

// Of a partition that this node knows but may not read or that is gone, the parent
// has the last word.
func TestAFateIsToldThroughTheParentWhereThePartitionIsNot(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	rec := create(t, s, "user")
	wantFate(t, s, rec.Key, session.FateLive)
	l := p.partOf(t, rec.Key.Bucket)
	p.exec(t, `ALTER TABLE `+p.table(t, l.name)+` RENAME TO "renamed"`)
	wantFate(t, s, rec.Key, session.FateLive)
	if _, err := s.Destroy(t.Context(), rec.Key); err != nil {
		t.Fatal(err)
	}
	wantFate(t, s, rec.Key, session.FateEnded)
}

// Anybody can have fates asked.
func TestAFateThatCanBeToldWithoutTheDatabaseAsksNothing(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	var asked atomic.Int64
	s := p.node(t, Options{}, 4, func(c *pgxpool.Config) { c.ConnConfig.Tracer = counter{&asked} })
	rec := create(t, s, "ada")
	before := asked.Load()
	for _, bucket := range []int32{-1, 1, math.MaxInt32} {
		wantFate(t, s, session.Key{Hash: rec.Key.Hash, Bucket: bucket}, session.FateUnknown)
	}
	wantFate(t, s, session.Key{}, session.FateUnknown)
	wantFate(t, s, session.Key{Bucket: rec.Key.Bucket}, session.FateUnknown)
	if n := asked.Load() - before; n != 0 {
		t.Errorf("the database was asked %d times", n)
	}
	wantFate(t, s, rec.Key, session.FateLive)
	if n := asked.Load() - before; n != 1 {
		t.Errorf("for one fate the database was asked %d times", n)
	}
}

func TestAFateIsToldPastTheCache(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	s := p.cached(t, Options{})
	for _, c := range []struct {
		set  string // behind the node's back
		want session.Fate
	}{
		{`expires_at = clock_timestamp()`, session.FateExpired},
		{`ended_at = clock_timestamp(), user_id = NULL, data = NULL`, session.FateEnded},
	} {
		rec := create(t, s, "ada")
		warm(t, rec.Key, s)
		wantFate(t, s, rec.Key, session.FateLive)
		p.exec(t, `UPDATE `+s.names.Sessions+` SET `+c.set+` WHERE key = $1`, rec.Key.Hash[:])
		if !remembers(s, rec.Key) {
			t.Fatal("the node does not remember the session")
		}
		wantFate(t, s, rec.Key, c.want)
	}
}
