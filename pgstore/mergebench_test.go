package pgstore

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// BenchmarkUpdates has 64 callers of a Manager each change a session again and
// again: one of their own, the same one, the same one on two nodes. How long a
// call lasts is told in flushes of its node that ended meanwhile.
func BenchmarkUpdates(b *testing.B) {
	p := leasing(b, lasting60)
	stores := []*Store{p.cached(b, Options{}), p.cached(b, Options{})}
	var managers []*session.Manager
	for _, s := range stores {
		m, err := session.NewManager(s, session.Options{})
		if err != nil {
			b.Fatal(err)
		}
		managers = append(managers, m)
	}
	serve := func(m *session.Manager, cookie string, do func(*session.Session) error) *http.Response {
		r := httptest.NewRequest(http.MethodPost, "https://localhost/", nil)
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s, err := m.Session(r.Context())
			if err == nil {
				err = do(s)
			}
			if err != nil {
				b.Error(err)
			}
		})).ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Errorf("the answer is %d", w.Code)
		}
		return w.Result()
	}
	begin := func() string {
		res := serve(managers[0], "", func(s *session.Session) error { return s.Login(context.Background(), "ada", session.Login{}) })
		c := res.Cookies()[0]
		return c.Name + "=" + c.Value
	}
	add := func(s *session.Session) error { return session.Update(s, "n", func(n int) int { return n + 1 }) }
	const callers = 64
	run := func(nodes int, cookies ...string) (rate float64, lasted []uint64) {
		const rounds = 100
		var mu sync.Mutex
		var wg sync.WaitGroup
		began := time.Now()
		for i := range callers {
			wg.Go(func() {
				var mine []uint64
				node := i % nodes
				for range rounds {
					before := stores[node].Stats().Flushes
					serve(managers[node], cookies[i%len(cookies)], add)
					mine = append(mine, stores[node].Stats().Flushes-before)
				}
				mu.Lock()
				defer mu.Unlock()
				lasted = append(lasted, mine...)
			})
		}
		wg.Wait()
		slices.Sort(lasted)
		return float64(len(lasted)) / time.Since(began).Seconds(), lasted
	}
	var own []string
	for range callers {
		own = append(own, begin())
	}
	for b.Loop() {
		each, apart := run(1, own...)
		same, one := run(1, begin())
		shared, two := run(2, begin())
		b.ReportMetric(each, "own/s")
		b.ReportMetric(same, "same/s")
		b.ReportMetric(same/each, "same/own")
		b.ReportMetric(shared/each, "two-nodes/own")
		b.ReportMetric(float64(apart[len(apart)*99/100]), "own-p99-flushes")
		b.ReportMetric(float64(one[len(one)*99/100]), "same-p99-flushes")
		b.ReportMetric(float64(two[len(two)-1]), "two-nodes-max-flushes")
	}
}
