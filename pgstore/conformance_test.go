package pgstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore/internal/partition"
	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

// Without a cache the suite runs in TestConformanceWhateverIsSet.
func TestConformance(t *testing.T) { sessiontest.Run(t, cachedHarness()) }

func TestHTTP(t *testing.T) { sessiontest.RunHTTP(t, cachedHarness()) }

// cachedHarness is for nodes that read from their memory whatever they can.
func cachedHarness() sessiontest.Harness {
	h := harness(migrated)
	var mu sync.Mutex
	nodes := map[string][]*Store{} // by place
	warm := func(t testing.TB, place *Store) session.Store {
		opts := place.opts
		opts.CacheBytes = 8 << 20
		s, err := New(t.Context(), place.pool, opts)
		if err != nil {
			t.Fatal(err)
		}
		dbtest.Eventually(t, "the cache has a lease", func() bool { return s.Stats().Cache.Leased })
		mu.Lock()
		defer mu.Unlock()
		id := placeID(s.pool, opts.Schema)
		nodes[id] = append(nodes[id], s)
		return s
	}
	forget := func(s session.Store, key session.Key) {
		mu.Lock()
		defer mu.Unlock()
		for _, node := range nodes[placeID(s.(*Store).pool, s.(*Store).opts.Schema)] {
			node.cache.Invalidate(key)
		}
	}
	cold := h
	h.New = func(t testing.TB) session.Store {
		s := cold.New(t).(*Store)
		t.Cleanup(func() { closeStore(t, s) })
		return warm(t, s)
	}
	h.Peer = func(t testing.TB, s session.Store) session.Store { return warm(t, s.(*Store)) }
	// What no node has written is not in any message.
	h.Expire = func(t testing.TB, s session.Store, key session.Key) {
		cold.Expire(t, s, key)
		forget(s, key)
	}
	h.Vanish = func(t testing.TB, s session.Store, key session.Key) {
		cold.Vanish(t, s, key)
		forget(s, key)
	}
	h.Age = func(t testing.TB, s session.Store, d time.Duration) {
		cold.Age(t, s, d)
		s.(*Store).cache.BeginAll().End()
	}
	h.Hold = func(t testing.TB, s session.Store, key session.Key) func(bool) {
		release := cold.Hold(t, s, key)
		return func(expired bool) {
			release(expired)
			forget(s, key)
		}
	}
	return h
}

func harness(at func(testing.TB) place) sessiontest.Harness {
	var mu sync.Mutex
	pools := map[string]*pgxpool.Pool{} // around the stores, by place
	around := func(s session.Store) *pgxpool.Pool {
		mu.Lock()
		defer mu.Unlock()
		return pools[placeID(s.(*Store).pool, s.(*Store).opts.Schema)]
	}
	expire := func(t testing.TB, s *Store, db interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}, key session.Key) {
		var n int
		err := db.QueryRow(context.Background(), `
WITH w AS (UPDATE `+s.names.Sessions+` SET expires_at = clock_timestamp()
  WHERE key = $1 AND ended_at IS NULL AND expires_at > clock_timestamp() RETURNING 1)
SELECT count(*) FROM w`, key.Hash[:]).Scan(&n)
		if err != nil || n != 1 {
			t.Errorf("expire: %d rows, %v", n, err)
		}
	}
	return sessiontest.Harness{
		New: func(t testing.TB) session.Store {
			p := at(t)
			mu.Lock()
			pools[p.id()] = p.pool
			mu.Unlock()
			opts := quiet
			opts.Schema, opts.DirectDSN = p.schema, p.direct
			opts.WriteTimeout, opts.ReadTimeout, opts.unhurried = time.Minute, time.Minute, true // a busy machine needs longer than the defaults
			s, err := New(t.Context(), p.nodePool(t), opts)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Peer: func(t testing.TB, s session.Store) session.Store {
			peer, err := New(t.Context(), s.(*Store).pool, s.(*Store).opts)
			if err != nil {
				t.Fatal(err)
			}
			return peer
		},
		Narrow: func(t testing.TB, s session.Store) session.Store {
			opts := s.(*Store).opts
			config := migrations.Config{Schema: opts.Schema, Table: opts.Table}
			settings := migrations.Settings{LongestLifetime: time.Hour, PartitionWidth: migrations.MaxLifetime, Lease: migrations.MinLease}
			if _, err := migrations.SetSettings(t.Context(), around(s), config, settings); err != nil {
				t.Fatal(err)
			}
			opts.MaxData, opts.MaxUser = 10, 1
			narrow, err := New(t.Context(), s.(*Store).pool, opts)
			if err != nil {
				t.Fatal(err)
			}
			return narrow
		},
		Expire: func(t testing.TB, s session.Store, key session.Key) {
			expire(t, s.(*Store), around(s), key)
		},
		Vanish: func(t testing.TB, s session.Store, key session.Key) {
			if _, err := around(s).Exec(context.Background(), `DELETE FROM `+s.(*Store).names.Sessions+` WHERE key = $1`, key.Hash[:]); err != nil {
				t.Error(err)
			}
		},
		Remains: func(t testing.TB, s session.Store, key session.Key) (remains bool) {
			err := around(s).QueryRow(t.Context(), `
SELECT count(*) > 0 FROM `+s.(*Store).names.Sessions+` WHERE key = $1 AND (user_id IS NOT NULL OR data IS NOT NULL)`, key.Hash[:]).Scan(&remains)
			if err != nil {
				t.Error(err)
			}
			return remains
		},
		Age: func(t testing.TB, s session.Store, d time.Duration) { age(t, s.(*Store), around(s), d) },
		Hold: func(t testing.TB, s session.Store, key session.Key) func(bool) {
			ctx := context.Background()
			tx, err := around(s).Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(ctx, `SELECT FROM `+s.(*Store).names.Sessions+` WHERE key = $1 FOR UPDATE`, key.Hash[:]); err != nil {
				t.Fatal(err)
			}
			return func(expired bool) {
				if expired {
					expire(t, s.(*Store), tx, key)
				}
				if err := tx.Commit(ctx); err != nil {
					t.Error(err)
				}
			}
		},
		Waiting: func(t testing.TB, s session.Store) (n int) {
			err := around(s).QueryRow(context.Background(), `
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND position($1 IN query) > 0`, pgx.Identifier{s.(*Store).opts.Schema}.Sanitize()).Scan(&n)
			if err != nil {
				t.Error(err)
			}
			return n
		},
		Queues:    true,
		Precision: time.Microsecond,
		Require: []sessiontest.Ability{
			sessiontest.Clock, sessiontest.Putter, sessiontest.Lister, sessiontest.Clearer,
			sessiontest.UserIndex, sessiontest.Pruner, sessiontest.FreshGetter, sessiontest.LateToucher,
			sessiontest.NodeWaiter, sessiontest.Explainer, sessiontest.Statser,
		},
	}
}

// age makes all sessions older, in partitions as they would have been made for
// them, thins all of these, however small they are, and does a pass.
func age(t testing.TB, s *Store, around *pgxpool.Pool, d time.Duration) {
	t.Helper()
	p := place{schema: s.opts.Schema, pool: around}
	table, hours := p.names(t).Sessions, int32(d/time.Hour)
	for _, bucket := range query[[]int32](t, p, `SELECT coalesce(array_agg(DISTINCT bucket), '{}') FROM `+table+` WHERE version > 0`) {
		bucket -= hours
		if !slices.ContainsFunc(p.parts(t), func(l part) bool { return l.lo <= bucket && bucket < l.hi }) {
			p.addPart(t, bucket, bucket+1, 0)
		}
	}
	// A key may stand in two partitions, so all rows go before the first one comes.
	p.exec(t, `
WITH gone AS (DELETE FROM `+table+` WHERE version > 0 RETURNING *)
INSERT INTO `+table+` (key, bucket, version, expires_at, deadline, created_at, ended_at, renewed_to, renewed_bucket, grace_until, chain_until, user_id, data)
SELECT key, bucket - $1, version, expires_at - $2::interval, deadline - $2::interval, created_at - $2::interval, ended_at - $2::interval,
       renewed_to, renewed_bucket - $1, grace_until - $2::interval, chain_until - $1, user_id, data
FROM gone ORDER BY bucket`, hours, d)
	f, err := s.table.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range f.Partitions {
		pages := query[int64](t, p, `SELECT pg_relation_size($1::text::regclass) / 8192`, l.Table)
		p.exec(t, partition.ThinOut(l.Table), f.GraceInForce.Seconds(), "(0,0)", fmt.Sprintf("(%d,0)", pages))
	}
	prune(t, s)
	s.hints.InvalidateAll()
}
