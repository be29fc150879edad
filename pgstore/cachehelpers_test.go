package pgstore

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// Leases for tests: one that cannot lapse while a test runs, and one that is
// waited out.
const (
	lasting60  = migrations.MaxLease
	shortLease = 700 * time.Millisecond
)

// leasing makes a table on the shared server whose nodes go by that lease.
func leasing(t testing.TB, lease time.Duration) place {
	t.Helper()
	return migratedWith(t, migrations.Settings{Lease: lease})
}

var nodeNumber atomic.Int64

// cached opens a node with a pool of its own and waits until it may answer from
// its memory.
func (p place) cached(t testing.TB, opts Options, mods ...func(*pgxpool.Config)) *Store {
	t.Helper()
	s := p.caching(t, opts, mods...)
	awaitLease(t, s)
	return s
}

// caching is cached without the wait.
func (p place) caching(t testing.TB, opts Options, mods ...func(*pgxpool.Config)) *Store {
	t.Helper()
	opts.CacheBytes = cmp.Or(opts.CacheBytes, 1<<20)
	opts.NodeName = cmp.Or(opts.NodeName, fmt.Sprint(p.schema, " node ", nodeNumber.Add(1)))
	return p.node(t, opts, 4, mods...)
}

// split opens a cached node that listens through one proxy and does everything
// else through another.
func (p place) split(t testing.TB, opts Options, mods ...func(*pgxpool.Config)) (s *Store, listening, writing *faultproxy.Proxy) {
	t.Helper()
	listening, opts.DirectDSN = dbtest.Proxy(t, p.dsn)
	writing, p.dsn = dbtest.Proxy(t, p.dsn)
	return p.cached(t, opts, mods...), listening, writing
}

func isLeased(s *Store) bool { return s.Stats().Cache.Leased }

func awaitLease(t testing.TB, s *Store) {
	t.Helper()
	dbtest.Eventually(t, "the node may answer from its memory", func() bool { return isLeased(s) })
}

func awaitNoLease(t testing.TB, s *Store) {
	t.Helper()
	dbtest.Eventually(t, "the lease is lost", func() bool { return !isLeased(s) })
}

// echoes is how many heartbeats have come back.
func echoes(s *Store) (n uint64) {
	for _, count := range s.Stats().Cache.Echoes {
		n += count
	}
	return n
}

// awaitBeats waits until some more heartbeats have come back.
func awaitBeats(t testing.TB, s *Store, n uint64) {
	t.Helper()
	goal := echoes(s) + n
	dbtest.Eventually(t, "heartbeats come back", func() bool { return echoes(s) >= goal })
}

func messages(s *Store) uint64 { return s.Stats().Cache.Messages }

// remembers reports whether s answers for key from its memory.
func remembers(s *Store, key session.Key) bool {
	if key.Bucket == 0 {
		key.Bucket, _ = s.hints.GetIfPresent(key.Hash)
	}
	_, ok := s.cache.Get(key)
	return ok
}

// warm has nodes read the session of key until they answer from their memory.
func warm(t testing.TB, key session.Key, nodes ...*Store) {
	t.Helper()
	for _, s := range nodes {
		dbtest.Eventually(t, "the node remembers the session", func() bool {
			mustGet(t, s, key)
			return remembers(s, key)
		})
	}
}

// refusesNow fails the test unless s refuses key.
func refusesNow(t testing.TB, what string, s *Store, key session.Key) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
	defer cancel()
	if rec, err := s.Get(ctx, key); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("%s: Get = version %d, %v; want %v", what, rec.Version, err, session.ErrNotFound)
	}
}

// awaitRefusal waits until s refuses key, and makes sure that it goes on.
func awaitRefusal(t testing.TB, what string, s *Store, key session.Key) {
	t.Helper()
	dbtest.Eventually(t, what, func() bool {
		_, err := s.Get(t.Context(), key)
		wantErr(t, what, err, nil, session.ErrNotFound)
		return err != nil
	})
	for range 3 {
		refusesNow(t, what+", later", s, key)
	}
}

// saved writes other data to the session.
func saved(t testing.TB, s *Store, rec session.Record, data string) session.Record {
	t.Helper()
	rec.Data = []byte(data)
	rec, err := s.Save(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func destroyed(t testing.TB, s *Store, key session.Key) {
	t.Helper()
	if n, err := s.Destroy(t.Context(), key); n != 1 || err != nil {
		t.Fatalf("Destroy = %d, %v; want 1", n, err)
	}
}

// journal notes the statements about sessions that a node's connections run.
type journal struct {
	table, meta string

	mu    sync.Mutex
	texts []string
}

// journaled makes a journal and the change of the pool that keeps it.
func (p place) journaled(t testing.TB) (*journal, func(*pgxpool.Config)) {
	t.Helper()
	j := &journal{table: quoted(p.schema) + ".", meta: p.names(t).Meta}
	return j, func(c *pgxpool.Config) { c.ConnConfig.Tracer = j }
}

func (j *journal) note(sql string) {
	if !strings.Contains(sql, j.table) || strings.Contains(sql, j.meta) {
		return // a heartbeat, or a look at the settings
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.texts = append(j.texts, sql)
}

// during returns what was run meanwhile.
func (j *journal) during(do func()) []string {
	j.mu.Lock()
	n := len(j.texts)
	j.mu.Unlock()
	do()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.texts[n:]
}

func (j *journal) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	j.note(q.SQL)
	return ctx
}
func (j *journal) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (j *journal) TraceBatchStart(ctx context.Context, _ *pgx.Conn, b pgx.TraceBatchStartData) context.Context {
	for _, q := range b.Batch.QueuedQueries {
		j.note(q.SQL)
	}
	return ctx
}
func (j *journal) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (j *journal) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// tap hears what the nodes of a place tell each other.
type tap struct {
	listener, side *pgx.Conn
	channel        string
}

func (p place) tap(t testing.TB, s *Store) *tap {
	t.Helper()
	l := &tap{dbtest.Conn(t, p.dsn), dbtest.Conn(t, p.dsn), s.channel}
	if _, err := l.listener.Exec(t.Context(), `LISTEN `+quoted(l.channel)); err != nil {
		t.Fatal(err)
	}
	return l
}

// heard returns all that was committed since it was last called, but for
// heartbeats.
func (l *tap) heard(t testing.TB) (payloads []string) {
	t.Helper()
	end := "1h" + base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf("%16d", nodeNumber.Add(1))))
	l.notify(t, end)
	ctx := within(t)
	for {
		n, err := l.listener.WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case n.Payload == end:
			return payloads
		case !strings.HasPrefix(n.Payload, "1h"):
			payloads = append(payloads, n.Payload)
		}
	}
}

func (l *tap) notify(t testing.TB, payload string) {
	t.Helper()
	if _, err := l.side.Exec(t.Context(), `SELECT pg_notify($1, $2)`, l.channel, payload); err != nil {
		t.Fatal(err)
	}
}

// kinds are those of payloads, a letter each.
func kinds(payloads []string) string {
	var b strings.Builder
	for _, p := range payloads {
		b.WriteString(p[1:2])
	}
	return b.String()
}

// listenerOf is the server process that s listens to, or 0.
func listenerOf(t testing.TB, p place, s *Store) int32 {
	t.Helper()
	return query[int32](t, p, `SELECT COALESCE(max(pid), 0) FROM pg_stat_activity WHERE application_name = $1`,
		namePrefix+s.opts.NodeName+" (listener)")
}
