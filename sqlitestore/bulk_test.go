package sqlitestore

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// fillLive adds live sessions, of user if it is not empty.
func fillLive(t testing.TB, s *Store, path, user string, n int) {
	t.Helper()
	bucket := session.BucketOf(s.Now().Add(24 * time.Hour))
	sqlExec(t, openDB(t, DSN(path)), `
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
INSERT INTO sojourn_sessions (key, bucket, kept_to, version, expires_at, deadline, created_at, user_id, data)
SELECT randomblob(32), ?2, ?2, 1, ?2 * 3600000000, ?2 * 3600000000, 0, ?3, randomblob(200) FROM n`, n, bucket, nullText(user))
}

// Many sessions are ended in transactions of a bounded number, between which
// others can write: dead ones on the way count.
func TestEndingManyIsDoneInSteps(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	fillLive(t, s, path, "ada", 3*sqlstore.StepRows)
	fillLive(t, s, path, "", 2*sqlstore.StepRows)
	for _, c := range []struct {
		what  string
		end   func() (int64, error)
		want  int64
		steps uint64
	}{
		{"DestroyUser", func() (int64, error) { return s.DestroyUser(t.Context(), "ada") }, 3 * sqlstore.StepRows, 4},
		{"Clear", func() (int64, error) { return s.Clear(t.Context()) }, 2 * sqlstore.StepRows, 6},
		{"Clear", func() (int64, error) { return s.Clear(t.Context()) }, 0, 6},
	} {
		before := s.Stats().Flushes
		if n, err := c.end(); n != c.want || err != nil {
			t.Errorf("%s = %d, %v; want %d", c.what, n, err, c.want)
		}
		if n := s.Stats().Flushes - before; n < c.steps {
			t.Errorf("%s took %d transactions; want %d at least", c.what, n, c.steps)
		}
	}
}

func hasty() bool { return flag.Lookup("test.benchtime").Value.String() == "1x" }

// BenchmarkEnding ends many sessions beside logins of another process, and tells
// how long the slowest of these took: a million by Clear, and a hundred thousand
// of one user by DestroyUser, where the logins are those of other users.
func BenchmarkEnding(b *testing.B) {
	for _, c := range []struct {
		name string
		user string
		rows int
		end  func(*Store) (int64, error)
	}{
		{"Clear", "", 1_000_000, func(s *Store) (int64, error) { return s.Clear(b.Context()) }},
		{"DestroyUser", "ada", 100_000, func(s *Store) (int64, error) { return s.DestroyUser(b.Context(), "ada") }},
	} {
		b.Run(c.name, func(b *testing.B) {
			if hasty() {
				c.rows = 2000
			}
			path := newPath(b)
			s, other := openStore(b, path, quiet), openStore(b, path, quiet)
			fillLive(b, s, path, c.user, c.rows)
			beside := logins(b, other, func() { time.Sleep(time.Second) })
			var n int64
			began := time.Now()
			during := logins(b, other, func() {
				var err error
				if n, err = c.end(s); err != nil {
					b.Error(err)
				}
			})
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(time.Since(began).Seconds(), "wall_s")
			if n < int64(c.rows) {
				b.Errorf("%d sessions were ended", n)
			}
			for name, took := range map[string][]time.Duration{"quiet": beside, "ending": during} {
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, name+"_p99_ms")
				b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, name+"_max_ms")
			}
		})
	}
}

// logins is 8 users who log in until during has returned, and how long that took,
// sorted.
func logins(b *testing.B, s *Store, during func()) (took []time.Duration) {
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 8 {
		wg.Go(func() {
			for {
				rec := newSession(s, "data")
				rec.User = fmt.Sprint("user ", rand.IntN(5000))
				began := time.Now()
				_, err := s.Create(b.Context(), rec)
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
				if err != nil {
					b.Error(err)
				}
				if ctx.Err() != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	during()
	stop()
	wg.Wait()
	slices.Sort(took)
	return took
}

// BenchmarkPruning deletes 150,000 dead rows beside live writes, and compares how
// long these took with those before.
func BenchmarkPruning(b *testing.B) {
	dead, quietTime := 150_000, 5*time.Second
	if hasty() {
		dead, quietTime = 2000, 100*time.Millisecond
	}
	path := newPath(b)
	s := openStore(b, path, quiet)
	fillLive(b, s, path, "", 10_000)
	db := openDB(b, DSN(path))
	sqlExec(b, db, `
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
INSERT INTO sojourn_sessions (key, bucket, kept_to, version, expires_at, deadline, created_at, data)
SELECT randomblob(32), 1, 1, 1, 1, 1000000, 0, randomblob(600) FROM n`, dead)
	before := saves(b, s, func() { time.Sleep(quietTime) })
	began := time.Now()
	during := saves(b, s, func() {
		if done, err := s.PruneNow(b.Context()); err != nil || done.Rows != int64(dead) {
			b.Errorf("Pruned %+v, %v", done, err)
		}
	})
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(time.Since(began).Seconds(), "wall_s")
	p99 := func(took []time.Duration) float64 { return float64(took[len(took)*99/100].Microseconds()) }
	b.ReportMetric(float64(before[len(before)/2].Microseconds()), "quiet_p50_us")
	b.ReportMetric(float64(during[len(during)/2].Microseconds()), "pruning_p50_us")
	b.ReportMetric(p99(before), "quiet_p99_us")
	b.ReportMetric(p99(during), "pruning_p99_us")
	b.ReportMetric(p99(during)/p99(before), "p99_ratio")
}

// saves is 8 clients that each save some 60 times a second until during has
// returned, and how long that took, sorted.
func saves(b *testing.B, s *Store, during func()) (took []time.Duration) {
	ctx, stop := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 8 {
		rec := create(b, s, newSession(s, "data"))
		wg.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				saved, err := s.Save(b.Context(), rec)
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
				if err != nil {
					b.Error(err)
					return
				}
				rec.Version = saved.Version
				wait.Sleep(ctx, 10*time.Millisecond+rand.N(10*time.Millisecond))
			}
		})
	}
	during()
	stop()
	wg.Wait()
	slices.Sort(took)
	return took
}
