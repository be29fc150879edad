package pgstore

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// A plan that was made while a partition was empty or tiny, and is kept, must
// do when it is large.
func TestPlansOutliveTheStatisticsTheyWereMadeFrom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		rows   int
		pooler bool
		mode   pgx.QueryExecMode
		tiny   bool // else it is empty
	}{
		{"cached statements, vacuumed while empty", rounds.Of(400_000), false, pgx.QueryExecModeCacheStatement, false},
		{"cached statements, analysed while tiny", 30_000, false, pgx.QueryExecModeCacheStatement, true},
		{"PgBouncer and descriptions, vacuumed while empty", 30_000, true, pgx.QueryExecModeCacheDescribe, false},
		{"PgBouncer and descriptions, analysed while tiny", 30_000, true, pgx.QueryExecModeCacheDescribe, true},
		{"PgBouncer and unnamed statements, analysed while tiny", 30_000, true, pgx.QueryExecModeExec, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			dsn := p.dsn
			if c.pooler {
				dsn = dbtest.Bouncer(t, dbtest.Postgres(t), p.dsn, nil)
			}
			s := p.by(t, dsn, inMode(c.mode)).open(t, quiet)
			bucket := p.hour(t) + 400
			table := p.table(t, p.partOf(t, bucket).name)
			// What the statistics say stays as it is.
			for _, l := range p.parts(t) {
				p.exec(t, `ALTER TABLE `+p.table(t, l.name)+` SET (autovacuum_enabled = off)`)
			}
			p.exec(t, `VACUUM ANALYZE `+table)
			if c.tiny {
				p.exec(t, fillSQL(table, bucket, -3, -1, 10, "d"))
				p.exec(t, `ANALYZE `+table)
			}
			before := p.counted(t)
			useAll(t, s, bucket, 0) // every statement, often enough for its plan to be kept
			p.exec(t, fillSQL(table, bucket, 1, c.rows, 10, "now() + interval '1 hour'"))

			found := useAll(t, s, bucket, c.rows)
			if found == 0 {
				t.Fatal("no session was found")
			}
			p.reportAll(t, s)
			var after scans
			dbtest.Eventually(t, "the server has counted the index scans", func() bool {
				after = p.counted(t)
				return after.index-before.index >= int64(found)
			})
			t.Logf("%d sequential scans, %d index scans of %d entries", after.sequential-before.sequential, after.index-before.index, after.entries-before.entries)
			if after.sequential != before.sequential {
				t.Error("there must be no sequential scan")
			}
			// About 40,000 for the pages, and a few for each other statement.
			if after.entries-before.entries > 100_000 {
				t.Error("whole indexes were read")
			}
		})
	}
}

// useAll uses every statement that finds sessions by their key or user, alone
// and in batches, on keys spread over the rows of a bucket. It returns how many
// it found.
func useAll(t *testing.T, s *Store, bucket int32, rows int) (found int) {
	t.Helper()
	const rounds = 8 // plans are kept from the sixth use on
	const callers = 40
	ctx := t.Context()
	key := func(i int) session.Key {
		if rows == 0 {
			return numbered(1_000_000_000+i, bucket)
		}
		return numbered(1+(i*7919)%rows, bucket)
	}
	allowed := func(what string, err error) {
		if err != nil && !errors.Is(err, session.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for round := range rounds {
		for caller := range callers {
			wg.Go(func() {
				i := (round*callers + caller) * 10
				rec, err := s.Get(ctx, key(i))
				allowed("Get", err)
				if err == nil {
					mu.Lock()
					found++
					mu.Unlock()
				}
				_, err = s.Fate(ctx, key(i))
				allowed("Fate", err)
				_, err = s.Touch(ctx, key(i+1), s.Now().Add(2*time.Hour))
				allowed("Touch", err)
				rec.Key = key(i)
				_, err = s.Save(ctx, rec)
				allowed("Save", err)
				_, err = s.Destroy(ctx, key(i+2))
				allowed("Destroy", err)
				_, err = s.Create(ctx, lasting(s, bucket))
				allowed("Create", err)
			})
		}
		wg.Wait()
		i := round*10 + 5
		next := lasting(s, bucket)
		next.Version = 1
		_, err := s.Renew(ctx, key(i), next, 0)
		allowed("Renew", err)
		next = lasting(s, bucket)
		next.Version, next.User = 1, fmt.Sprint("renewer ", round)
		_, _, err = s.RenewLimited(ctx, key(i+1), next, 0, session.UserLimit{Max: 2})
		allowed("RenewLimited", err)
		_, err = s.DestroyUser(ctx, fmt.Sprint("user ", i+2))
		allowed("DestroyUser", err)
		_, err = s.ListUser(ctx, fmt.Sprint("user ", i+3), session.Record{}, 1000)
		allowed("ListUser", err)
		_, err = s.CountUser(ctx, fmt.Sprint("user ", i+4))
		allowed("CountUser", err)
		token := session.ForeignKey("test", fmt.Sprint(rows, round))
		_, err = s.Get(ctx, token)
		allowed("Get, foreign", err)
		_, err = s.Put(ctx, session.Record{Key: token, Deadline: lasting(s, bucket).Deadline})
		allowed("Put", err)
		if round > 0 {
			continue // one walk will do
		}
		n := 0
		for _, err := range s.All(ctx) {
			allowed("All", err)
			if n++; n == 1200 { // some pages
				break
			}
		}
		n = 0
		for _, err := range s.Keys(ctx) {
			allowed("Keys", err)
			if n++; n == 12_000 {
				break
			}
		}
	}
	return found
}

// reportAll makes the connections of a store report what they counted, which
// they do at their end. It leaves those called reader alone.
func (p place) reportAll(t testing.TB, s *Store) {
	t.Helper()
	const others = ` FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND application_name <> 'reader'`
	p.exec(t, `SELECT pg_terminate_backend(pid)`+others)
	s.pool.Reset()
	s.conns.Own.Reset()
	dbtest.Eventually(t, "all connections ended", func() bool {
		return query[int](t, p, `SELECT count(*)::int`+others) == 0
	})
}

type scans struct{ sequential, index, entries int64 }

// counted adds up the scans of all partitions and their indexes.
func (p place) counted(t testing.TB) (c scans) {
	t.Helper()
	err := p.pool.QueryRow(t.Context(), `
WITH partition AS (SELECT inhrelid AS relid FROM pg_inherits WHERE inhparent = $1::text::regclass)
SELECT (SELECT sum(seq_scan)::bigint FROM pg_stat_user_tables JOIN partition USING (relid)),
       sum(idx_scan)::bigint, sum(idx_tup_read)::bigint FROM pg_stat_user_indexes JOIN partition USING (relid)`,
		p.names(t).Sessions).Scan(&c.sequential, &c.index, &c.entries)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// planner is a connection on which statements are prepared and explained by
// their text.
type planner struct {
	t    *testing.T
	conn *pgx.Conn
}

func (p place) planner(t *testing.T, settings ...string) planner {
	t.Helper()
	pl := planner{t, dbtest.Conn(t, p.dsn)}
	for _, s := range settings {
		pl.run(s)
	}
	return pl
}

// run returns the first column of what the statement returns.
func (pl planner) run(sql string) (lines []string) {
	pl.t.Helper()
	results, err := pl.conn.PgConn().Exec(pl.t.Context(), sql).ReadAll()
	if err != nil {
		pl.t.Fatalf("%s: %v", sql, err)
	}
	for _, row := range results[0].Rows {
		lines = append(lines, string(row[0]))
	}
	return lines
}

func (pl planner) explain(execute string) string {
	pl.t.Helper()
	return strings.Join(pl.run(`EXPLAIN (COSTS off) `+execute), "\n")
}

var scanNode = regexp.MustCompile(`(?m)\b(\w+ )*Scan.* on (\w+)`)

// scansOf lists the tables that a plan reads.
func scansOf(plan string) (tables []string) {
	for _, m := range scanNode.FindAllStringSubmatch(plan, -1) {
		tables = append(tables, m[2])
	}
	return tables
}

func TestALookupTouchesOnePartitionByIndex(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	bucket := p.hour(t) + 400
	l := s.table.Known.Load().Find(bucket)
	p.exec(t, fillSQL(l.Table, bucket, 1, 2000, 600, "now() + interval '1 hour'"))
	primary := query[string](t, p, `SELECT indexrelid::regclass::text FROM pg_index WHERE indisprimary AND indrelid = $1::text::regclass`, l.Table)
	primary = primary[strings.LastIndexByte(primary, '.')+1:]
	want := fmt.Sprintf("Index Scan using %s on %s", primary, l.Name)
	execute := fmt.Sprintf(`EXECUTE lookup ('\x%x', %d, NULL)`, numbered(77, bucket).Hash, bucket)

	check := func(t *testing.T, plan, removed string) {
		t.Helper()
		if strings.Count(plan, want) != 1 || len(scansOf(plan)) != 1 || !strings.Contains(plan, "Index Cond: ((key = ") ||
			strings.Contains(plan, "Subplans Removed") != (removed != "") || !strings.Contains(plan, removed) {
			t.Errorf("the plan is\n%s\nwant one %s and %q", plan, want, removed)
		}
	}
	for _, statistics := range []string{"", `ANALYZE ` + l.Table, `VACUUM ANALYZE ` + s.names.Sessions} {
		if statistics != "" {
			p.exec(t, statistics)
		}
		for _, mode := range []string{"auto", "force_generic_plan", "force_custom_plan"} {
			t.Run(statistics+" "+mode, func(t *testing.T) {
				named := p.planner(t, `SET plan_cache_mode = `+mode, `PREPARE lookup (bytea, integer, timestamptz) AS`+textsOf(l).get)
				check(t, named.explain(execute), "")
				for range 10 {
					named.run(execute)
				}
				check(t, named.explain(execute), "")

				// A bucket that is not in the partition map.
				parent := p.planner(t, `SET plan_cache_mode = `+mode, `PREPARE lookup (bytea, integer, timestamptz) AS`+s.onParent.get)
				removed := ""
				if mode == "force_generic_plan" {
					removed = fmt.Sprintf("Subplans Removed: %d", len(p.parts(t))-1)
				}
				check(t, parent.explain(execute), removed)
				if mode == "force_custom_plan" {
					for range 10 {
						parent.run(execute)
					}
					check(t, parent.explain(execute), "")
				}
			})
		}
	}
}

func TestBatchesReadByIndexWhateverTheStatistics(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	bucket := p.hour(t) + 400
	l := s.table.Known.Load().Find(bucket)
	var keys, buckets, times []string
	for i := range 100 {
		keys = append(keys, fmt.Sprintf(`'\x%x'::bytea`, numbered(i, bucket).Hash))
		buckets = append(buckets, fmt.Sprint(bucket))
		times = append(times, `now() + interval '2 hours'`)
	}
	array := func(items []string) string { return `ARRAY[` + strings.Join(items, ", ") + `]` }
	for name, c := range map[string]struct{ text, types, args string }{
		"optimistic touch": {textsOf(l).Touch.Optimistic, "bytea[], integer[], timestamptz[]", array(keys) + ", " + array(buckets) + ", " + array(times)},
		"lone touch":       {textsOf(l).Touch.Lone, "bytea, integer, timestamptz", keys[0] + ", " + buckets[0] + ", " + times[0]},
		"skipLocked touch": {textsOf(l).Touch.SkipLocked, "bytea[], integer[], timestamptz[]", array(keys) + ", " + array(buckets) + ", " + array(times)},
		"lock":             {textsOf(l).LockWait, "bytea[], integer[]", array(keys) + ", " + array(buckets)},
		"end of a user's":  {s.parent.userEnd, "text, bigint, bytea[], integer[]", "'user 1', 1000, " + array(keys) + ", " + array(buckets)},
		"list of a user's": {s.parent.userList, "text, timestamptz, bytea, bigint", "'user 1', '2026-01-01', " + keys[0] + ", 500"},
		"page":             {textsOf(l).pageAll, "bytea, integer, bigint, bigint, bigint", keys[0] + ", 1, 500, 1, 2147483647"},
		"end of a page":    {textsOf(l).clear, "bytea, integer, bigint, bigint, bigint, timestamptz", keys[0] + ", 1, 500, 1, 2147483647, now()"},
		"heads of chains":  {s.parent.heads, "bytea[], integer[]", array(keys) + ", " + array(buckets)},
	} {
		for _, rows := range []int{0, 3, 300} {
			t.Run(fmt.Sprintf("%s of %d", name, rows), func(t *testing.T) {
				p.exec(t, `DELETE FROM `+l.Table)
				p.exec(t, fillSQL(l.Table, bucket, 1, rows, 600, "now() + interval '1 hour'"))
				p.exec(t, `VACUUM (ANALYZE, TRUNCATE off) `+l.Table)
				pl := p.planner(t, `BEGIN`, strings.NewReplacer("$1", "'1s'", "$2", "'0'", "$3", "'0'").Replace(db.StartBatch), `PREPARE batch (`+c.types+`) AS`+c.text)
				plan := pl.explain(`EXECUTE batch (` + c.args + `)`)
				// An index that is read without a condition is read as a whole.
				lines := strings.Split(plan, "\n")
				for i, line := range lines {
					if strings.Contains(line, " on sessions_") && strings.Contains(line, "Scan") && !strings.Contains(lines[i+1], "Index Cond: ") || strings.Contains(line, "Hash Join") {
						t.Errorf("the plan has %q:\n%s", line, plan)
					}
				}
				if !strings.Contains(plan, "Index Scan using "+l.Name) {
					t.Errorf("the plan does not read %s:\n%s", l.Name, plan)
				}
			})
		}
	}
}

// Each lock beyond the sixteenth of a backend costs everybody (up to version 17).
func TestALookupHoldsThreeLocksAtMost(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	bucket := p.hour(t) + 400
	l := s.table.Known.Load().Find(bucket)
	p.exec(t, fillSQL(l.Table, bucket, 1, 1000, 600, "now() + interval '1 hour'"))
	p.exec(t, `ALTER TABLE `+l.Table+` SET (autovacuum_enabled = false)`) // an autovacuum would end a plan that is kept
	p.exec(t, `VACUUM ANALYZE `+s.names.Sessions)
	held := func(text string, uses int) int {
		t.Helper()
		conn := dbtest.Conn(t, p.dsn)
		for i := range uses {
			if i == uses-1 {
				if _, err := conn.Exec(t.Context(), `BEGIN`); err != nil {
					t.Fatal(err)
				}
			}
			key := numbered(i+1, bucket)
			if err := conn.QueryRow(t.Context(), text, key.Hash[:], key.Bucket, nil).Scan(nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		return query[int](t, p, `SELECT count(*)::int FROM pg_locks WHERE pid = $1 AND locktype = 'relation'`, conn.PgConn().PID())
	}
	// The planner locks the partition and its two indexes, a plan that is kept
	// the partition and the primary key.
	first, kept := held(textsOf(l).get, 1), held(textsOf(l).get, 10)
	if first != 3 || kept != 2 {
		t.Errorf("a lookup holds %d locks, and %d with a plan that is kept; want 3 and 2", first, kept)
	}
	t.Logf("through the parent, with %d partitions, it holds %d and %d", len(p.parts(t)), held(s.onParent.get, 1), held(s.onParent.get, 10))
}

// What a touch changes is in no index, and a page keeps room for it.
func TestTouchesAreHeapOnly(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.Config{Settings: map[string]string{"autovacuum": "off"}})
	p := migratedAt(t, server.Database(t), migrations.DefaultSchema, migrations.Settings{})
	s := p.by(t, p.dsn, nil).open(t, quiet)
	bucket := p.hour(t) + 400
	l := s.table.Known.Load().Find(bucket)
	const rows = 2000
	p.exec(t, fillSQL(l.Table, bucket, 1, rows, 600, "now() + interval '1 hour'"))

	further := time.Hour
	touch := func(callers, touches int, of func(i int) int) float64 {
		t.Helper()
		p.reportAll(t, s)
		const updates = `SELECT n_tup_upd FROM pg_stat_user_tables WHERE relid = $1::text::regclass`
		const heapOnly = `SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = $1::text::regclass`
		all, hot := query[int64](t, p, updates, l.Table), query[int64](t, p, heapOnly, l.Table)
		further += time.Hour
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for i := c; i < touches; i += callers {
					if _, err := s.Touch(t.Context(), numbered(of(i), bucket), s.Now().Add(further)); err != nil {
						t.Errorf("Touch: %v", err)
						return
					}
				}
			})
		}
		wg.Wait()
		p.reportAll(t, s)
		dbtest.Eventually(t, "the server has counted the touches", func() bool {
			return query[int64](t, p, updates, l.Table)-all >= int64(touches)
		})
		return 100 * float64(query[int64](t, p, heapOnly, l.Table)-hot) / float64(touches)
	}
	spread := func(i int) int { return 1 + i*7919%rows } // each row once
	if hot := touch(1, rows, spread); hot != 100 {
		t.Errorf("on a quiet table %.1f %% of the touches are heap-only, want 100", hot)
	}
	t.Logf("16 callers at once: %.1f %%", touch(16, rows, spread))

	// No version can be removed while a snapshot is open that might see it. Its
	// age plays no part but for how many touches there are meanwhile: in a minute
	// one of each session in use, as touches are throttled.
	reader := dbtest.Conn(t, p.dsn)
	for _, sql := range []string{`SET application_name = 'reader'`, `BEGIN ISOLATION LEVEL REPEATABLE READ`, `SELECT count(*) FROM ` + l.Table} {
		if _, err := reader.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("under an open snapshot, each tenth session once: %.1f %%", touch(1, rows/10, spread))
	t.Logf("under an open snapshot, then each session once: %.1f %%", touch(1, rows, spread))
	same := touch(1, rows, func(i int) int { return 1 + i%20 })
	t.Logf("under an open snapshot, then 20 sessions 100 times: %.1f %%", same)
	if same == 100 {
		t.Error("the snapshot holds up nothing: this measures something else")
	}
	if _, err := reader.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	t.Logf("after it, each session once: %.1f %%", touch(1, rows, spread))
	if hot := touch(1, rows, spread); hot != 100 {
		t.Errorf("and once more: %.1f %%, want 100", hot)
	}
}
