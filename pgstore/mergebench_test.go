package pgstore

import (
	"context"
	"math/rand/v2"
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
// call lasts is told in flushes of its node that ended meanwhile. Then 16 callers
// change one of 1,000 sessions: any, and mostly a few (Zipf's law, s = 1.1).
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
	const callers, rounds = 64, 100
	// pick says which session a caller changes in a round.
	run := func(callers, nodes int, cookies []string, pick func(caller int) func() int) (rate float64, lasted []uint64) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		began := time.Now()
		for i := range callers {
			wg.Go(func() {
				var mine []uint64
				node, which := i%nodes, pick(i)
				for range rounds {
					before := stores[node].Stats().Flushes
					serve(managers[node], cookies[which()], add)
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
	own := make([]string, 1000)
	var making sync.WaitGroup
	for i := range own {
		making.Go(func() { own[i] = begin() })
	}
	making.Wait()
	mine := func(caller int) func() int { return func() int { return caller } }
	first := func(int) func() int { return func() int { return 0 } }
	anyOne := func(int) func() int { return func() int { return rand.IntN(len(own)) } }
	few := func(caller int) func() int {
		z := rand.NewZipf(rand.New(rand.NewPCG(1, uint64(caller))), 1.1, 1, uint64(len(own)-1))
		return func() int { return int(z.Uint64()) }
	}
	for b.Loop() {
		each, apart := run(callers, 1, own, mine)
		same, one := run(callers, 1, own, first)
		shared, two := run(callers, 2, own, first)
		uniform, _ := run(callers/4, 1, own, anyOne)
		zipf, _ := run(callers/4, 1, own, few)
		b.ReportMetric(zipf/uniform, "zipf/uniform")
		b.ReportMetric(each, "own/s")
		b.ReportMetric(same, "same/s")
		b.ReportMetric(same/each, "same/own")
		b.ReportMetric(shared/each, "two-nodes/own")
		b.ReportMetric(float64(apart[len(apart)*99/100]), "own-p99-flushes")
		b.ReportMetric(float64(one[len(one)*99/100]), "same-p99-flushes")
		b.ReportMetric(float64(two[len(two)-1]), "two-nodes-max-flushes")
	}
}
