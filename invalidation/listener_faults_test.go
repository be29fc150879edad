package invalidation_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/session"
)

func TestAHeartbeatThatWasHeldUpProvesNothing(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	proxy, slow := dbtest.Proxy(t, dsn)
	var lost, mute atomic.Bool
	var sent atomic.Int64
	n := start(t, setup{dsn: slow, write: dsn, adjust: func(o *invalidation.ListenOptions) {
		beat := o.Beat
		o.Beat = func(ctx context.Context, payload string) (invalidation.Server, error) {
			if mute.Load() {
				return invalidation.Server{}, errors.New("not sent")
			}
			wrote, err := beat(ctx, payload)
			if err == nil && lost.Load() {
				sent.Add(1)
				// Nobody can conclude from it that the link is down.
				err = errors.New("the answer was lost")
			}
			return wrote, err
		}
	}})
	n.awaitLease(t)
	ended := newKey()
	n.remember(t, ended)

	proxy.SetMode(faultproxy.ToClient, faultproxy.Stall())
	lost.Store(true)
	dbtest.Eventually(t, "heartbeats are under way", func() bool { return sent.Load() >= 3 })
	mute.Store(true)
	notify(t, db, channel, stranger(t).Sender().Keys(ended)...)
	dbtest.Eventually(t, "the lease has lapsed", func() bool { return !n.leased() })
	if n.has(ended) {
		t.Error("it answers without a lease")
	}
	echoes := n.echoes()
	muted := time.Now()
	dbtest.Eventually(t, "all of them are older than their lease", func() bool { return time.Since(muted) > 2500*time.Millisecond })
	proxy.SetMode(faultproxy.ToClient, faultproxy.Pass())
	dbtest.Eventually(t, "what was held up has come in", func() bool { return n.cache.Stats().Messages == 1 })
	if n.echoes() < echoes+2 {
		t.Errorf("%d heartbeats came back late, want those that were held up", n.echoes()-echoes)
	}
	if n.leased() {
		t.Error("a late heartbeat has renewed the lease")
	}
	if n.dials.Load() != 1 {
		t.Errorf("%d connections, want the first to have lasted", n.dials.Load())
	}
	lost.Store(false)
	mute.Store(false)
	n.awaitLease(t)
}

func TestTheLeaseCountsFromWhenAHeartbeatWasSent(t *testing.T) {
	t.Parallel()
	const delay = 150 * time.Millisecond
	dsn := dbtest.Postgres(t).Database(t)
	proxy, slow := dbtest.Proxy(t, dsn)
	proxy.SetMode(faultproxy.ToClient, faultproxy.Delay(delay))
	n := start(t, setup{dsn: slow, write: dsn})
	dbtest.Eventually(t, "some heartbeats", func() bool {
		if stats := n.cache.Stats(); stats.Leased && stats.LeaseAge < delay {
			t.Fatalf("a lease that is %v old from heartbeats that took at least %v", stats.LeaseAge, delay)
		}
		return n.echoes() >= 3
	})
}

func TestASilentConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	for name, directions := range map[string][]faultproxy.Direction{
		"lost one way":   {faultproxy.ToClient},
		"lost both ways": {faultproxy.ToClient, faultproxy.ToServer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t).Database(t)
			proxy, bad := dbtest.Proxy(t, dsn)
			n := start(t, setup{dsn: bad, write: dsn})
			n.awaitLease(t)
			before := n.goroutines(t)
			for _, d := range directions {
				proxy.SetMode(d, faultproxy.Drop())
			}
			dbtest.Eventually(t, "it is cut", func() bool { return n.cache.Stats().Silences == 1 })
			if n.leased() {
				t.Error("it answers without a connection")
			}
			n.awaitError(t, invalidation.ErrLapsed)
			if err := proxy.Heal(); err != nil {
				t.Fatal(err)
			}
			n.awaitLease(t)
			if stats := n.cache.Stats(); stats.Silences != 1 || stats.Disconnects != 0 {
				t.Errorf("one gap is counted as %+v", stats)
			}
			dbtest.Eventually(t, "nothing is left of what was cut", func() bool { return n.goroutines(t) <= before })
		})
	}
}

func TestALostConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(testing.TB, *faultproxy.Proxy, *pgx.Conn){
		"closed":     func(_ testing.TB, p *faultproxy.Proxy, _ *pgx.Conn) { p.CutAll() },
		"reset":      func(_ testing.TB, p *faultproxy.Proxy, _ *pgx.Conn) { p.ResetAll() },
		"terminated": func(t testing.TB, _ *faultproxy.Proxy, db *pgx.Conn) { terminate(t, db) },
		"cut in the middle of a message": func(t testing.TB, p *faultproxy.Proxy, db *pgx.Conn) {
			p.SetMode(faultproxy.ToClient, faultproxy.CutAfter(1000))
			notify(t, db, channel, largeMessage(t))
		},
		"reset in the middle of a message": func(t testing.TB, p *faultproxy.Proxy, db *pgx.Conn) {
			p.SetMode(faultproxy.ToClient, faultproxy.ResetAfter(1000))
			notify(t, db, channel, largeMessage(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t).Database(t)
			db := dbtest.Conn(t, dsn)
			proxy, bad := dbtest.Proxy(t, dsn)
			n := start(t, setup{dsn: bad, write: dsn})
			n.awaitLease(t)
			key := newKey()
			n.remember(t, key)
			lose(t, proxy, db)
			dbtest.Eventually(t, "the gap", func() bool { return n.cache.Stats().Disconnects >= 1 })
			if n.has(key) {
				t.Error("an entry has survived the gap")
			}
			proxy.SetMode(faultproxy.ToClient, faultproxy.Pass())
			n.awaitLease(t)
			if stats := n.cache.Stats(); stats.Messages+stats.UnknownPayloads != 0 {
				t.Errorf("half a message was applied: %+v", stats)
			}
			if len(n.errors()) != 1 {
				t.Errorf("told %v, want it once", n.errors())
			}
		})
	}
}

// largeMessage is a payload of thousands of bytes.
func largeMessage(t testing.TB) string {
	keys := make([]session.Key, 300)
	for i := range keys {
		keys[i] = newKey()
	}
	return stranger(t).Sender().Keys(keys...)[0]
}

func TestWithoutAWritePathTheLeaseLapsesAndTheConnectionStays(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	broken := errors.New("the pool is broken")
	var fails atomic.Bool
	var failed atomic.Int64
	n := start(t, setup{dsn: dsn, adjust: func(o *invalidation.ListenOptions) {
		beat := o.Beat
		o.Beat = func(ctx context.Context, payload string) (invalidation.Server, error) {
			if fails.Load() {
				failed.Add(1)
				return invalidation.Server{}, broken
			}
			return beat(ctx, payload)
		}
	}})
	n.awaitLease(t)
	fails.Store(true)
	dbtest.Eventually(t, "some failures and no lease", func() bool { return failed.Load() >= 4 && !n.leased() })
	if got := n.tally(broken); got != 1 {
		t.Errorf("told %d times in one outage, want once", got)
	}
	fails.Store(false)
	n.awaitLease(t)
	dbtest.Eventually(t, "it is told once that it is over", func() bool {
		return n.logs.FilterMessage("invalidation: heartbeats are sent again").Len() == 1
	})
	fails.Store(true)
	seen := failed.Load()
	dbtest.Eventually(t, "the next outage", func() bool { return failed.Load() >= seen+3 && !n.leased() })
	if got := n.tally(broken); got != 1 {
		t.Errorf("told %d times in two outages that came soon after each other, want once", got)
	}
	if stats := n.cache.Stats(); n.dials.Load() != 1 || stats.Disconnects+stats.Silences != 0 {
		t.Errorf("%d connections, %+v; want the first to last", n.dials.Load(), stats)
	}
}

func TestWithoutAnAgreedLeaseNoHeartbeatIsSent(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	unknown := errors.New("nobody knows")
	var lease, asked, sent atomic.Int64
	n := start(t, setup{dsn: dsn, adjust: func(o *invalidation.ListenOptions) {
		o.Lease = func() (time.Duration, error) {
			asked.Add(1)
			if lease.Load() < 0 {
				return 0, unknown
			}
			return time.Duration(lease.Load()), nil
		}
		beat := o.Beat
		o.Beat = func(ctx context.Context, payload string) (invalidation.Server, error) {
			sent.Add(1)
			return beat(ctx, payload)
		}
	}})
	for _, bad := range []int64{0, -1} {
		lease.Store(bad)
		seen := asked.Load()
		dbtest.Eventually(t, "it has asked twice more", func() bool { return asked.Load() >= seen+2 })
	}
	if n.leased() || sent.Load() != 0 || len(n.errors()) != 1 {
		t.Errorf("%d heartbeats were sent, told %v", sent.Load(), n.errors())
	}
	lease.Store(int64(2 * time.Second))
	n.awaitLease(t)
	lease.Store(-1)
	dbtest.Eventually(t, "the lease has lapsed", func() bool { return !n.leased() })
	if told := n.errors(); len(told) != 1 { // the same trouble, again within minutes
		t.Errorf("told %v", told)
	}
}

func TestAServerThatRefusesIsNotOverrun(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	for name, s := range map[string]func(testing.TB) setup{
		"wrong password": func(t testing.TB) setup {
			dsn := server.Database(t)
			return setup{dsn: dsn, adjust: func(o *invalidation.ListenOptions) { o.Config.Password = "wrong" }}
		},
		"too many connections": func(t testing.TB) setup {
			dsn := server.Database(t)
			role := newRole(t, server, "CONNECTION LIMIT 0")
			return setup{dsn: dsn, adjust: func(o *invalidation.ListenOptions) { o.Config.User, o.Config.Password = role, "" }}
		},
		"ends each connection once it listens": func(t testing.TB) setup {
			dsn := server.Database(t)
			proxy, bad := dbtest.Proxy(t, dsn)
			return setup{dsn: bad, write: dsn, adjust: func(o *invalidation.ListenOptions) {
				o.Beat = func(context.Context, string) (invalidation.Server, error) {
					proxy.ResetAll() // a heartbeat is due as soon as it listens
					return invalidation.Server{}, errors.New("not sent")
				}
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			n := start(t, s(t))
			window := time.NewTimer(3 * time.Second)
			defer window.Stop()
			<-window.C
			// The third waits for 50 ms, each later one for twice as long, or up to
			// twice that: 0, 0, 50, 150, 350, 750, 1550, 3150.
			got, passed := n.dials.Load(), time.Since(began)
			if most := 2 + int64(math.Log2(float64(passed/(50*time.Millisecond)+1))); got > most {
				t.Errorf("%d connections in %v, want at most %d", got, passed, most)
			}
			dbtest.Eventually(t, "it goes on trying", func() bool { return n.dials.Load() >= 6 })
			if warned := n.logs.FilterMessageSnippet("nothing is received").FilterLevelExact(zap.WarnLevel).Len(); warned != 1 {
				t.Errorf("%d warnings, want one", warned)
			}
		})
	}
}

func TestAServerThatEndsWhatWorksIsNotOverrun(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	proxy, bad := dbtest.Proxy(t, dsn)
	began := time.Now()
	n := start(t, setup{dsn: bad, write: dsn, adjust: func(o *invalidation.ListenOptions) {
		beat := o.Beat
		o.Beat = func(ctx context.Context, payload string) (invalidation.Server, error) {
			wrote, err := beat(ctx, payload)
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for err == nil && !o.Cache.Stats().Leased {
				select {
				case <-tick.C:
				case <-ctx.Done():
					err = ctx.Err()
				}
			}
			proxy.ResetAll()
			return wrote, err
		}
	}})
	window := time.NewTimer(3 * time.Second)
	defer window.Stop()
	<-window.C
	got, passed := n.dials.Load(), time.Since(began)
	if most := 2 + int64(passed/(50*time.Millisecond)); got > most { // with 50 ms in between
		t.Errorf("%d connections in %v, want at most %d", got, passed, most)
	}
	dbtest.Eventually(t, "it goes on trying", func() bool { return n.dials.Load() >= 6 })
}

func TestRunEndsWhileTheNetworkIsSilent(t *testing.T) {
	t.Parallel()
	for name, modes := range map[string][2]faultproxy.Mode{
		"stalled": {faultproxy.Stall(), faultproxy.Stall()},
		"lost":    {faultproxy.Drop(), faultproxy.Drop()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t).Database(t)
			proxy, bad := dbtest.Proxy(t, dsn)
			var began, ended atomic.Int64
			listening := start(t, setup{dsn: bad, adjust: func(o *invalidation.ListenOptions) {
				beat := o.Beat
				o.Beat = func(ctx context.Context, payload string) (invalidation.Server, error) {
					began.Add(1)
					defer ended.Add(1)
					return beat(ctx, payload)
				}
			}})
			listening.awaitLease(t)
			for d, mode := range modes {
				proxy.SetMode(faultproxy.Direction(d), mode)
			}
			connecting := start(t, setup{dsn: bad})
			dbtest.Eventually(t, "an attempt to connect", func() bool { return connecting.dials.Load() == 1 })
			before := began.Load()
			dbtest.Eventually(t, "a heartbeat that is not answered", func() bool {
				return began.Load() > before && ended.Load() < began.Load()
			})
			for _, n := range []*node{listening, connecting} {
				n.stop()
				n.noGoroutine(t)
			}
		})
	}
}

func TestRunLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	const reconnects = 100
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	n := start(t, setup{dsn: dsn})
	n.awaitLease(t)
	before := n.goroutines(t)
	var seen []int32
	for i := range uint64(reconnects) {
		seen = append(seen, terminate(t, db))
		dbtest.Eventually(t, "the gap", func() bool { return n.cache.Stats().Disconnects == i+1 })
		n.awaitLease(t)
	}
	dbtest.Eventually(t, "one listener that is new", func() bool {
		pids := listeners(t, db)
		return len(pids) == 1 && !slices.Contains(seen, pids[0])
	})
	if n.dials.Load() != reconnects+1 {
		t.Errorf("%d connections were made for %d reconnects", n.dials.Load(), reconnects)
	}
	dbtest.Eventually(t, "no more goroutines than before", func() bool { return n.goroutines(t) <= before })
	n.stop()
	n.noGoroutine(t)
	dbtest.Eventually(t, "no connection is left", func() bool { return len(listeners(t, db)) == 0 })
}

func TestRunThatNeverConnectedLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	proxy, bad := dbtest.Proxy(t, dsn)
	proxy.Refuse()
	n := start(t, setup{dsn: bad, write: dsn})
	dbtest.Eventually(t, "three attempts", func() bool { return n.dials.Load() >= 3 })
	n.stop()
	n.noGoroutine(t)
}

func TestRunReturnsAtOnceIfItsContextHasEnded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	config, err := pgx.ParseConfig(dbtest.Postgres(t).DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	err = invalidation.Run(ctx, invalidation.ListenOptions{
		Cache:   stranger(t),
		Channel: channel,
		Config:  config,
		Beat: func(context.Context, string) (invalidation.Server, error) {
			t.Error("a heartbeat was sent")
			return invalidation.Server{}, nil
		},
		Lease: func() (time.Duration, error) { return time.Second, nil },
	})
	if err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestGarbageIsToldOnceAndCounted(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	n := start(t, setup{dsn: dsn})
	key := newKey()
	for i := range uint64(4) {
		n.awaitLease(t)
		n.remember(t, key)
		notify(t, db, channel, "garbage")
		dbtest.Eventually(t, "the garbage comes in", func() bool { return n.cache.Stats().UnknownPayloads == i+1 })
		if n.has(key) {
			t.Error("an entry has survived what was not understood")
		}
	}
	warnings := n.logs.FilterLevelExact(zap.WarnLevel).Len()
	if told := n.errors(); len(told) != 1 || warnings != 1 {
		t.Errorf("told %v, and %d warnings; want one", told, warnings)
	}
}
