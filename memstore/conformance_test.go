package memstore

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

func TestConformance(t *testing.T) { sessiontest.Run(t, harness(time.Now)) }

func TestHTTP(t *testing.T) { sessiontest.RunHTTP(t, harness(time.Now)) }

// The machine's clock may say what it likes: only the store's counts.
func TestConformanceWithAnotherClock(t *testing.T) {
	for name, skew := range map[string]time.Duration{"a year ahead": 365 * 24 * time.Hour, "a year behind": -365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			sessiontest.Run(t, harness(func() time.Time { return time.Now().Add(skew) }))
		})
	}
}

func BenchmarkStore(b *testing.B) {
	h := harness(time.Now)
	h.New = func(t testing.TB) session.Store {
		s, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	sessiontest.Benchmark(b, h)
}

func harness(now func() time.Time) sessiontest.Harness {
	return sessiontest.Harness{
		New: func(t testing.TB) session.Store {
			s, err := New(Options{Now: now, PruneInterval: 10 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Peer: func(_ testing.TB, s session.Store) session.Store {
			return newStore(s.(*Store).opts, s.(*Store).table)
		},
		Narrow: func(_ testing.TB, s session.Store) session.Store {
			opts := s.(*Store).opts
			opts.Longest, opts.MaxData, opts.MaxUser, opts.RetireGrace = time.Second, 10, 1, time.Nanosecond
			return newStore(opts, s.(*Store).table)
		},
		Expire: func(t testing.TB, s session.Store, key session.Key) {
			defer lock(s)()
			expire(t, s, key)
		},
		Vanish: func(_ testing.TB, s session.Store, key session.Key) {
			defer lock(s)()
			table := s.(*Store).table
			if r := table.find(key); r != nil {
				table.end(r)
				r.successor = nil
				delete(table.rows, key.Hash)
			}
		},
		Remains: func(_ testing.TB, s session.Store, key session.Key) bool {
			defer lock(s)()
			r := s.(*Store).table.find(key)
			return r != nil && (r.rec.User != "" || r.rec.Data != nil)
		},
		Age: func(t testing.TB, s session.Store, d time.Duration) {
			age(s, d)
			if _, err := s.(*Store).PruneNow(t.Context()); err != nil {
				t.Error(err)
			}
		},
		Hold: func(t testing.TB, s session.Store, key session.Key) func(bool) {
			unlock := lock(s)
			return func(expired bool) {
				defer unlock()
				if expired {
					expire(t, s, key)
				}
			}
		},
		Waiting: waiting,
		Require: []sessiontest.Ability{
			sessiontest.Clock, sessiontest.Putter, sessiontest.Lister, sessiontest.Clearer,
			sessiontest.UserIndex, sessiontest.Pruner, sessiontest.Explainer, sessiontest.Statser,
		},
	}
}

func lock(s session.Store) (unlock func()) {
	s.(*Store).table.lock <- struct{}{}
	return s.(*Store).table.release
}

func expire(t testing.TB, s session.Store, key session.Key) {
	store := s.(*Store)
	now := store.Now()
	r := store.table.find(key)
	if r == nil || !r.live(now) {
		t.Error("the session to expire is not live")
		return
	}
	r.rec.Expires = now
}

func age(s session.Store, d time.Duration) {
	defer lock(s)()
	hours := int32(d / time.Hour)
	for _, r := range s.(*Store).table.rows {
		if r.rec.Key.Bucket != 0 {
			r.rec.Key.Bucket -= hours
		}
		r.bucket -= hours
		for _, at := range []*time.Time{&r.rec.Created, &r.rec.Expires, &r.rec.Deadline, &r.graceUntil} {
			*at = at.Add(-d)
		}
	}
}

// waiting counts the goroutines that wait for the lock of a store, as the lock
// does not tell.
func waiting(_ testing.TB, _ session.Store) (n int) {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(stack, "[select") && strings.Contains(stack, "memstore.(*table).acquire") {
			n++
		}
	}
	return n
}
