package pgstore

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

// The benchmarks run all variants of a comparison in turn, in short slices, on
// one server with fsync on, and report the ratio to the first variant: the
// machine's mood then counts for all alike. With -benchtime 1x they only show
// that they run.

func hasty() bool { return flag.Lookup("test.benchtime").Value.String() == "1x" }

type variant struct {
	name string
	do   func(r *rand.Rand) error
}

// compare reports ops/s of each variant with so many goroutines, and its ratio
// to the first.
func compare(b *testing.B, goroutines int, variants ...variant) {
	b.Helper()
	rounds, slice := 15, 150*time.Millisecond
	if hasty() {
		rounds, slice = 1, 10*time.Millisecond
	}
	rates := make([][]float64, len(variants))
	for round := range rounds {
		for i := range variants {
			i = (i + round) % len(variants)
			rates[i] = append(rates[i], rate(b, goroutines, slice, variants[i].do))
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, v := range variants {
		ratios := make([]float64, rounds)
		for round := range rounds {
			ratios[round] = rates[i][round] / rates[0][round]
		}
		b.ReportMetric(median(rates[i]), v.name+"/s")
		if i > 0 {
			b.ReportMetric(median(ratios), v.name+"/"+variants[0].name)
		}
	}
}

func rate(b *testing.B, goroutines int, slice time.Duration, do func(*rand.Rand) error) float64 {
	var ops atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range goroutines {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for time.Since(start) < slice {
				if err := do(r); err != nil {
					b.Error(err)
					return
				}
				ops.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(ops.Load()) / time.Since(start).Seconds()
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// benchPlace is a table on a durable server of the benchmark's own, with a
// pool of 16 connections and, beside it, a flat table with the same rows.
func benchPlace(b *testing.B, settings migrations.Settings) place {
	srv := dbtest.Start(b, dbtest.Config{Durable: true, Settings: map[string]string{
		"shared_buffers": "512MB", "max_wal_size": "4GB", "jit": "off",
	}})
	p := migratedAt(b, srv.Database(b), "bench", settings)
	p.pool = dbtest.Pool(b, p.dsn, func(c *pgxpool.Config) { c.MaxConns = 16 })
	p.exec(b, `CREATE TABLE bench.flat (sid bytea PRIMARY KEY, data bytea NOT NULL, expires timestamptz NOT NULL) WITH (fillfactor = 85)`)
	return p
}

var payload = make([]byte, 600)

// fill creates n sessions with deadlines all over the lifetime, and flat rows.
func fill(b *testing.B, p place, s *Store, n int) []session.Key {
	keys := make([]session.Key, n)
	longest := s.table.Known.Load().Longest
	rows := make([][]any, n)
	flat := make([][]any, n)
	now := s.Now()
	for i := range keys {
		deadline := now.Add(time.Hour + rand.N(longest-time.Hour)).UTC().Truncate(time.Second)
		keys[i] = session.NewID(deadline).Key()
		rows[i] = []any{keys[i].Hash[:], keys[i].Bucket, int64(1), deadline, deadline, now, nil, payload}
		flat[i] = []any{keys[i].Hash[:], payload, deadline}
	}
	ctx := context.Background()
	if _, err := p.pool.CopyFrom(ctx, pgx.Identifier{p.schema, "sessions"},
		[]string{"key", "bucket", "version", "expires_at", "deadline", "created_at", "user_id", "data"}, pgx.CopyFromRows(rows)); err != nil {
		b.Fatal(err)
	}
	if _, err := p.pool.CopyFrom(ctx, pgx.Identifier{p.schema, "flat"}, []string{"sid", "data", "expires"}, pgx.CopyFromRows(flat)); err != nil {
		b.Fatal(err)
	}
	p.exec(b, `VACUUM ANALYZE`)
	return keys
}

func size(full int) int {
	if hasty() {
		return 500
	}
	return full
}

func BenchmarkGet(b *testing.B) {
	ctx := context.Background()
	p := benchPlace(b, migrations.Settings{})
	s := p.open(b, quiet)
	keys := fill(b, p, s, size(100_000))
	for _, goroutines := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			compare(b, goroutines,
				variant{"flat", func(r *rand.Rand) error {
					var data []byte
					var expires time.Time
					return p.pool.QueryRow(ctx, `SELECT data, expires FROM bench.flat WHERE sid = $1 AND expires > now()`,
						keys[r.IntN(len(keys))].Hash[:]).Scan(&data, &expires)
				}},
				variant{"get", func(r *rand.Rand) error {
					_, err := s.Get(ctx, keys[r.IntN(len(keys))])
					return err
				}},
				variant{"select1", func(*rand.Rand) error {
					var one int
					return p.pool.QueryRow(ctx, `SELECT 1`).Scan(&one)
				}},
			)
		})
	}
}

// BenchmarkGetUnknownBucket searches through the partitions, as the first Get of a
// foreign token does on each node.
func BenchmarkGetUnknownBucket(b *testing.B) {
	ctx := context.Background()
	for _, partitions := range []int{6, 12} {
		longest := 720 * time.Hour
		width := ((longest + 25*time.Hour) / time.Duration(partitions)).Truncate(time.Hour) + time.Hour
		p := benchPlace(b, migrations.Settings{LongestLifetime: longest, PartitionWidth: width})
		s := p.open(b, quiet)
		keys := fill(b, p, s, size(100_000))
		newest := s.table.Known.Load().Partitions
		first := newest[len(newest)-3].Lo // the newest that is full, the last being made ahead
		var recent []session.Key
		for _, k := range keys {
			if int64(k.Bucket) >= first {
				recent = append(recent, k)
			}
		}
		for _, goroutines := range []int{1, 8} {
			b.Run(fmt.Sprintf("partitions=%d/goroutines=%d", len(newest), goroutines), func(b *testing.B) {
				search := func(keys []session.Key) func(*rand.Rand) error {
					return func(r *rand.Rand) error {
						at, err := s.probe(ctx, s.app, session.Key{Hash: keys[r.IntN(len(keys))].Hash})
						if err == nil {
							_, err = s.getFromDatabase(ctx, at)
						}
						return err
					}
				}
				compare(b, goroutines,
					variant{"get", func(r *rand.Rand) error {
						_, err := s.Get(ctx, keys[r.IntN(len(keys))])
						return err
					}},
					variant{"hit_newest", search(recent)},
					variant{"hit_any", search(keys)},
					variant{"miss", func(r *rand.Rand) error {
						_, err := s.probe(ctx, s.app, session.Key{Hash: sha256.Sum256(fmt.Append(nil, r.Uint64()))})
						if isNotFound(err) {
							return nil
						}
						return err
					}},
				)
			})
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	ctx := context.Background()
	p := benchPlace(b, migrations.Settings{})
	s := p.open(b, quiet)
	keys := fill(b, p, s, size(100_000))
	versions := make([]atomic.Int64, len(keys))
	mine := make([]sync.Mutex, len(keys))
	for i := range versions {
		versions[i].Store(1)
	}
	expires := s.Now().Add(time.Minute)
	var later atomic.Int64
	// The doomed are made in advance, so that only their end is measured.
	doomed := make(chan session.Key, 400_000)
	supply := func(n int) {
		var batch []session.Key
		for len(doomed)+len(batch) < min(n, cap(doomed)) {
			batch = append(batch, session.NewID(s.Now().Add(24*time.Hour)).Key())
		}
		deadline := s.Now().Add(24 * time.Hour).UTC()
		rows := make([][]any, len(batch))
		for i, k := range batch {
			d := time.Unix(int64(k.Bucket)*3600, 0).UTC()
			rows[i] = []any{k.Hash[:], k.Bucket, int64(1), d, d, deadline.Add(-24 * time.Hour), nil, payload}
		}
		if _, err := p.pool.CopyFrom(ctx, pgx.Identifier{p.schema, "sessions"},
			[]string{"key", "bucket", "version", "expires_at", "deadline", "created_at", "user_id", "data"}, pgx.CopyFromRows(rows)); err != nil {
			b.Fatal(err)
		}
		for _, k := range batch {
			doomed <- k
		}
	}

	flatUpdate := variant{"row_update", func(r *rand.Rand) error {
		_, err := p.pool.Exec(ctx, `UPDATE bench.flat SET data = $2, expires = $3 WHERE sid = $1`, keys[r.IntN(len(keys))].Hash[:], payload, expires)
		return err
	}}
	flatInsert := variant{"row_insert", func(r *rand.Rand) error {
		sum := sha256.Sum256(fmt.Append(nil, r.Uint64(), r.Uint64()))
		_, err := p.pool.Exec(ctx, `INSERT INTO bench.flat (sid, data, expires) VALUES ($1, $2, $3)`, sum[:], payload, expires)
		return err
	}}
	// Sessions of all ages are in all partitions, those that began lately in one.
	var young []int
	newest := s.table.Known.Load().Find(session.BucketOf(s.Now().Add(s.table.Known.Load().Longest - 80*time.Hour)))
	for i, k := range keys {
		if newest.Lo <= int64(k.Bucket) && int64(k.Bucket) < newest.Hi {
			young = append(young, i)
		}
	}
	saveAt := func(i int) error {
		mine[i].Lock()
		defer mine[i].Unlock()
		rec, err := s.Save(ctx, session.Record{Key: keys[i], Version: versions[i].Load(), Data: payload})
		if err == nil {
			versions[i].Store(rec.Version)
		}
		return err
	}
	save := variant{"save", func(r *rand.Rand) error { return saveAt(r.IntN(len(keys))) }}
	saveYoung := variant{"save_one_partition", func(r *rand.Rand) error { return saveAt(young[r.IntN(len(young))]) }}
	createOne := variant{"create", func(*rand.Rand) error {
		deadline := s.Now().Add(24 * time.Hour)
		_, err := s.Create(ctx, session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline, Data: payload})
		return err
	}}
	touch := variant{"touch", func(r *rand.Rand) error {
		_, err := s.Touch(ctx, keys[r.IntN(len(keys))], expires.Add(time.Duration(later.Add(1))*time.Millisecond))
		return err
	}}
	flatTouch := variant{"row_touch", func(r *rand.Rand) error {
		_, err := p.pool.Exec(ctx, `UPDATE bench.flat SET expires = $2 WHERE sid = $1`, keys[r.IntN(len(keys))].Hash[:], expires.Add(time.Duration(later.Add(1))))
		return err
	}}
	destroy := variant{"destroy", func(*rand.Rand) error {
		select {
		case key := <-doomed:
			_, err := s.Destroy(ctx, key)
			return err
		default:
			return fmt.Errorf("the supply of sessions to destroy ran out")
		}
	}}
	for _, goroutines := range []int{1, 16, 64, 256} {
		for _, pair := range [][]variant{{flatUpdate, save, saveYoung}, {flatInsert, createOne}, {flatTouch, touch}, {flatUpdate, destroy}} {
			b.Run(fmt.Sprintf("%s/goroutines=%d", pair[1].name, goroutines), func(b *testing.B) {
				if pair[1].name == "destroy" {
					n := 300_000
					if hasty() {
						n = 20_000
					}
					supply(n)
				}
				compare(b, goroutines, pair...)
			})
		}
	}
}

// BenchmarkRetire removes a million expired sessions, by dropping their partition
// and by DELETE, while lookups of live ones go on.
func BenchmarkRetire(b *testing.B) {
	n := size(1_000_000)
	ctx := context.Background()
	p := benchPlace(b, migrations.Settings{})
	s := p.open(b, quiet)
	keys := fill(b, p, s, size(50_000))
	past := int32(s.table.Known.Load().Partitions[0].Lo) - 20
	p.exec(b, `CREATE TABLE bench.past (LIKE bench.sessions INCLUDING ALL) WITH (fillfactor = 85)`)
	p.exec(b, `INSERT INTO bench.past (key, bucket, version, expires_at, deadline, created_at, data)
		SELECT sha256(int8send(i)), $1, 1, t, t, t, $2 FROM generate_series(1, $3::bigint) AS i, to_timestamp($1::double precision * 3600) AS t`, past, payload, n)
	p.exec(b, fmt.Sprintf(`ALTER TABLE bench.sessions ATTACH PARTITION bench.past FOR VALUES FROM (%d) TO (%d)`, past, past+1))
	p.exec(b, `INSERT INTO bench.flat (sid, data, expires)
		SELECT sha256(int8send(i)), $1, now() - interval '1 day' FROM generate_series(1, $2::bigint) AS i`, payload, n)
	p.exec(b, `VACUUM ANALYZE`)
	p.exec(b, `CHECKPOINT`)

	lookups := func(during func()) (p50, p99, slowest time.Duration) {
		stop := make(chan struct{})
		var took []time.Duration
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				start := time.Now()
				if _, err := s.Get(ctx, keys[rand.IntN(len(keys))]); err != nil {
					b.Error(err)
					return
				}
				took = append(took, time.Since(start))
			}
		})
		during()
		close(stop)
		wg.Wait()
		slices.Sort(took)
		return took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
	}
	report := func(name string, during func()) {
		start := time.Now()
		var wall time.Duration
		p50, p99, slowest := lookups(func() { during(); wall = time.Since(start) })
		b.ReportMetric(wall.Seconds(), name+"_s")
		b.ReportMetric(float64(p50.Microseconds()), name+"_get_p50_us")
		b.ReportMetric(float64(p99.Microseconds()), name+"_get_p99_us")
		b.ReportMetric(float64(slowest.Microseconds()), name+"_get_max_us")
	}
	b.ReportMetric(0, "ns/op")
	report("quiet", func() { wait.Sleep(ctx, time.Second) })
	report("retire", func() {
		done, err := s.PruneNow(ctx)
		if err != nil || done.Retired != 1 || done.Rows != int64(n) {
			b.Errorf("PruneNow: %+v, %v", done, err)
		}
	})
	report("delete", func() { p.exec(b, `DELETE FROM bench.flat WHERE expires < now()`) })
	report("vacuum", func() { p.exec(b, `VACUUM bench.flat`) })
}

func BenchmarkStore(b *testing.B) {
	sessiontest.Benchmark(b, harness(func(t testing.TB) place { return migrated(t) }))
}
