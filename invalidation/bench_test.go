package invalidation

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

const benchSessions = 4096

// benchData has the size of a usual session.
func benchData() []byte { return make([]byte, 600) }

func benchRow(key session.Key, i int) Row {
	now := time.Now()
	return Row{Life: time.Hour, Record: session.Record{
		Key: key, Version: 1, User: fmt.Sprintf("user-%06d", i), Data: benchData(),
		Created: now, Expires: now.Add(time.Hour), Deadline: now.Add(12 * time.Hour),
	}}
}

// newBenchCache returns a cache that holds a lease for an hour.
func newBenchCache(b *testing.B, opts CacheOptions) *Cache {
	opts.MaxAge = 2 * time.Hour
	c, err := NewCache(opts)
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Listening(time.Now()); err != nil {
		b.Fatal(err)
	}
	c.Receive(c.Beat(time.Hour).Payload())
	return c
}

// yardstick is the least that could do: a map under a lock, and a look at the
// clock.
type yardstick struct {
	mu      sync.RWMutex
	entries map[token]*entry
}

func (y *yardstick) get(t token) *entry {
	y.mu.RLock()
	e := y.entries[t]
	y.mu.RUnlock()
	if e == nil || e.until.Wall < time.Duration(time.Now().UnixNano()) {
		return nil
	}
	return e
}

// BenchmarkCachedGet measures reads from the cache and, in turns with them,
// what they are compared with. It reports times in ns, allocations, and how
// many times as long as the comparison they take.
func BenchmarkCachedGet(b *testing.B) {
	c := newBenchCache(b, CacheOptions{})
	y := &yardstick{entries: map[token]*entry{}}
	deadline := time.Now().Add(12 * time.Hour)
	var texts [benchSessions]string
	var keys [benchSessions]session.Key
	for i := range keys {
		id := session.NewID(deadline)
		texts[i], keys[i] = id.Secret(), id.Key()
		row := benchRow(keys[i], i)
		c.Fill(c.Reserve(keys[i]), row)
		y.entries[keyToken(keys[i])], _ = c.find(keys[i])
	}
	variants := []struct {
		name string
		do   func(i int) bool
	}{
		{"map", func(i int) bool { return y.get(keyToken(keys[i])) != nil }},
		{"key", func(i int) bool { _, ok := c.Session(keys[i]); return ok }},
		{"get", func(i int) bool { _, ok := c.Get(keys[i]); return ok }},
		{"sum", func(i int) bool {
			var raw [36]byte
			if _, err := base64.RawURLEncoding.Decode(raw[:], []byte(texts[i])); err != nil {
				return false
			}
			hash := sha256.Sum256(raw[:])
			return y.get(token(hash[:16])) != nil
		}},
		{"text", func(i int) bool {
			key, err := session.ParseKey(texts[i])
			if err != nil {
				return false
			}
			_, ok := c.Session(key)
			return ok
		}},
		{"id", func(i int) bool {
			id, err := session.ParseID(texts[i])
			if err != nil {
				return false
			}
			_, ok := c.Session(id.Key())
			return ok
		}},
	}
	for _, goroutines := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			const turn = 20_000
			took := map[string][]time.Duration{} // each turn
			allocs := map[string]uint64{}
			ops := 0
			for ops < b.N {
				for _, v := range variants {
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					start := time.Now()
					var wg sync.WaitGroup
					for g := range goroutines {
						wg.Go(func() {
							for i := range turn {
								if !v.do((g*1031 + i*7 + ops) % benchSessions) {
									b.Errorf("%s: a session is not there", v.name)
									return
								}
							}
						})
					}
					wg.Wait()
					took[v.name] = append(took[v.name], time.Since(start))
					runtime.ReadMemStats(&after)
					allocs[v.name] += after.Mallocs - before.Mallocs
				}
				ops += turn * goroutines
			}
			// The median leaves out the turns in which others had the processors.
			ns := map[string]float64{}
			for _, v := range variants {
				slices.Sort(took[v.name])
				ns[v.name] = float64(took[v.name][len(took[v.name])/2]) / float64(turn*goroutines)
				b.ReportMetric(ns[v.name], v.name+"-ns")
			}
			for _, name := range []string{"key", "text", "id"} {
				// What starts the goroutines is not meant.
				b.ReportMetric(float64(allocs[name]*100/uint64(ops))/100, name+"-allocs")
			}
			b.ReportMetric(ns["key"]/ns["map"], "key/map")
			b.ReportMetric(ns["text"]/ns["sum"], "text/sum")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkHeapOfASession measures what a cached session of 600 bytes takes of
// the heap, by the 600 bytes.
func BenchmarkHeapOfASession(b *testing.B) {
	const n = 50_000
	var perSession float64
	for b.Loop() {
		c := newBenchCache(b, CacheOptions{MaxBytes: 1 << 30})
		before := heap()
		for i := range n {
			var key session.Key
			binary.BigEndian.PutUint64(key.Hash[:], uint64(i)*0x9e3779b97f4a7c15)
			c.Fill(c.Reserve(key), benchRow(key, i))
		}
		perSession = float64(heap()-before) / n
		if got := c.Stats().Entries; got != n {
			b.Fatalf("the cache holds %d of %d sessions", got, n)
		}
		estimate := float64(c.Stats().Bytes) / n
		b.ReportMetric(estimate/perSession, "estimate/bytes")
		runtime.KeepAlive(c)
	}
	b.ReportMetric(perSession, "bytes/session")
	b.ReportMetric(perSession/600, "bytes/600")
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
