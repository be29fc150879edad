package pgstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// leased opens a node with a pool of its own and a cache that may answer.
func leased(b *testing.B, p place) *Store {
	p.pool = dbtest.Pool(b, p.dsn, func(c *pgxpool.Config) { c.MaxConns = 16 })
	opts := quiet
	opts.CacheBytes = 512 << 20
	s := p.open(b, opts)
	dbtest.Eventually(b, "the cache has a lease", func() bool { return s.Stats().Cache.Leased })
	return s
}

// BenchmarkCachedGet compares reads from memory, from a key and from a cookie's
// text, with the least that such a read could do.
func BenchmarkCachedGet(b *testing.B) {
	s := leased(b, benchPlace(b, migrations.Settings{}))
	type known struct {
		key  session.Key
		text string
	}
	all := make([]known, 1000)
	plain := map[session.Key]*session.Record{}
	for i := range all {
		deadline := s.Now().Add(time.Hour)
		id := session.NewID(deadline)
		rec, err := s.Create(b.Context(), session.Record{Key: id.Key(), Deadline: deadline, Data: payload})
		if err != nil {
			b.Fatal(err)
		}
		all[i] = known{id.Key(), id.Secret()}
		plain[id.Key()] = &rec
	}
	var mu sync.RWMutex
	ctx := b.Context()
	fromMap := func(key session.Key) bool {
		now := time.Now()
		mu.RLock()
		rec := plain[key]
		mu.RUnlock()
		return rec != nil && now.Before(rec.Deadline)
	}
	fromText := func(text string, get func(session.Key) bool) bool {
		key, err := session.ParseKey(text)
		return err == nil && get(key)
	}
	get := func(key session.Key) bool {
		_, err := s.Get(ctx, key)
		return err == nil
	}
	variants := []struct {
		name string
		do   func(known) bool
	}{
		{"key_map", func(k known) bool { return fromMap(k.key) }},
		{"key_get", func(k known) bool { return get(k.key) }},
		{"text_map", func(k known) bool { return fromText(k.text, fromMap) }},
		{"text_get", func(k known) bool { return fromText(k.text, get) }},
	}
	for _, goroutines := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			rounds, ops := 25, 200_000
			if hasty() {
				rounds, ops = 1, 1000
			}
			took := make([][]float64, len(variants))
			allocs := make([]float64, len(variants))
			for round := range rounds {
				for i := range variants {
					i = (i + round) % len(variants)
					nanos, mallocs := timed(b, goroutines, ops, func(n int) bool { return variants[i].do(all[n%len(all)]) })
					took[i] = append(took[i], nanos)
					allocs[i] += mallocs / float64(rounds)
				}
			}
			b.ReportMetric(0, "ns/op")
			for i, v := range variants {
				b.ReportMetric(median(took[i]), v.name+"_ns")
				b.ReportMetric(allocs[i], v.name+"_allocs")
			}
			for i := 0; i < len(variants); i += 2 {
				ratios := make([]float64, rounds)
				for round := range rounds {
					ratios[round] = took[i+1][round] / took[i][round]
				}
				b.ReportMetric(median(ratios), variants[i+1].name+"/"+variants[i].name)
			}
		})
	}
}

// timed returns the time and the allocations per operation.
func timed(b *testing.B, goroutines, ops int, do func(n int) bool) (nanos, mallocs float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	var failed atomic.Int64
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := g; i < ops; i += goroutines {
				if !do(i) {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	nanos = float64(time.Since(start).Nanoseconds()) / float64(ops)
	runtime.ReadMemStats(&after)
	if failed.Load() > 0 {
		b.Errorf("%d reads failed", failed.Load())
	}
	return nanos, float64(after.Mallocs-before.Mallocs) / float64(ops)
}

// BenchmarkLogout tells after how long a logout on one node is refused by
// another one that has the session in memory: from the call, and after it has
// returned. The yardstick is a bare NOTIFY, from the call to its arrival.
func BenchmarkLogout(b *testing.B) {
	p := benchPlace(b, migrations.Settings{})
	one, other := leased(b, p), leased(b, p)
	n := 10_000
	if hasty() {
		n = 20
	}
	for _, loaded := range []bool{false, true} {
		b.Run(fmt.Sprintf("loaded=%t", loaded), func(b *testing.B) {
			if loaded {
				defer load(b, one, other)()
			}
			var fromCall, sinceReturn []time.Duration
			for range n {
				key := logIn(b, one).Key
				if _, err := other.Get(b.Context(), key); err != nil {
					b.Fatal(err)
				}
				refused := make(chan time.Time, 1)
				ready := make(chan struct{})
				go func() {
					close(ready)
					for {
						if _, err := other.Get(context.Background(), key); err != nil {
							refused <- time.Now()
							return
						}
						runtime.Gosched()
					}
				}()
				<-ready
				start := time.Now()
				if _, err := one.Destroy(b.Context(), key); err != nil {
					b.Fatal(err)
				}
				end := time.Now()
				at := <-refused
				fromCall, sinceReturn = append(fromCall, at.Sub(start)), append(sinceReturn, max(0, at.Sub(end)))
			}
			b.ReportMetric(0, "ns/op")
			report(b, "call", fromCall)
			report(b, "after", sinceReturn)
			report(b, "notify", bareNotifies(b, p, n))
		})
	}
}

func logIn(b *testing.B, s *Store) session.Record {
	deadline := s.Now().Add(time.Hour)
	rec, err := s.Create(context.Background(), session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline, Data: payload})
	if err != nil {
		b.Fatal(err)
	}
	return rec
}

// load keeps nodes busy with a mix of saves and reads.
func load(b *testing.B, nodes ...*Store) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, s := range nodes {
		for range 4 {
			wg.Go(func() {
				rec := logIn(b, s)
				for ctx.Err() == nil {
					var err error
					if rec, err = s.Save(context.Background(), rec); err != nil {
						b.Error(err)
						return
					}
					for range 100 {
						if _, err := s.Get(context.Background(), rec.Key); err != nil {
							b.Error(err)
							return
						}
					}
				}
			})
		}
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

func bareNotifies(b *testing.B, p place, n int) []time.Duration {
	from, to := dbtest.Conn(b, p.dsn), dbtest.Conn(b, p.dsn)
	if _, err := to.Exec(b.Context(), `LISTEN bare`); err != nil {
		b.Fatal(err)
	}
	took := make([]time.Duration, 0, n)
	for range n {
		start := time.Now()
		sent := make(chan error, 1)
		go func() {
			_, err := from.Exec(context.Background(), `SELECT pg_notify('bare', '')`)
			sent <- err
		}()
		if _, err := to.WaitForNotification(b.Context()); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		if err := <-sent; err != nil {
			b.Fatal(err)
		}
	}
	return took
}

func report(b *testing.B, name string, took []time.Duration) {
	slices.Sort(took)
	for _, q := range []struct {
		name string
		at   int
	}{{"p50", len(took) / 2}, {"p99", len(took) * 99 / 100}, {"max", len(took) - 1}} {
		b.ReportMetric(float64(took[q.at].Nanoseconds())/1e6, name+"_"+q.name+"_ms")
	}
}

// BenchmarkMix is what a node of an application does: only reads, and nine reads
// of ten with touches, new sessions and logouts.
func BenchmarkMix(b *testing.B) {
	p := benchPlace(b, migrations.Settings{})
	s := leased(b, p)
	keys := fill(b, p, s, size(100_000))
	ctx := context.Background()
	get := func(key session.Key) error {
		_, err := s.Get(ctx, key)
		return err
	}
	for _, key := range keys {
		if err := get(key); err != nil {
			b.Fatal(err)
		}
	}
	// Drawn beforehand: to draw takes longer than to read.
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 1)), 1.1, 1, uint64(len(keys)-1))
	popular := make([]session.Key, size(1_000_000))
	for i := range popular {
		popular[i] = keys[zipf.Uint64()]
	}
	var mu sync.Mutex
	var born []session.Key // to be logged out again
	mixed := func(r *rand.Rand, key session.Key) error {
		switch dice := r.IntN(1000); {
		case dice < 900:
			return get(key)
		case dice < 980:
			_, err := s.TouchLater(ctx, key, s.Now().Add(time.Hour))
			return err
		case dice < 995:
			deadline := s.Now().Add(time.Hour)
			made := session.NewID(deadline).Key()
			_, err := s.Create(ctx, session.Record{Key: made, Deadline: deadline, Data: payload})
			mu.Lock()
			born = append(born, made)
			mu.Unlock()
			return err
		}
		mu.Lock()
		n := len(born)
		if n == 0 {
			mu.Unlock()
			return nil
		}
		key, born = born[n-1], born[:n-1]
		mu.Unlock()
		_, err := s.Destroy(ctx, key)
		return err
	}
	for _, goroutines := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			rounds, slice := 5, 500*time.Millisecond
			if hasty() {
				rounds, slice = 1, 10*time.Millisecond
			}
			b.ReportMetric(0, "ns/op")
			for _, v := range []struct {
				name string
				keys []session.Key
				do   func(*rand.Rand, session.Key) error
			}{
				{"w1_zipf", popular, func(_ *rand.Rand, key session.Key) error { return get(key) }},
				{"w1_uniform", keys, func(_ *rand.Rand, key session.Key) error { return get(key) }},
				{"w2_zipf", popular, mixed},
			} {
				var rates []float64
				for range rounds {
					rates = append(rates, pace(b, goroutines, slice, v.keys, v.do))
				}
				b.ReportMetric(median(rates), v.name+"/s")
			}
		})
	}
}

// pace is rate for operations that are so fast that the clock would count. Each
// goroutine goes through keys from a place of its own.
func pace(b *testing.B, goroutines int, slice time.Duration, keys []session.Key, do func(*rand.Rand, session.Key) error) float64 {
	var ops atomic.Int64
	var over atomic.Bool
	var wg sync.WaitGroup
	start := time.Now()
	for range goroutines {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 1))
			at, done := r.IntN(len(keys)), 0
			for !over.Load() {
				for range 10 {
					if at++; at == len(keys) {
						at = 0
					}
					if err := do(r, keys[at]); err != nil {
						b.Error(err)
						return
					}
					done++
				}
			}
			ops.Add(int64(done))
		})
	}
	timer := time.AfterFunc(slice, func() { over.Store(true) })
	defer timer.Stop()
	wg.Wait()
	return float64(ops.Load()) / time.Since(start).Seconds()
}
