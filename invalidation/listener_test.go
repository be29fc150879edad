package invalidation_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/invalidation"
)

func TestANodeForgetsWhatAnotherNodeWrites(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	here, there := start(t, setup{dsn: dsn}), start(t, setup{dsn: dsn})
	here.awaitLease(t)
	there.awaitLease(t)
	written, other := newKey(), newKey()
	for _, n := range []*node{here, there} {
		n.remember(t, written)
		n.remember(t, other)
	}
	notify(t, dbtest.Conn(t, dsn), channel, here.cache.Sender().Keys(written)...)
	dbtest.Eventually(t, "the other node has forgotten it", func() bool { return !there.has(written) })
	if !there.has(other) {
		t.Error("it has forgotten more than that")
	}
	// What comes back to the writer does not count: it may have stored the new row.
	seen := here.echoes()
	dbtest.Eventually(t, "two more heartbeats", func() bool { return here.echoes() >= seen+2 })
	if !here.has(written) {
		t.Error("the node that wrote has applied its own message")
	}
	if stats := here.cache.Stats(); stats.Messages != 0 || stats.Disconnects != 0 {
		t.Errorf("the node that wrote counts %+v", stats)
	}
}

func TestMaintenanceMessagesArePassedOn(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	var told atomic.Int64
	n := start(t, setup{dsn: dsn, adjust: func(o *invalidation.ListenOptions) {
		o.OnPartitions = func() { told.Add(1) }
	}})
	n.awaitLease(t)
	key := newKey()
	n.remember(t, key)
	notify(t, dbtest.Conn(t, dsn), channel, stranger(t).Sender().Partitions())
	dbtest.Eventually(t, "the message", func() bool { return told.Load() == 1 })
	if !n.has(key) {
		t.Error("a maintenance message empties the cache")
	}
}

func TestWhatIsNotUnderstoodEmptiesTheCache(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	n := start(t, setup{dsn: dsn})
	for i, payload := range []string{
		"",
		"x",
		"2kfromalaterversion",
		"1k",
		"1kAAAAAAAAAAA", // no key
		"1z" + strings.Repeat("A", 40),
		"1h" + strings.Repeat("A", 7997),
		strings.Repeat("ü", 3999),
	} {
		n.awaitLease(t)
		key := newKey()
		n.remember(t, key)
		notify(t, db, channel, payload)
		dbtest.Eventually(t, "the cache is emptied", func() bool { return n.cache.Stats().UnknownPayloads == uint64(i+1) })
		if n.has(key) {
			t.Errorf("it still answers after %.20q", payload)
		}
	}
	n.awaitLease(t)
	if stats := n.cache.Stats(); stats.Disconnects+stats.Silences != 0 || n.dials.Load() != 1 {
		t.Errorf("%d connections, %+v; want the first to go on", n.dials.Load(), stats)
	}
}

func TestHeartbeatsOfOthersProveNothing(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	n := start(t, setup{dsn: dsn, adjust: func(o *invalidation.ListenOptions) {
		o.Beat = func(context.Context, string) (invalidation.Server, error) {
			return invalidation.Server{}, errors.New("nothing can be written")
		}
	}})
	healthy := start(t, setup{dsn: dsn})
	healthy.awaitLease(t)
	dbtest.Eventually(t, "it listens", func() bool { return !n.cache.Reserve(newKey()).Server().IsZero() })
	for range 20 {
		// One after the other: a heartbeat that anybody can make up, and then a
		// message that tells when it was received.
		before := n.cache.Stats().Messages
		notify(t, db, channel, stranger(t).Beat(time.Hour).Payload())
		notify(t, db, channel, stranger(t).Sender().Keys(newKey())...)
		dbtest.Eventually(t, "the message", func() bool { return n.cache.Stats().Messages > before })
		if n.leased() {
			t.Fatal("a lease from somebody else's heartbeat")
		}
	}
}

func TestNodesThatShareNoTableDoNotMeet(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	here, there := server.Database(t), server.Database(t)
	mine := invalidation.Channel("a", "sessions")
	for name, other := range map[string]setup{
		"another schema":   {dsn: here, channel: invalidation.Channel("b", "sessions")},
		"another table":    {dsn: here, channel: invalidation.Channel("a", "Sessions")},
		"another database": {dsn: there, channel: mine},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			us, them := start(t, setup{dsn: here, channel: mine}), start(t, other)
			key := newKey()
			for _, n := range []*node{us, them} {
				n.awaitLease(t)
				n.remember(t, key)
			}
			notify(t, dbtest.Conn(t, other.dsn), other.channel, stranger(t).Sender().All(), stranger(t).Sender().Keys(key)[0])
			dbtest.Eventually(t, "it is told", func() bool { return them.cache.Stats().Messages == 2 })
			if n := us.cache.Stats().Messages; n != 0 || !us.has(key) {
				t.Errorf("%d messages of others were received", n)
			}
		})
	}
}

func TestABurstOfMessagesIsAppliedBeforeTheNextHeartbeatComesBack(t *testing.T) {
	t.Parallel()
	const burst = 30_000
	dsn := dbtest.Postgres(t).Database(t)
	n := start(t, setup{dsn: dsn, lease: time.Minute}) // none is lost while the burst is under way
	n.awaitLease(t)
	last := newKey()
	n.remember(t, last)
	sender := stranger(t).Sender()
	payloads := make([]string, 0, burst)
	for range burst - 1 {
		payloads = append(payloads, sender.Keys(newKey())...)
	}
	payloads = append(payloads, sender.Keys(last)...)
	notify(t, dbtest.Conn(t, dsn), channel, payloads...)
	committed := time.Now()
	dbtest.Eventually(t, "a heartbeat that was sent after the burst", func() bool {
		stats := n.cache.Stats()
		return stats.Leased && stats.LeaseAge < time.Since(committed)
	})
	if got := n.cache.Stats().Messages; got != burst || n.has(last) {
		t.Errorf("%d of %d messages were applied before it", got, burst)
	}
}

func TestNothingIsStoredBeforeListenIsCommitted(t *testing.T) {
	t.Parallel()
	proxy, dsn := dbtest.Proxy(t, dbtest.Postgres(t).Database(t))
	lost := proxy.Trigger(faultproxy.ToServer, faultproxy.Contains("listen "), faultproxy.HangBefore)
	n := start(t, setup{dsn: dsn})
	receive(t, "LISTEN", lost)
	key := newKey()
	ticket := n.cache.Reserve(key)
	if !ticket.Server().IsZero() {
		t.Error("rows may be stored although nobody listens: who writes one now tells nobody")
	}
	n.awaitLease(t) // the connection that does not answer is given up
	n.cache.Fill(ticket, row(key))
	if n.has(key) {
		t.Error("a row that was read before LISTEN is answered")
	}
}

func TestWhatWasReadBeforeAGapIsNotStoredAfterIt(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	n := start(t, setup{dsn: dsn})
	n.awaitLease(t)
	slow, cached := newKey(), newKey()
	ticket := n.cache.Reserve(slow)
	n.remember(t, cached)
	terminate(t, db)
	dbtest.Eventually(t, "the gap", func() bool { return n.cache.Stats().Disconnects == 1 })
	n.awaitLease(t)
	if n.has(cached) {
		t.Error("an entry has survived the gap")
	}
	n.cache.Fill(ticket, row(slow))
	if n.has(slow) || n.cache.Stats().RefusedByEpoch != 1 {
		t.Errorf("a row that was read before the gap was stored: %+v", n.cache.Stats())
	}
}

func TestHooksThatListenElsewhereDoNoHarm(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	pool := dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `LISTEN elsewhere`)
			return err
		}
	})
	n := start(t, setup{dsn: dsn, adjust: func(o *invalidation.ListenOptions) {
		o.Config, o.Pool = nil, pool
	}})
	n.awaitLease(t)
	key := newKey()
	n.remember(t, key)
	notify(t, db, "elsewhere", "news")
	seen := n.echoes()
	dbtest.Eventually(t, "two more heartbeats", func() bool { return n.echoes() >= seen+2 })
	if stats := n.cache.Stats(); !n.has(key) || stats.Disconnects+stats.UnknownPayloads != 0 || len(n.errors()) != 0 {
		t.Errorf("a message for others was a gap: %+v, %v", stats, n.errors())
	}
}

func TestInvalidOptionsAreRefused(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).DSN("postgres")
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	pool := dbtest.Pool(t, dsn, nil)
	for want, spoil := range map[string]func(*invalidation.ListenOptions){
		"ListenOptions.Cache is nil":                 func(o *invalidation.ListenOptions) { o.Cache = nil },
		"ListenOptions.Channel is empty":             func(o *invalidation.ListenOptions) { o.Channel = "" },
		"ListenOptions.Channel has 64 bytes":         func(o *invalidation.ListenOptions) { o.Channel = strings.Repeat("c", 64) },
		"ListenOptions.Config and Pool are both set": func(o *invalidation.ListenOptions) { o.Pool = pool },
		"ListenOptions.Config and Pool are nil":      func(o *invalidation.ListenOptions) { o.Config = nil },
		"ListenOptions.NodeName has a NUL at byte 1": func(o *invalidation.ListenOptions) { o.NodeName = "a\x00" },
		"ListenOptions.NodeName is not UTF-8":        func(o *invalidation.ListenOptions) { o.NodeName = "a\xff" },
		"ListenOptions.Channel has a NUL at byte 0":  func(o *invalidation.ListenOptions) { o.Channel = "\x00" },
		"ListenOptions.Beat is nil":                  func(o *invalidation.ListenOptions) { o.Beat = nil },
		"ListenOptions.Lease is nil":                 func(o *invalidation.ListenOptions) { o.Lease = nil },
	} {
		opts := invalidation.ListenOptions{
			Cache:   stranger(t),
			Channel: channel,
			Config:  config,
			Beat:    notifyThrough(pool, channel),
			Lease:   func() (time.Duration, error) { return time.Second, nil },
		}
		spoil(&opts)
		if err := invalidation.Run(t.Context(), opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run returned %v, want: %s", err, want)
		}
	}
}
