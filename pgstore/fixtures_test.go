package pgstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// hourly makes a table with one partition per hour.
var hourly = migrations.Settings{LongestLifetime: 24 * time.Hour, PartitionWidth: time.Hour}

// by is p through another connection string.
func (p place) by(t testing.TB, dsn string, mod func(*pgxpool.Config)) place {
	t.Helper()
	p.pool = dbtest.Pool(t, dsn, mod)
	p.dsn = dsn
	return p
}

// eachHand runs a test of maintenance with either kind of connection: one that
// keeps a session's locks, and one through a pooler. at makes the place of a
// node from that of the table.
func eachHand(t *testing.T, test func(t *testing.T, at func(place) place)) {
	t.Parallel()
	for _, pooled := range []bool{false, true} {
		t.Run(map[bool]string{false: "session", true: "pooled"}[pooled], func(t *testing.T) {
			t.Parallel()
			test(t, func(p place) place {
				if pooled {
					return p.pooled(t, pgx.QueryExecModeExec)
				}
				return p
			})
		})
	}
}

func inMode(mode pgx.QueryExecMode) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode }
}

func (p place) names(t testing.TB) migrations.Names {
	t.Helper()
	n, err := migrations.NamesOf(p.schema, migrations.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (p place) config() migrations.Config { return migrations.Config{Schema: p.schema} }

// hour is the hour that has begun, by the database's clock.
func (p place) hour(t testing.TB) int32 {
	t.Helper()
	return query[int32](t, p, `SELECT floor(extract(epoch FROM clock_timestamp()) / 3600)::int`)
}

// part is a partition as the catalog has it.
type part struct {
	name   string
	lo, hi int32
}

func (l part) String() string { return fmt.Sprintf("%s [%d, %d)", l.name, l.lo, l.hi) }

// parts lists the partitions in the order of their bounds.
func (p place) parts(t testing.TB) []part {
	t.Helper()
	rows, err := p.pool.Query(t.Context(), `
SELECT c.relname::text, b[1]::int, b[2]::int
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
CROSS JOIN regexp_match(pg_get_expr(c.relpartbound, c.oid), '([0-9]+).* TO .*?([0-9]+)') AS b
WHERE i.inhparent = $1::text::regclass ORDER BY 2`, p.names(t).Sessions)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l part, err error) {
		return l, row.Scan(&l.name, &l.lo, &l.hi)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// partOf returns the partition of bucket.
func (p place) partOf(t testing.TB, bucket int32) part {
	t.Helper()
	parts := p.parts(t)
	i := slices.IndexFunc(parts, func(l part) bool { return l.lo <= bucket && bucket < l.hi })
	if i < 0 {
		t.Fatalf("no partition takes bucket %d: %v", bucket, parts)
	}
	return parts[i]
}

// table is the quoted and qualified name of a relation.
func (p place) table(t testing.TB, name string) string {
	t.Helper()
	return p.names(t).Qualify(name)
}

// addPart makes a partition as maintenance would have made it at another time,
// with sessions in its last bucket that expire at their deadline.
func (p place) addPart(t testing.TB, lo, hi int32, rows int) part {
	t.Helper()
	n := p.names(t)
	l := part{fmt.Sprint(n.PartitionPrefix, lo), lo, hi}
	table := n.Qualify(l.name)
	// At once: nobody may find it half made.
	err := pgx.BeginFunc(t.Context(), p.pool, func(tx pgx.Tx) error {
		for _, sql := range []string{
			`CREATE TABLE ` + table + ` (LIKE ` + n.Sessions + ` INCLUDING ALL)`,
			`COMMENT ON TABLE ` + table + ` IS '` + n.PartitionComment(lo, hi) + `'`,
			fillSQL(table, hi-1, 1, rows, 600, "d"),
			fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`, n.Sessions, table, lo, hi),
			fmt.Sprintf(`DO $$ DECLARE stmt record; BEGIN
				EXECUTE (SELECT format('ALTER TABLE %%s OWNER TO %%I', '%[1]s', pg_get_userbyid(relowner)) FROM pg_class WHERE oid = '%[2]s'::regclass);
				FOR stmt IN %[3]s LOOP EXECUTE stmt.sql; END LOOP; END $$`, table, n.Sessions,
				pgschema.FollowRights("'"+n.Sessions+"'::regclass", "'"+table+"'::regclass")),
		} {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (p place) detach(t testing.TB, l part) {
	t.Helper()
	p.exec(t, `ALTER TABLE `+p.names(t).Sessions+` DETACH PARTITION `+p.table(t, l.name))
}

// attachment identifies the act by which a partition became one.
func (p place) attachment(t testing.TB, l part) string {
	t.Helper()
	return query[string](t, p, `SELECT xmin::text FROM pg_inherits WHERE inhrelid = $1::text::regclass`, p.table(t, l.name))
}

// exists says whether there is a table of that name.
func (p place) exists(t testing.TB, name string) bool {
	t.Helper()
	return query[bool](t, p, `SELECT to_regclass($1) IS NOT NULL`, p.table(t, name))
}

// fillSQL puts sessions into a bucket, the i-th of which has the key
// numbered(i, bucket). They expire at the SQL expression, or at their deadline,
// d.
func fillSQL(table string, bucket int32, first, last, size int, expires string) string {
	return fmt.Sprintf(`
INSERT INTO %s (key, bucket, version, expires_at, deadline, created_at, user_id, data)
SELECT sha256(int8send(i)), %d, 1, LEAST(%s, d), d, d - interval '1 day', 'user ' || i, convert_to(repeat('x', %d), 'UTF8')
FROM generate_series(%d::bigint, %d) AS i, to_timestamp(%d::float8 * 3600) AS d`, table, bucket, expires, size, first, last, bucket)
}

func numbered(i int, bucket int32) session.Key {
	return session.Key{Hash: sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))), Bucket: bucket}
}

// lasting is a record for Create whose deadline is that of a bucket.
func lasting(s *Store, bucket int32) session.Record {
	deadline := time.Unix(int64(bucket)*3600, 0)
	return session.Record{
		Key:     session.NewID(deadline).Key(),
		Expires: s.Now().Add(30 * time.Minute), Deadline: deadline,
		User: "someone", Data: []byte("data"),
	}
}

func prune(t testing.TB, s *Store) session.Pruned {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
	defer cancel()
	done, err := s.PruneNow(ctx)
	if err != nil {
		t.Fatalf("PruneNow: %v", err)
	}
	return done
}

func mustGet(t testing.TB, s *Store, key session.Key) session.Record {
	t.Helper()
	rec, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return rec
}

// told collects errors that OnError is told of.
type told struct {
	mu   sync.Mutex
	errs []error
}

func (o *told) add(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errs = append(o.errs, err)
}

func (o *told) list() []error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.errs)
}

// reader opens a transaction that has read the table, and returns its end.
func (p place) reader(t testing.TB) (end func()) {
	t.Helper()
	conn := dbtest.Conn(t, p.dsn)
	for _, sql := range []string{`BEGIN ISOLATION LEVEL REPEATABLE READ`, `SELECT count(*) FROM ` + p.names(t).Sessions} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		t.Helper()
		if _, err := conn.Exec(t.Context(), `ROLLBACK`); err != nil {
			t.Error(err)
		}
	}
}

// waiting returns the process whose statement, like the pattern, waits for
// others.
func (p place) waiting(t testing.TB, pattern string) (pid int32) {
	t.Helper()
	dbtest.Eventually(t, pattern+" waits", func() bool {
		pid = query[int32](t, p, `
SELECT COALESCE(max(pid), 0) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1 AND pid <> pg_backend_pid()`, pattern)
		return pid != 0
	})
	return pid
}

// everything uses each operation once, on sessions of its own, and returns one
// that is live.
func everything(t testing.TB, s *Store) session.Record {
	t.Helper()
	ctx := t.Context()
	name := strings.ReplaceAll(t.Name(), "/", " ") + session.NewID(s.Now()).Key().String()
	fail := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	count := func(what string, got, want int64, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Errorf("%s = %d, %v; want %d", what, got, err, want)
		}
	}
	made := func(what string) session.Record {
		t.Helper()
		rec, err := s.Create(ctx, fresh(s, name))
		fail(what, err)
		return rec
	}
	kept, saved, gone := made("Create"), made("Create"), made("Create")
	saved.Data = []byte("saved")
	saved, err := s.Save(ctx, saved)
	fail("Save", err)
	_, err = s.Touch(ctx, saved.Key, s.Now().Add(time.Hour))
	fail("Touch", err)
	next := fresh(s, name)
	next.Version, next.Data = saved.Version, saved.Data
	next, err = s.Renew(ctx, saved.Key, next, time.Minute)
	fail("Renew", err)
	for _, key := range []session.Key{saved.Key, next.Key} {
		if rec, err := s.Get(ctx, key); err != nil || string(rec.Data) != "saved" || rec.Key != next.Key {
			t.Errorf("Get after Save and Renew = %v, %v", rec.Key, err)
		}
	}
	n, err := s.Destroy(ctx, gone.Key)
	count("Destroy", n, 1, err)
	foreign := session.Record{Key: session.ForeignKey("test", name), Data: []byte("foreign")}
	_, err = s.Put(ctx, foreign)
	fail("Put", err)
	if rec, err := s.Get(ctx, foreign.Key); err != nil || string(rec.Data) != "foreign" {
		t.Errorf("Get of what was Put: %q, %v", rec.Data, err)
	}
	_, evicted, err := s.CreateLimited(ctx, fresh(s, name), session.UserLimit{Max: 2, Evict: true})
	count("CreateLimited", int64(len(evicted)), 1, err)
	list, err := s.ListUser(ctx, name, session.Record{}, 1000)
	count("ListUser", int64(len(list)), 2, err)
	n, err = s.CountUser(ctx, name)
	count("CountUser", n, 2, err)
	n, err = s.DestroyUser(ctx, name)
	count("DestroyUser", n, 2, err)
	kept = made("Create")
	if n, err := s.Len(ctx); err != nil || n < 2 {
		t.Errorf("Len = %d, %v; want at least 2", n, err)
	}
	found := 0
	for key, err := range s.Keys(ctx) {
		fail("Keys", err)
		if key == kept.Key || key.Hash == foreign.Key.Hash {
			found++
		}
	}
	for rec, err := range s.All(ctx) {
		fail("All", err)
		if rec.Key == kept.Key || rec.Key.Hash == foreign.Key.Hash {
			found++
		}
	}
	if found != 4 {
		t.Errorf("Keys and All found %d of 4", found)
	}
	// A role that owns nothing may have found something that it may not do.
	if _, err = s.PruneNow(ctx); err != nil && !strings.Contains(err.Error(), "this role may not drop partitions") {
		t.Errorf("PruneNow: %v", err)
	}
	return kept
}

// within bounds a call that must not hang, generously.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
	t.Cleanup(cancel)
	return ctx
}
