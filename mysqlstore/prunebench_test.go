package mysqlstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// BenchmarkPruning deletes a million dead rows beside live traffic, on a server
// that flushes each commit, and compares the traffic's latencies with those
// before.
func BenchmarkPruning(b *testing.B) {
	dead, quietTime := 1_000_000, 15*time.Second
	if hasty() {
		dead, quietTime = 2000, 100*time.Millisecond
	}
	p := durable(b)
	s := openStore(b, p, quiet)
	recs := make([]session.Record, 2000)
	for i := range recs {
		recs[i] = create(b, s, newSessionOf(s, fmt.Sprint("user ", i)))
	}
	for left := dead; left > 0; left -= 100_000 {
		p.fillDead(b, min(left, 100_000))
	}
	p50, p99, n := traffic(b, s, recs, func() { wait.Sleep(b.Context(), quietTime) })
	var rows int64
	var wall time.Duration
	p50During, p99During, nDuring := traffic(b, s, recs, func() {
		began := time.Now()
		done, err := s.PruneNow(b.Context())
		if err != nil {
			b.Error(err)
		}
		rows, wall = done.Rows, time.Since(began)
	})
	if rows != int64(dead) {
		b.Errorf("%d rows were deleted", rows)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(wall.Seconds(), "wall_s")
	b.ReportMetric(float64(n)/quietTime.Seconds(), "quiet_ops/s")
	b.ReportMetric(float64(nDuring)/wall.Seconds(), "pruning_ops/s")
	b.ReportMetric(float64(p50.Microseconds()), "quiet_p50_us")
	b.ReportMetric(float64(p50During.Microseconds()), "pruning_p50_us")
	b.ReportMetric(float64(p99.Microseconds()), "quiet_p99_us")
	b.ReportMetric(float64(p99During.Microseconds()), "pruning_p99_us")
	b.ReportMetric(float64(p99During)/float64(p99), "p99_ratio")
}

// traffic is 8 clients that read, save and touch, each some 60 times a second,
// until during has returned.
func traffic(b *testing.B, s *Store, recs []session.Record, during func()) (p50, p99 time.Duration, n int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var took []time.Duration
	var over atomic.Bool
	for g := range 8 {
		wg.Go(func() {
			var mine []time.Duration
			for i := g; !over.Load(); i += 8 {
				at := &recs[i%len(recs)]
				began := time.Now()
				var err error
				switch rand.IntN(4) {
				case 0:
					at.Data = []byte(unique("data"))
					*at, err = s.Save(b.Context(), *at)
				case 1:
					at.Expires, err = s.Touch(b.Context(), at.Key, at.Expires.Add(time.Millisecond))
				default:
					_, err = s.Get(b.Context(), at.Key)
				}
				mine = append(mine, time.Since(began))
				if err != nil {
					b.Error(err)
					return
				}
				wait.Sleep(b.Context(), 10*time.Millisecond+rand.N(10*time.Millisecond))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	during()
	over.Store(true)
	wg.Wait()
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100], len(took)
}
