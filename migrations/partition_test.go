package migrations

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

func hourNow(t testing.TB, db Querier) int32 {
	t.Helper()
	return queryOne[int32](t, db, "SELECT floor(extract(epoch FROM clock_timestamp()) / 3600)::int")
}

type bounds struct {
	name   string
	lo, hi int32
}

// partitionsOf are the partitions of the table, by their bounds.
func partitionsOf(t testing.TB, db *pgx.Conn, n Names) []bounds {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT c.relname::text, pg_get_expr(c.relpartbound, c.oid), coalesce(obj_description(c.oid, 'pg_class'), '')
		FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)`, n.Sessions)
	if err != nil {
		t.Fatal(err)
	}
	partitions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b bounds, err error) {
		var bound, comment string
		if err := row.Scan(&b.name, &bound, &comment); err != nil {
			return b, err
		}
		if _, err := fmt.Sscanf(bound, "FOR VALUES FROM (%d) TO (%d)", &b.lo, &b.hi); err != nil {
			return b, fmt.Errorf("%s: %w", bound, err)
		}
		if lo, hi, ok := n.ParsePartitionComment(comment); !ok || lo != b.lo || hi != b.hi {
			t.Errorf("%s is from %d to %d, its comment is %q", b.name, b.lo, b.hi, comment)
		}
		return b, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(partitions, func(a, b bounds) int { return int(a.lo - b.lo) })
	return partitions
}

// covered checks that the partitions follow each other without a gap, and cover
// from first to last.
func covered(t testing.TB, partitions []bounds, first, last int32) {
	t.Helper()
	if len(partitions) == 0 || partitions[0].lo > first || partitions[len(partitions)-1].hi <= last {
		t.Fatalf("%v do not cover %d to %d", partitions, first, last)
	}
	for i := 1; i < len(partitions); i++ {
		if partitions[i].lo != partitions[i-1].hi {
			t.Errorf("%v and %v do not meet", partitions[i-1], partitions[i])
		}
	}
}

func prepared(t *testing.T, cfg Config) (n Names, dsn string, conn *pgx.Conn) {
	t.Helper()
	dsn = dbtest.Postgres(t).Database(t)
	mustUp(t, dsn, cfg)
	return mustNames(t, cfg), dsn, dbtest.Conn(t, dsn)
}

func makePartition(t testing.TB, db Querier, n Names, bucket int32) string {
	t.Helper()
	return queryOne[string](t, db, "SELECT "+n.MakePartition+"($1)", bucket)
}

func TestUpMakesPartitionsForTheLongestLifetimeAndADay(t *testing.T) {
	t.Parallel()
	for _, settings := range []Settings{
		{}, {LongestLifetime: time.Hour}, {PartitionWidth: MaxLifetime}, {LongestLifetime: 100 * time.Hour, PartitionWidth: 7 * time.Hour},
	} {
		n, _, conn := prepared(t, Config{Settings: settings})
		longest := pgschema.ToStore(settings.WithDefaults()).LongestHours
		now := hourNow(t, conn)
		covered(t, partitionsOf(t, conn, n), now+1, now+longest+24)
		got, err := LoadSettings(t.Context(), conn, Config{})
		if err != nil || got != settings.WithDefaults() {
			t.Errorf("settings are %+v, %v; want %+v", got, err, settings.WithDefaults())
		}
	}
}

func TestMakePartitionReturnsThePartitionThatCoversTheBucket(t *testing.T) {
	t.Parallel()
	n, _, conn := prepared(t, Config{})
	now := hourNow(t, conn)
	before := partitionsOf(t, conn, n)
	for range 3 {
		b := now + 1 + rand.Int32N(700)
		i := slices.IndexFunc(before, func(l bounds) bool { return l.lo <= b && b < l.hi })
		if got := makePartition(t, conn, n, b); got != before[i].name {
			t.Errorf("bucket %d: got %s, want %s", b, got, before[i].name)
		}
	}
	last := before[len(before)-1]
	if got, want := makePartition(t, conn, n, last.hi), fmt.Sprintf("sessions_%d", last.hi); got != want {
		t.Errorf("the next partition is %s, want %s", got, want)
	}
	covered(t, partitionsOf(t, conn, n), now+1, last.hi)
}

func TestMakePartitionRefusesBucketsThatNoSessionCanHave(t *testing.T) {
	t.Parallel()
	n, _, conn := prepared(t, Config{Settings: Settings{LongestLifetime: 10 * time.Hour, PartitionWidth: 30 * time.Hour}})
	now := hourNow(t, conn)
	for _, arg := range []any{now - 1, now + 72, 0, -1, 2147483647, -2147483648, nil} {
		_, err := conn.Exec(t.Context(), "SELECT "+n.MakePartition+"($1)", arg)
		if code(err) != "22023" || !strings.Contains(err.Error(), "out of range") {
			t.Errorf("bucket %v: got %v, want 22023", arg, err)
		}
	}
	makePartition(t, conn, n, now+70) // 10 hours and twice the width
}

func TestAChangedWidthFillsTheGaps(t *testing.T) {
	t.Parallel()
	n, _, conn := prepared(t, Config{})
	for _, l := range partitionsOf(t, conn, n) {
		if rand.IntN(2) == 0 {
			mustExec(t, conn, "DROP TABLE "+n.Qualify(l.name))
		}
	}
	now := hourNow(t, conn)
	for range 60 {
		width := time.Duration(4+rand.IntN(200)) * time.Hour
		if _, err := SetSettings(t.Context(), conn, Config{}, Settings{PartitionWidth: width}); err != nil {
			t.Fatal(err)
		}
		b := now + 1 + rand.Int32N(740)
		name := makePartition(t, conn, n, b)
		partitions := partitionsOf(t, conn, n)
		i := slices.IndexFunc(partitions, func(l bounds) bool { return l.name == name })
		if i < 0 || partitions[i].lo > b || partitions[i].hi <= b {
			t.Fatalf("%s does not cover %d: %v", name, b, partitions)
		}
	}
	// Steps of one hour meet every gap that is left.
	for b := now + 1; b <= now+740; b++ {
		makePartition(t, conn, n, b)
	}
	covered(t, partitionsOf(t, conn, n), now+1, now+740)
}

func TestOpenEndedPartitionsAreRespected(t *testing.T) {
	t.Parallel()
	n, _, conn := prepared(t, Config{Settings: Settings{LongestLifetime: time.Hour, PartitionWidth: 10 * time.Hour}})
	for _, l := range partitionsOf(t, conn, n) {
		mustExec(t, conn, "DROP TABLE "+n.Qualify(l.name))
	}
	now := hourNow(t, conn)
	mustExec(t, conn, fmt.Sprintf("CREATE TABLE %s PARTITION OF %s FOR VALUES FROM (MINVALUE) TO (%d)", n.Qualify("early"), n.Sessions, now+5))
	mustExec(t, conn, fmt.Sprintf("CREATE TABLE %s PARTITION OF %s FOR VALUES FROM (%d) TO (MAXVALUE)", n.Qualify("late"), n.Sessions, now+8))
	for b, want := range map[int32]string{now + 4: "early", now + 8: "late", now + 40: "late"} {
		if got := makePartition(t, conn, n, b); got != want {
			t.Errorf("bucket %d: got %s, want %s", b, got, want)
		}
	}
	makePartition(t, conn, n, now+6)
	bound := queryOne[string](t, conn, `SELECT string_agg(pg_get_expr(c.relpartbound, c.oid), '') FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
		WHERE i.inhparent = to_regclass($1) AND c.relname NOT IN ('early', 'late')`, n.Sessions)
	// An aligned bound may lie in between.
	var lo, hi int32
	if _, err := fmt.Sscanf(bound, "FOR VALUES FROM (%d) TO (%d)", &lo, &hi); err != nil || lo < now+5 || hi > now+8 || lo > now+6 || hi <= now+6 {
		t.Errorf("the partition in between is %q", bound)
	}
}

func TestTakenNamesAreLeftAlone(t *testing.T) {
	t.Parallel()
	n, _, conn := prepared(t, Config{})
	partitions := partitionsOf(t, conn, n)
	last := partitions[len(partitions)-1]
	mustExec(t, conn, fmt.Sprintf("CREATE TABLE %s (theirs int)", n.Qualify(fmt.Sprintf("sessions_%d", last.hi))))
	mustExec(t, conn, fmt.Sprintf("CREATE DOMAIN %s AS int", n.Qualify(fmt.Sprintf("sessions_%d_2", last.hi))))
	if got, want := makePartition(t, conn, n, last.hi), fmt.Sprintf("sessions_%d_3", last.hi); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// A partition that was detached keeps its name and its rows.
	insertLive(t, conn, n.Sessions, 1, 30*24*time.Hour)
	b := queryOne[int32](t, conn, "SELECT bucket FROM "+n.Sessions+" WHERE version > 0")
	name := makePartition(t, conn, n, b)
	mustExec(t, conn, "ALTER TABLE "+n.Sessions+" DETACH PARTITION "+n.Qualify(name))
	if got := makePartition(t, conn, n, b); got != name+"_2" {
		t.Errorf("got %s, want %s_2", got, name)
	}
	if got := queryOne[int](t, conn, "SELECT count(*)::int FROM "+n.Qualify(name)+" WHERE version > 0"); got != 1 {
		t.Errorf("the detached partition has %d rows, want 1", got)
	}
}

func TestAnInterruptedDetachIsReported(t *testing.T) {
	t.Parallel()
	n, dsn, conn := prepared(t, Config{})
	bucket := hourNow(t, conn) + 100
	name := makePartition(t, conn, n, bucket)
	reader := dbtest.Conn(t, dsn)
	mustExec(t, reader, "BEGIN")
	mustExec(t, reader, "SELECT 1 FROM "+n.Sessions)
	detaching := dbtest.Conn(t, dsn)
	mustExec(t, detaching, "SET lock_timeout = '100ms'")
	if _, err := detaching.Exec(t.Context(), "ALTER TABLE "+n.Sessions+" DETACH PARTITION "+n.Qualify(name)+" CONCURRENTLY"); code(err) != "55P03" {
		t.Fatalf("the detach was not interrupted: %v", err)
	}
	mustExec(t, reader, "ROLLBACK")
	_, err := conn.Exec(t.Context(), "SELECT "+n.MakePartition+"($1)", bucket)
	if code(err) != "55000" || !strings.Contains(err.Error(), name) {
		t.Fatalf("got %v, want 55000 that names the partition", err)
	}
	mustExec(t, conn, "ALTER TABLE "+n.Sessions+" DETACH PARTITION "+n.Qualify(name)+" FINALIZE")
	if got := makePartition(t, conn, n, bucket); got != name+"_2" {
		t.Errorf("got %s, want %s_2", got, name)
	}
}

func TestManyMakeTheSamePartitionAtOnce(t *testing.T) {
	t.Parallel()
	n, dsn, conn := prepared(t, Config{})
	partitions := partitionsOf(t, conn, n)
	bucket := partitions[len(partitions)-1].hi
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]bool{}
	start := make(chan struct{})
	for i := range 12 {
		c := dbtest.Conn(t, dsn)
		wg.Go(func() {
			<-start
			var name string
			if err := c.QueryRow(t.Context(), "SELECT "+n.MakePartition+"($1)", bucket+int32(i)%3).Scan(&name); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[name] = true
		})
	}
	close(start)
	wg.Wait()
	if want := fmt.Sprintf("sessions_%d", bucket); len(got) != 1 || !got[want] {
		t.Errorf("got %v, want only %s", got, want)
	}
	covered(t, partitionsOf(t, conn, n), partitions[0].lo, bucket)
}

func TestMakingAPartitionStopsNobody(t *testing.T) {
	t.Parallel()
	n, dsn, conn := prepared(t, Config{})
	partitions := partitionsOf(t, conn, n)
	last := partitions[len(partitions)-1]

	// A transaction that has read and written everything is under way.
	busy := dbtest.Conn(t, dsn)
	mustExec(t, busy, "BEGIN")
	insertLive(t, busy, n.Sessions, 1, time.Hour)
	mustExec(t, busy, "UPDATE "+n.Sessions+" SET version = 2")

	maker := dbtest.Conn(t, dsn)
	mustExec(t, maker, "SET lock_timeout = '10s'")
	mustExec(t, maker, "BEGIN")
	makePartition(t, maker, n, last.hi)

	// The new partition is not committed, and others read and write.
	mustExec(t, conn, "SET lock_timeout = '10s'")
	insertLive(t, conn, n.Sessions, 2, time.Hour)
	mustExec(t, conn, "UPDATE "+n.Sessions+" SET version = 3 WHERE version = 1")
	queryOne[int](t, conn, "SELECT count(*)::int FROM "+n.Sessions)

	// Who waits for the maker holds no lock on the table.
	waiter := dbtest.Conn(t, dsn)
	pid := waiter.PgConn().PID()
	done := make(chan error, 1)
	go func() {
		_, err := waiter.Exec(t.Context(), "SELECT "+n.MakePartition+"($1)", last.lo)
		done <- err
	}()
	dbtest.Eventually(t, "the second one waits", func() bool {
		return queryOne[int](t, conn, "SELECT count(*)::int FROM pg_locks WHERE pid = $1 AND NOT granted AND locktype = 'advisory'", pid) == 1
	})
	if got := queryOne[int](t, conn, `SELECT count(*)::int FROM pg_locks WHERE pid = $1 AND locktype = 'relation'
		AND relation IN (SELECT oid FROM pg_class WHERE relname LIKE 'sessions%' AND relname NOT LIKE 'sessions_meta%')`, pid); got != 0 {
		t.Errorf("the waiter holds %d locks on the table or its partitions", got)
	}
	mustExec(t, maker, "COMMIT")
	if err := <-done; err != nil {
		t.Error(err)
	}
	mustExec(t, busy, "COMMIT")
}

func TestPartitionsAreSetUpForChurn(t *testing.T) {
	t.Parallel()
	n, _, conn := prepared(t, Config{})
	for _, l := range partitionsOf(t, conn, n) {
		options := queryOne[[]string](t, conn, `SELECT c.reloptions || coalesce(t.reloptions, '{}') FROM pg_class AS c
			LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid WHERE c.oid = to_regclass($1)`, n.Qualify(l.name))
		for _, want := range []string{"fillfactor=85", "autovacuum_vacuum_scale_factor=0.02", "autovacuum_vacuum_scale_factor=0.05"} {
			if !slices.Contains(options, want) {
				t.Errorf("%s has %v, not %s", l.name, options, want)
			}
		}
		if rows := queryOne[int](t, conn, "SELECT count(*)::int FROM "+n.Qualify(l.name)+" WHERE version > 0 OR ended_at IS NULL"); rows != 0 {
			t.Errorf("%s has %d sessions", l.name, rows)
		}
	}
	lz4 := queryOne[bool](t, conn, "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'")
	if got := queryOne[int](t, conn, `SELECT count(*)::int FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
		WHERE c.relname LIKE 'sessions%' AND a.attname = 'data' AND (a.attcompression = 'l') <> $1`, lz4); got != 0 {
		t.Errorf("%d tables have the wrong compression; the server has lz4: %v", got, lz4)
	}
}

func TestTheParentsGrantsReachThePartition(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	roles := roleNames(t, s, "Reader ", "writer'")
	n, _, conn := prepared(t, Config{})
	for _, role := range roles {
		mustExec(t, conn, "CREATE ROLE "+quoted(role))
	}
	// What the parent does not give, a partition does not get from elsewhere.
	mustExec(t, conn, "ALTER DEFAULT PRIVILEGES IN SCHEMA sojourn GRANT SELECT, DELETE ON TABLES TO "+quoted(roles[0]))
	mustExec(t, conn, "GRANT UPDATE (data, version) ON "+n.Sessions+" TO "+quoted(roles[0])+" WITH GRANT OPTION")
	mustExec(t, conn, "GRANT SELECT ON "+n.Sessions+" TO PUBLIC")
	mustExec(t, conn, "GRANT SELECT ON "+n.Sessions+" TO "+quoted(roles[0]))
	mustExec(t, conn, "GRANT ALL ON "+n.Sessions+" TO "+quoted(roles[1])+" WITH GRANT OPTION")
	partitions := partitionsOf(t, conn, n)
	partition := makePartition(t, conn, n, partitions[len(partitions)-1].hi)
	acl := `SELECT array_agg(a::text ORDER BY a::text) FROM pg_class AS c, unnest(c.relacl) AS a WHERE c.oid = to_regclass($1)`
	want := queryOne[[]string](t, conn, acl, n.Sessions)
	if got := queryOne[[]string](t, conn, acl, n.Qualify(partition)); !slices.Equal(got, want) {
		t.Errorf("the partition has %v, the parent %v", got, want)
	}
	columns := `SELECT array_agg(t.attname || ' ' || t.attacl::text ORDER BY t.attname) FROM pg_attribute AS t WHERE t.attrelid = to_regclass($1) AND t.attacl IS NOT NULL`
	wantColumns := queryOne[[]string](t, conn, columns, n.Sessions)
	if got := queryOne[[]string](t, conn, columns, n.Qualify(partition)); !slices.Equal(got, wantColumns) || len(got) != 2 {
		t.Errorf("the partition has %v on columns, the parent %v", got, wantColumns)
	}
	for _, role := range roles { // the database goes before them, but their grants are not ours to keep
		mustExec(t, conn, "DROP OWNED BY "+quoted(role))
	}
}

func TestBucketsAreThoseOfTheSessionPackage(t *testing.T) {
	t.Parallel()
	n, _, conn := prepared(t, Config{})
	hour := time.Unix(int64(hourNow(t, conn)+50)*3600, 0).UTC()
	table := "(LIKE " + n.Sessions + " INCLUDING ALL)"
	mustExec(t, conn, "CREATE TEMP TABLE any_bucket "+table)
	insert := func(deadline time.Time, bucket int32) error {
		_, err := conn.Exec(t.Context(), `INSERT INTO any_bucket (key, bucket, version, expires_at, deadline, created_at)
			VALUES (sha256(gen_random_uuid()::text::bytea), $1, 1, $2, $2, $2)`, bucket, deadline)
		return err
	}
	deadlines := []time.Time{
		hour, hour.Add(time.Microsecond), hour.Add(-time.Microsecond), hour.Add(time.Hour - time.Microsecond),
		time.Date(2200, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(9999, 12, 31, 23, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 0, 0, 1000, time.UTC),
	}
	for range 100 {
		deadlines = append(deadlines, hour.Add(time.Duration(rand.Int64N(1e15))*time.Microsecond))
	}
	for _, d := range deadlines {
		b := session.BucketOf(d)
		if err := insert(d, b); err != nil {
			t.Errorf("%s in %d: %v", d, b, err)
		}
		for _, wrong := range []int32{b - 1, b + 1, 0} {
			if err := insert(d, wrong); code(err) != "23514" {
				t.Errorf("%s in %d: got %v, want 23514", d, wrong, err)
			}
		}
	}
	if _, err := conn.Exec(t.Context(), `INSERT INTO any_bucket (key, bucket, version, expires_at, deadline, created_at)
		VALUES (sha256('x'), 2147483647, 1, now(), 'infinity', now())`); err == nil {
		t.Error("a session that never ends was accepted")
	}
}

func TestRowsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	n, _, conn := prepared(t, Config{})
	insert := func(key, expires, ended, renewedTo, renewedBucket, grace, user, data string) error {
		_, err := conn.Exec(t.Context(), fmt.Sprintf(`INSERT INTO %s (key, bucket, version, expires_at, deadline, created_at,
				ended_at, renewed_to, renewed_bucket, grace_until, user_id, data)
			SELECT %s, ceil(extract(epoch FROM d) / 3600)::int, 1, %s, d, now(), %s, %s, %s, %s, %s, %s
			FROM (SELECT now() + interval '5 hours' AS d) AS x`, n.Sessions, key, expires, ended, renewedTo, renewedBucket, grace, user, data))
		return err
	}
	const hash, null = "sha256(gen_random_uuid()::text::bytea)", "NULL"
	for _, c := range []struct {
		what string
		err  error
		want string // the constraint; empty if it makes sense
	}{
		{"live", insert(hash, "d", null, null, null, null, "'u'", "'x'"), ""},
		{"ended", insert(hash, "d", "now()", null, null, null, null, null), ""},
		{"renewed", insert(hash, "d", "now()", hash, "7", "now()", null, null), ""},
		{"short key", insert("'abc'", "d", null, null, null, null, null, null), "key_is_a_hash"},
		{"expires late", insert(hash, "d + interval '1 us'", null, null, null, null, null, null), "expires_by_the_deadline"},
		{"ended with data", insert(hash, "d", "now()", null, null, null, null, "''"), "ended_is_empty"},
		{"ended with user", insert(hash, "d", "now()", null, null, null, "'u'", null), "ended_is_empty"},
		{"renewed but live", insert(hash, "d", null, hash, "7", "now()", null, null), "renewed_is_complete"},
		{"renewed to nowhere", insert(hash, "d", "now()", hash, null, "now()", null, null), "renewed_is_complete"},
		{"renewed without grace", insert(hash, "d", "now()", hash, "7", null, null, null), "renewed_is_complete"},
		{"grace only", insert(hash, "d", "now()", null, null, "now()", null, null), "renewed_is_complete"},
		{"renewed to a short key", insert(hash, "d", "now()", "'abc'", "7", "now()", null, null), "renewed_is_complete"},
	} {
		if c.want == "" && c.err != nil || c.want != "" && (code(c.err) != "23514" || !strings.Contains(c.err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.what, c.err, c.want)
		}
	}
}
