package partition

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/pglock"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// place is a migrated table of a test's own.
type place struct {
	dsn, schema string
	pool        *pgxpool.Pool
}

// hourly makes a table with a partition for each hour of a day.
func hourly(t *testing.T) place {
	t.Helper()
	p := place{dsn: dbtest.Postgres(t).Database(t), schema: migrations.DefaultSchema}
	p.pool = dbtest.Pool(t, p.dsn, nil)
	settings := migrations.Settings{LongestLifetime: 24 * time.Hour, PartitionWidth: time.Hour}
	if err := migrations.Up(t.Context(), p.pool.Config().ConnConfig, migrations.Config{Settings: settings, LockWait: -1}); err != nil {
		t.Fatal(err)
	}
	return p
}

// open makes a Table at p, and its Pruning, with a pool of their own.
func (p place) open(t *testing.T, pool *pgxpool.Pool) (*Table, *Pruning) {
	t.Helper()
	conns, err := db.New(t.Context(), pool, db.Options{ReadTimeout: time.Minute, WriteTimeout: time.Minute, Unhurried: true})
	if err != nil {
		t.Fatal(err)
	}
	names, err := migrations.NamesOf(p.schema, migrations.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	_, control := conns.Roads()
	table, err := New(t.Context(), Options{
		Names: names, Conns: conns, Road: control, WriteTimeout: time.Minute,
		Failed: func(doing string, err error) { t.Errorf("%s: %v", doing, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { table.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait(); conns.Break(); conns.Close() })
	key := func(purpose string) int64 { return leader.Key("partition test", purpose) }
	return table, NewPruning(table, PruneOptions{
		NodeName: "node", Premake: 30 * time.Hour, LockKey: key,
		Locker: func(purpose string) (leader.Locker[*pgx.Conn], error) {
			return pglock.Around(pool, "", key(purpose), "node")
		},
		Notify: func(context.Context, *pgx.Conn) error { return nil },
		Log:    zap.NewExample(),
	})
}

func TestTheMapFindsWhatTakesABucket(t *testing.T) {
	t.Parallel()
	m := Map{
		Partitions: []Partition{{Lo: math.MinInt32, Hi: 10}, {Lo: 10, Hi: 12}, {Lo: 14, Hi: 20}},
		Others:     []Partition{{Lo: 13, Hi: 14}},
	}
	for bucket, want := range map[int32]struct {
		lo    int64 // of the partition
		found bool
		holds bool
	}{
		math.MinInt32: {math.MinInt32, true, true}, 9: {math.MinInt32, true, true}, 10: {10, true, true}, 11: {10, true, true},
		12: {0, false, false}, 13: {0, false, true}, 14: {14, true, true}, 19: {14, true, true}, 20: {0, false, false},
	} {
		part := m.Find(bucket)
		if (part != nil) != want.found || part != nil && part.Lo != want.lo || m.holds(bucket) != want.holds {
			t.Errorf("%d: found %v, holds %v; want %+v", bucket, part, m.holds(bucket), want)
		}
	}
	for _, c := range []struct {
		lo, hi int64
		bucket int32
		gap    bool
	}{{0, 11, 0, false}, {0, 12, 12, true}, {13, 13, 13, true}, {15, 19, 0, false}, {15, 30, 20, true}} {
		if bucket, gap := m.firstGap(c.lo, c.hi); gap != c.gap || gap && bucket != c.bucket {
			t.Errorf("from %d to %d: %d, %v; want %d, %v", c.lo, c.hi, bucket, gap, c.bucket, c.gap)
		}
	}
}

func TestBoundsAreReadAsTheServerWritesThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		lo, hi int64
		ok     bool
	}{
		"FOR VALUES FROM (490000) TO (490001)":     {490000, 490001, true},
		"FOR VALUES FROM ('-5') TO ('7')":          {-5, 7, true},
		"FOR VALUES FROM (MINVALUE) TO (MAXVALUE)": {math.MinInt32, math.MaxInt32 + 1, true},
		"DEFAULT": {},
		"":        {},
		"FOR VALUES FROM (1) TO (99999999999999999999)": {},
	} {
		if lo, hi, ok := parseBound(text); ok != want.ok || ok && (lo != want.lo || hi != want.hi) {
			t.Errorf("%q: %d, %d, %v", text, lo, hi, ok)
		}
	}
}

// A write makes the partition that it needs, and is repeated if that was gone.
func TestAWriteGetsItsPartition(t *testing.T) {
	t.Parallel()
	p := hourly(t)
	table, _ := p.open(t, p.pool)
	bucket := session.BucketOf(table.Now().Add(20 * time.Hour))
	drop := func() {
		t.Helper()
		if _, err := p.pool.Exec(t.Context(), `DROP TABLE `+table.Find(bucket).Table); err != nil {
			t.Fatal(err)
		}
	}
	writes := 0
	write := func() error {
		writes++
		return table.opts.Road.QueryRow(t.Context(), func(row pgx.Row) error {
			var is bool
			if err := row.Scan(&is); err != nil || is {
				return err
			}
			return &pgconn.PgError{SeverityUnlocalized: "ERROR", Code: "23514"}
		}, `SELECT to_regclass($1) IS NOT NULL`, table.Find(bucket).Table)
	}
	drop() // which the node does not know
	if err := table.In(t.Context(), bucket, write); err != nil || writes != 2 {
		t.Errorf("after %d writes: %v", writes, err)
	}
	drop()
	if _, err := table.Refresh(t.Context()); err != nil || table.Find(bucket) != nil {
		t.Fatalf("the partition is known: %v", err)
	}
	if err := table.Reach(t.Context(), bucket); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("without a partition: %v, want ErrNotFound", err)
	}
	if err := table.In(t.Context(), bucket, write); err != nil || writes != 3 {
		t.Errorf("after %d writes: %v", writes, err)
	}
	never := func() error { return &pgconn.PgError{SeverityUnlocalized: "ERROR", Code: "23514"} }
	if err := table.In(t.Context(), bucket, never); !errors.Is(err, session.ErrNoPartition) {
		t.Errorf("a write that never succeeds: %v", err)
	}
}

// What the store keeps with a partition is made once, for as long as it is there.
func TestTextsAreMadeOnceForEachPartition(t *testing.T) {
	t.Parallel()
	p := hourly(t)
	table, pruning := p.open(t, p.pool)
	made := map[string]int{}
	table.opts.Texts = func(name string) any { made[name]++; return name }
	for range 2 {
		f, err := table.read(t.Context(), p.pool)
		if err != nil {
			t.Fatal(err)
		}
		table.Known.Store(f)
	}
	for _, part := range table.Known.Load().Partitions {
		if made[part.Table] != 1 || part.Texts != part.Table {
			t.Errorf("%s: made %d times, is %v", part.Table, made[part.Table], part.Texts)
		}
	}
	table.opts.Texts = nil
	if done, err := pruning.Now(t.Context()); err != nil || done.Made == 0 {
		t.Errorf("a pass: %+v, %v", done, err)
	}
}

// Who holds the locks of maintenance and is frozen loses them.
func TestAFrozenPassGivesItsLocksBack(t *testing.T) {
	t.Parallel()
	p := hourly(t)
	_, pruning := p.open(t, p.pool)
	within := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
		t.Cleanup(cancel)
		return ctx
	}
	own := func() (hand, func()) {
		h, done, err := pruning.ownHand(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return h, done
	}
	frozen, bye := own()
	if err := frozen.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	h, done := own()
	if err := h.begin(within()); err != nil {
		t.Errorf("the lock of a silent session stays: %v", err)
	}
	h.end(t.Context())
	done()
	_ = frozen.conn.Close(t.Context())
	bye()

	bouncer := dbtest.Bouncer(t, dbtest.Postgres(t), p.dsn, map[string]string{"default_pool_size": "4"})
	_, behind := p.open(t, dbtest.Pool(t, bouncer, func(c *pgxpool.Config) {
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		direct.Harden(c)
	}))
	pooled, letGo, err := behind.pooledHand(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- pooled.transact(context.Background(), lockBriefly, true, func(pgx.Tx) error {
			close(entered)
			<-leave
			return nil
		})
	}()
	<-entered
	h, done = own()
	defer done()
	if _, err := h.exec(within(), lockBriefly, true, `SELECT 1`); err != nil {
		t.Errorf("the locks of a silent transaction stay: %v", err)
	}
	close(leave)
	if err := <-ended; err == nil {
		t.Error("the silent transaction was committed")
	}
	_ = pooled.conn.Close(t.Context())
	letGo()
}

func TestFailuresAreSaidOncePerReason(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	var failed []error
	again := 0
	table := &Table{opts: Options{Failed: func(_ string, err error) { failed = append(failed, err) }}}
	p := NewPruning(table, PruneOptions{FailedAgain: func() { again++ }, Log: zap.New(core)})
	for i := range 3 {
		p.note("a", fmt.Errorf("port %d", i))
		p.note("b", nil)
	}
	p.note("a", errors.New("another reason"))
	p.note("a", nil)
	p.note("a", nil)
	if len(failed) != 2 || again != 2 {
		t.Errorf("told %v, and %d more; want 2 and 2", failed, again)
	}
	var said []string
	for _, e := range logs.All() {
		said = append(said, e.Message)
	}
	if want := []string{"maintenance works again"}; !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
}

// The names of relations come from another snapshot than their list.
func TestPartitionsMayVanishWhileTheyAreListed(t *testing.T) {
	t.Parallel()
	p := hourly(t)
	table, _ := p.open(t, p.pool)
	tx, err := p.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `SELECT count(*) FROM pg_class`); err != nil {
		t.Fatal(err)
	}
	before := table.Known.Load().Partitions
	if _, err := p.pool.Exec(t.Context(), `DROP TABLE `+before[10].Table); err != nil {
		t.Fatal(err)
	}
	f, err := table.read(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Partitions) != len(before)-1 {
		t.Errorf("%d partitions are listed, want %d", len(f.Partitions), len(before)-1)
	}
}

// A walk that does not fit into a pass goes on with the next.
func TestThinningGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	p := hourly(t)
	table, pruning := p.open(t, p.pool)
	part := table.Find(session.BucketOf(table.Now().Add(20 * time.Hour)))
	const count = 10 * SweepLeast
	if _, err := p.pool.Exec(t.Context(), fmt.Sprintf(`
INSERT INTO %s (key, bucket, version, expires_at, deadline, created_at, data)
SELECT sha256(int8send(i)), %d, 1, CASE WHEN i %% 10 < 9 THEN now() - interval '2 days' ELSE now() + interval '1 hour' END,
       to_timestamp(%[2]d::float8 * 3600), now() - interval '3 days', convert_to(repeat('x', 600), 'UTF8')
FROM generate_series(1, %[3]d) AS i`, part.Table, part.Lo, count)); err != nil {
		t.Fatal(err)
	}
	h, done, err := pruning.ownHand(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	sw := &sweeper{}
	rows := int64(0)
	for pass := 1; ; pass++ {
		m := &maintenance{p: pruning, hand: h, sweep: sw, may: true}
		if err := m.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(m.facts.Partitions, func(f Partition) bool { return f.Table == part.Table })
		err := m.thinPartition(t.Context(), m.facts.Partitions[i], time.Now())
		rows += m.done.Emptied
		if err == nil {
			if pass < 3 || rows != count*9/10 {
				t.Errorf("%d rows in %d passes, want %d in some", rows, pass, count*9/10)
			}
			return
		}
		if !errors.Is(err, errLater) || pass > 100 {
			t.Fatalf("pass %d: %v", pass, err)
		}
	}
}
