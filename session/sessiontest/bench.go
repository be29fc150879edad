package sessiontest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Benchmark measures a store that h makes, with sessions of 600 bytes, by as
// many goroutines as the name of the benchmark says. It reports how many
// operations they did per second together. All use one store, so later ones
// find it fuller.
func Benchmark(b *testing.B, h Harness) {
	h = h.withDefaults()
	s := open(b, h)
	for _, bench := range []struct {
		name       string
		goroutines []int
		run        func(b *bench)
	}{
		{"Get", []int{1, 16, 64}, benchGet},
		{"Create", []int{1, 16, 64, 256}, benchCreate},
		{"Save", []int{1, 16, 64, 256}, benchSave},
		{"Touch", []int{1, 16, 64}, benchTouch},
		{"Destroy", []int{1, 16, 64}, benchDestroy},
	} {
		for _, n := range bench.goroutines {
			b.Run(fmt.Sprintf("%s/goroutines=%d", bench.name, n), func(b *testing.B) {
				bench.run(newBench(b, s, n))
			})
		}
	}
}

type bench struct {
	*testing.B
	s          session.Store
	goroutines int
	ctx        context.Context
	data       []byte
	deadline   time.Time
}

func newBench(b *testing.B, s session.Store, goroutines int) *bench {
	now := time.Now()
	if c, ok := s.(session.Clock); ok {
		now = c.Now()
	}
	return &bench{
		B: b, s: s, goroutines: goroutines, ctx: b.Context(),
		data: bytes.Repeat([]byte("sojourn "), 75), deadline: now.Add(12 * time.Hour),
	}
}

// each runs do for 0 to n-1, spread over b's goroutines; g is which of them.
func (b *bench) each(n int, do func(g, i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for g := range b.goroutines {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < n; i = int(next.Add(1) - 1) {
				if err := do(g, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// measure is each for b.N, on the clock.
func (b *bench) measure(do func(g, i int) error) {
	b.ReportAllocs()
	b.ResetTimer()
	b.each(b.N, do)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func (b *bench) create() (session.Record, error) {
	return b.s.Create(b.ctx, session.Record{
		Key: session.NewID(b.deadline).Key(), Deadline: b.deadline, Expires: b.deadline.Add(-6 * time.Hour), Data: b.data,
	})
}

func (b *bench) prepare(n int) []session.Record {
	recs := make([]session.Record, n)
	b.each(n, func(_, i int) (err error) {
		recs[i], err = b.create()
		return err
	})
	if b.Failed() {
		b.FailNow()
	}
	return recs
}

func benchGet(b *bench) {
	recs := b.prepare(1000)
	b.measure(func(_, i int) error {
		_, err := b.s.Get(b.ctx, recs[i*7919%len(recs)].Key)
		return err
	})
}

func benchCreate(b *bench) {
	b.measure(func(_, _ int) error {
		_, err := b.create()
		return err
	})
}

// Each goroutine saves a session of its own, so that no version conflicts.
func benchSave(b *bench) {
	recs := b.prepare(b.goroutines)
	b.measure(func(g, _ int) (err error) {
		recs[g].Expires = time.Time{}
		recs[g], err = b.s.Save(b.ctx, recs[g])
		return err
	})
}

// Each touch moves an expiry.
func benchTouch(b *bench) {
	recs := b.prepare(1000)
	b.measure(func(_, i int) error {
		rec := &recs[i%len(recs)]
		_, err := b.s.Touch(b.ctx, rec.Key, rec.Expires.Add(time.Duration(1+i/len(recs))*time.Millisecond))
		return err
	})
}

func benchDestroy(b *bench) {
	recs := b.prepare(b.N)
	b.measure(func(_, i int) error {
		n, err := b.s.Destroy(b.ctx, recs[i].Key)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d sessions were destroyed; want 1", n)
		}
		return err
	})
}
