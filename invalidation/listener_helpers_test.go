package invalidation_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/session"
)

// hangs is a limit that is only reached when something hangs.
const hangs = dbtest.Patience

const channel = "sojourn_test"

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	t.Cleanup(cancel)
	return ctx
}

// setup says how a node differs from one that has all it needs.
type setup struct {
	dsn     string        // of the server that is listened to
	write   string        // where heartbeats are sent; "" is dsn
	channel string        // "" is channel
	lease   time.Duration // 0 is two seconds
	adjust  func(*invalidation.ListenOptions)
}

// node is a Run in the background.
type node struct {
	cache *invalidation.Cache
	write *pgxpool.Pool
	label string
	logs  *observer.ObservedLogs
	dials atomic.Int64
	stop  func() // ends it, waits for it, checks its answer; may be repeated

	mu   sync.Mutex
	told []error
}

// writePath returns a pool that sends heartbeats however long it waits for a
// connection, so that only what a test breaks fails.
func writePath(t testing.TB, dsn string) *pgxpool.Pool {
	return dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
		c.MaxConns = 2
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // PgBouncer 1.18 knows no others
	})
}

// notifyThrough is a Beat.
func notifyThrough(db *pgxpool.Pool, channel string) func(context.Context, string) (invalidation.Server, error) {
	return func(ctx context.Context, payload string) (wrote invalidation.Server, err error) {
		err = db.QueryRow(ctx, `SELECT pg_notify($1, $2), pg_postmaster_start_time(), current_database()`, channel, payload).
			Scan(nil, &wrote.Started, &wrote.Database)
		return wrote, err
	}
}

func start(t testing.TB, s setup) *node {
	t.Helper()
	if s.write == "" {
		s.write = s.dsn
	}
	if s.channel == "" {
		s.channel = channel
	}
	if s.lease == 0 {
		s.lease = 2 * time.Second
	}
	cache, err := invalidation.NewCache(invalidation.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{cache: cache, write: writePath(t, s.write), label: rand.Text()}
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.dials.Add(1)
		return dial(ctx, network, addr)
	}
	var core zapcore.Core
	core, n.logs = observer.New(zap.DebugLevel)
	opts := invalidation.ListenOptions{
		Cache:    cache,
		Channel:  s.channel,
		Config:   config,
		NodeName: "node",
		Beat:     notifyThrough(n.write, s.channel),
		Lease:    func() (time.Duration, error) { return s.lease, nil },
		Logger:   zap.New(core),
		OnError: func(err error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.told = append(n.told, err)
		},
	}
	if s.adjust != nil {
		s.adjust(&opts)
	}

	beat := opts.Beat
	opts.Beat = func(ctx context.Context, payload string) (wrote invalidation.Server, err error) {
		// What a pool starts meanwhile is not Run's.
		pprof.Do(ctx, pprof.Labels("node", ""), func(ctx context.Context) { wrote, err = beat(ctx, payload) })
		return wrote, err
	}

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		var err error
		pprof.Do(ctx, pprof.Labels("node", n.label), func(ctx context.Context) { err = invalidation.Run(ctx, opts) })
		done <- err
	}()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := receive(t, "the end of Run", done); err != nil {
			t.Errorf("Run returned %v", err)
		}
		if n.cache.Stats().Leased {
			t.Error("the cache answers after Run has ended")
		}
	})
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			warnings := n.logs.FilterLevelExact(zap.WarnLevel).All()
			for _, e := range warnings[max(0, len(warnings)-5):] {
				t.Log(e.Message, e.ContextMap())
			}
		}
	})
	return n
}

func receive[T any](t testing.TB, what string, c <-chan T) (got T) {
	t.Helper()
	timer := time.NewTimer(hangs)
	defer timer.Stop()
	select {
	case got = <-c:
	case <-timer.C:
		t.Errorf("not within %v: %s", hangs, what)
	}
	return got
}

// goroutines counts those that Run has started and that have not ended.
func (n *node) goroutines(t testing.TB) int {
	t.Helper()
	var text strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&text, 1); err != nil {
		t.Fatal(err)
	}
	count := 0
	for group := range strings.SplitSeq(text.String(), "\n\n") {
		if strings.Contains(group, n.label) {
			var here int
			if _, err := fmt.Sscanf(group[strings.LastIndex(group[:strings.Index(group, " @ ")], "\n")+1:], "%d @", &here); err != nil {
				t.Fatalf("%v in %q", err, group)
			}
			count += here
		}
	}
	return count
}

// noGoroutine checks that Run, which has ended, has left none. Those that it has
// waited for may take a moment to be gone; what pgx does in the background with a
// broken connection would take 15 seconds.
func (n *node) noGoroutine(t testing.TB) {
	t.Helper()
	deadline := time.NewTimer(12 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n.goroutines(t) > 0 {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Errorf("%d goroutines are left", n.goroutines(t))
			return
		}
	}
}

func (n *node) leased() bool { return n.cache.Stats().Leased }

func (n *node) awaitLease(t testing.TB) {
	t.Helper()
	dbtest.Eventually(t, "the cache may answer", n.leased)
}

// echoes is how many heartbeats have come back.
func (n *node) echoes() (sum uint64) {
	for _, count := range n.cache.Stats().Echoes {
		sum += count
	}
	return sum
}

// errors are those that OnError was told.
func (n *node) errors() []error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]error(nil), n.told...)
}

// awaitError waits until OnError was told an error of this kind.
func (n *node) awaitError(t testing.TB, target error) {
	t.Helper()
	dbtest.Eventually(t, target.Error(), func() bool { return n.tally(target) > 0 })
}

// tally counts the errors of this kind that OnError was told.
func (n *node) tally(target error) (count int) {
	for _, err := range n.errors() {
		if errors.Is(err, target) {
			count++
		}
	}
	return count
}

// listeners are the server processes that are listened to.
func listeners(t testing.TB, db *pgx.Conn) []int32 {
	t.Helper()
	rows, err := db.Query(within(t), `
SELECT pid FROM pg_stat_activity WHERE application_name = 'node (listener)' AND datname = current_database() ORDER BY pid`)
	if err != nil {
		t.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

// terminate ends the only listener and says which it was.
func terminate(t testing.TB, db *pgx.Conn) (pid int32) {
	t.Helper()
	dbtest.Eventually(t, "one listener", func() bool {
		pids := listeners(t, db)
		if len(pids) == 1 {
			pid = pids[0]
		}
		return len(pids) == 1
	})
	if _, err := db.Exec(within(t), `SELECT pg_terminate_backend($1)`, pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

func newKey() (key session.Key) {
	rand.Read(key.Hash[:])
	key.Bucket = 1
	return key
}

func row(key session.Key) invalidation.Row {
	now := time.Now().UTC()
	return invalidation.Row{
		Record: session.Record{Key: key, Version: 1, Created: now, Expires: now.Add(time.Hour), Deadline: now.Add(time.Hour)},
		Life:   time.Hour,
	}
}

// remember puts a session into the cache, which has to have a lease.
func (n *node) remember(t testing.TB, key session.Key) {
	t.Helper()
	dbtest.Eventually(t, "the session is in the cache", func() bool {
		n.cache.Fill(n.cache.Reserve(key), row(key))
		return n.has(key)
	})
}

func (n *node) has(key session.Key) bool {
	_, ok := n.cache.Get(key)
	return ok
}

// notify sends payloads, all in one transaction.
func notify(t testing.TB, db *pgx.Conn, channel string, payloads ...string) {
	t.Helper()
	if _, err := db.Exec(within(t), `SELECT pg_notify($1, p) FROM unnest($2::text[]) AS p`, channel, payloads); err != nil {
		t.Fatal(err)
	}
}

// stranger is a process that takes part without listening.
func stranger(t testing.TB) *invalidation.Cache {
	t.Helper()
	cache, err := invalidation.NewCache(invalidation.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return cache
}
