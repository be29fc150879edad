package pgstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// BenchmarkPublish compares ways to tell listeners of a write, by the
// throughput of writers that wait until it is durable and published:
//
//	silent  nobody is told
//	inside  pg_notify in the writing transaction
//	after   a durable commit, then one transaction that notifies for all who wait
//	async   an asynchronous commit with pg_notify, then a flush, in one round trip
//
// It does so for single rows on connections of their own, for a lane that
// writes what has arrived as one batch, and for the lanes of four nodes. Last
// comes how long a transaction with nothing but a notification takes beside 32
// writers of rows.
func BenchmarkPublish(b *testing.B) {
	for _, level := range []string{"replica", "logical"} {
		srv := dbtest.Start(b, dbtest.Config{Durable: true, Settings: map[string]string{
			"wal_level": level, "shared_buffers": "512MB", "max_wal_size": "4GB", "jit": "off",
		}})
		p := publishPlace(b, srv.Database(b), size(20_000), 40)
		p.exec(b, `VACUUM ANALYZE public.written`)
		run := func(name string, listeners int, do func(*testing.B, *contest)) {
			b.Run(fmt.Sprintf("wal=%s/listeners=%d/%s", level, listeners, name), func(b *testing.B) {
				c := newContest(b, p, listeners)
				do(b, c)
				c.everybodyHeard()
			})
		}
		for _, listeners := range []int{1, 3} {
			for _, writers := range []int{1, 8, 32} {
				run(fmt.Sprintf("rows/writers=%d", writers), listeners, func(b *testing.B, c *contest) {
					compare(b, writers, c.singles()...)
				})
			}
			for _, at := range []struct{ lanes, writers int }{{1, 1}, {1, 8}, {1, 32}, {4, 32}} {
				run(fmt.Sprintf("lanes=%d/writers=%d", at.lanes, at.writers), listeners, func(b *testing.B, c *contest) {
					compare(b, at.writers, append(c.lanes(at.lanes), c.singles()[0])...)
				})
			}
		}
		run("beats", 1, func(b *testing.B, c *contest) { c.beats(32, c.singles()) })
	}
}

// contest is what the variants of one comparison share.
type contest struct {
	b         *testing.B
	p         place
	rows      int
	published atomic.Int64 // as the writers were told
	heard     []<-chan int64
	notifier  *gathered
}

func newContest(b *testing.B, p place, listeners int) *contest {
	c := &contest{b: b, p: p, rows: query[int](b, p, `SELECT count(*) FROM public.written`)}
	for range listeners {
		c.heard = append(c.heard, c.listen())
	}
	c.notifier = gather(b, func(keys [][]byte) error {
		_, err := p.pool.Exec(context.Background(), rawNotify, announce(keys))
		return err
	})
	return c
}

const announced = 22 // characters for a key

func announce(keys [][]byte) string {
	var text strings.Builder
	for _, k := range keys {
		text.WriteString(base64.RawURLEncoding.EncodeToString(k[:16]))
	}
	return text.String()
}

// listen counts the keys that a listener hears of until it hears the end.
func (c *contest) listen() <-chan int64 {
	ctx, cancel := context.WithCancel(context.Background())
	conn := dbtest.Conn(c.b, c.p.dsn)
	if _, err := conn.Exec(ctx, `LISTEN written`); err != nil {
		c.b.Fatal(err)
	}
	total := make(chan int64, 1)
	ended := make(chan struct{})
	c.b.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		for n := int64(0); ; {
			note, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			if note.Payload == "end" {
				total <- n
				return
			}
			n += int64(len(note.Payload) / announced)
		}
	}()
	return total
}

// everybodyHeard fails unless each listener heard of all that was published.
func (c *contest) everybodyHeard() {
	c.p.exec(c.b, rawNotify, "end")
	limit := time.After(30 * time.Second)
	for _, heard := range c.heard {
		select {
		case got := <-heard:
			if want := c.published.Load(); got != want || want == 0 {
				c.b.Errorf("a listener heard of %d writes, and %d were published", got, want)
			}
		case <-limit:
			c.b.Fatal("a listener did not hear the end")
		}
	}
}

// ways are the variants of a shape: write saves a key in one of these ways.
func (c *contest) ways(shape string, write func(way string) func(key []byte) error) []variant {
	variants := make([]variant, 0, 4)
	for _, way := range []string{"silent", "inside", "after", "async"} {
		save := write(way)
		variants = append(variants, variant{shape + "_" + way, func(r *rand.Rand) error {
			key := rawKey(r.IntN(c.rows))
			err := save(key)
			if err == nil && way == "after" {
				err = c.notifier.do(key)
			}
			if err == nil && way != "silent" {
				c.published.Add(1)
			}
			return err
		}})
	}
	return variants
}

// singles write a row each.
func (c *contest) singles() []variant {
	return c.ways("row", func(way string) func([]byte) error {
		return func(key []byte) error {
			b := &pgx.Batch{}
			switch way {
			case "inside":
				b.Queue(rawNotify, announce([][]byte{key}))
			case "async":
				b.Queue(rawAsyncNotify, announce([][]byte{key}))
			}
			b.Queue(rawSave, key, payload)
			if way == "async" {
				flushed(b)
			}
			return c.send(b)
		}
	})
}

// lanes write what came while a batch was under way as the next one.
func (c *contest) lanes(n int) []variant {
	return c.ways("lane", func(way string) func([]byte) error {
		all := make([]*gathered, n)
		for i := range all {
			all[i] = gather(c.b, func(keys [][]byte) error {
				slices.SortFunc(keys, bytes.Compare)
				b := &pgx.Batch{}
				switch way {
				case "inside":
					b.Queue(rawSettings+`, `+rawPayload, announce(keys))
				case "async":
					b.Queue(rawSettings+`, `+rawAsync+`, `+rawPayload, announce(keys))
				default:
					b.Queue(rawSettings)
				}
				b.Queue(rawSaveAll, keys, payload)
				if way == "async" {
					flushed(b)
				}
				return c.send(b)
			})
		}
		return func(key []byte) error { return all[int(key[0])%n].do(key) }
	})
}

func (c *contest) send(b *pgx.Batch) error {
	return c.p.pool.SendBatch(context.Background(), b).Close()
}

// beats reports how long a notification alone takes beside so many writers.
func (c *contest) beats(writers int, variants []variant) {
	rounds, slice := 15, 150*time.Millisecond
	if hasty() {
		rounds, slice = 1, 10*time.Millisecond
	}
	conn := dbtest.Conn(c.b, c.p.dsn)
	took := make([][]time.Duration, len(variants))
	for range rounds {
		for i, v := range variants {
			var busy sync.WaitGroup
			ended := make(chan struct{})
			busy.Go(func() {
				defer close(ended)
				rate(c.b, writers, slice, v.do)
			})
			tick := time.NewTicker(2 * time.Millisecond)
			for running := true; running; {
				start := time.Now()
				if _, err := conn.Exec(context.Background(), rawNotify, "beat"); err != nil {
					c.b.Error(err)
				}
				took[i] = append(took[i], time.Since(start))
				select {
				case <-ended:
					running = false
				case <-tick.C:
				}
			}
			tick.Stop()
			busy.Wait()
		}
	}
	c.b.ReportMetric(0, "ns/op")
	for i, v := range variants {
		slices.Sort(took[i])
		c.b.ReportMetric(float64(took[i][len(took[i])/2].Microseconds()), v.name+"_beat_p50_us")
		c.b.ReportMetric(float64(took[i][len(took[i])*99/100].Microseconds()), v.name+"_beat_p99_us")
	}
}

// gathered does what many callers want: what they ask for while it is busy is
// done together when it is free.
type gathered struct{ calls chan gatheredCall }

type gatheredCall struct {
	key  []byte
	done chan error
}

func gather(b *testing.B, do func(keys [][]byte) error) *gathered {
	g := &gathered{make(chan gatheredCall)}
	ended := make(chan struct{})
	go func() { defer close(ended); g.run(do) }()
	b.Cleanup(func() { close(g.calls); <-ended })
	return g
}

func (g *gathered) do(key []byte) error {
	call := gatheredCall{key, make(chan error, 1)}
	g.calls <- call
	return <-call.done
}

func (g *gathered) run(do func(keys [][]byte) error) {
	for first := range g.calls {
		calls := append([]gatheredCall{first}, g.waiting()...)
		keys := make([][]byte, len(calls))
		for i, call := range calls {
			keys[i] = call.key
		}
		err := do(keys)
		for _, call := range calls {
			call.done <- err
		}
		// Those who got their answer may have more to write: let them queue first.
		runtime.Gosched()
	}
}

func (g *gathered) waiting() (calls []gatheredCall) {
	for {
		select {
		case call, ok := <-g.calls:
			if !ok {
				return calls
			}
			calls = append(calls, call)
		default:
			return calls
		}
	}
}

// publishPlace is a table for raw statements, with so many rows, and a pool of
// so many connections.
func publishPlace(t testing.TB, dsn string, rows int, conns int32, mods ...func(*pgxpool.Config)) place {
	t.Helper()
	p := place{dsn: dsn, schema: "public", pool: dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
		c.MaxConns = conns
		for _, mod := range mods {
			mod(c)
		}
	})}
	p.exec(t, rawTable)
	p.exec(t, rawRows, rows, payload)
	return p
}
