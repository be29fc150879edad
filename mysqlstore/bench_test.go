package mysqlstore

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

func BenchmarkStore(b *testing.B) {
	sessiontest.Benchmark(b, sessiontest.Harness{New: func(t testing.TB) session.Store {
		return openStore(t, durable(t.(*testing.B)), quiet)
	}})
}

func durable(b *testing.B) place {
	srv := dbtest.StartMariaDB(b, dbtest.MySQLConfig{Durable: true, Settings: map[string]string{
		"innodb_buffer_pool_size": "512M", "innodb_log_file_size": "512M",
	}})
	return migratedAt(b, srv.Database(b), nil)
}

// The comparisons run the variants in turn, in short slices, on one server that
// flushes each commit, and report the ratio to the first: the machine's mood then
// counts for all alike. The first is what a store does that writes each session
// by itself: one statement through database/sql, prepared for each call.
// With -benchtime 1x they only show that they run.

func hasty() bool { return flag.Lookup("test.benchtime").Value.String() == "1x" }

type variant struct {
	name string
	do   func(g int, r *rand.Rand) error
}

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
		b.ReportMetric(median(rates[i]), v.name+"/s")
		if i > 0 {
			ratios := make([]float64, rounds)
			for round := range rounds {
				ratios[round] = rates[i][round] / rates[0][round]
			}
			b.ReportMetric(median(ratios), v.name+"/"+variants[0].name)
		}
	}
}

func rate(b *testing.B, goroutines int, slice time.Duration, do func(int, *rand.Rand) error) float64 {
	var ops atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for g := range goroutines {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for time.Since(start) < slice {
				if err := do(g, r); err != nil {
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

// side is what both variants work on.
type side struct {
	*testing.B
	s       *Store
	flat    *sql.DB // a table of token, data and expiry, on as many connections as are asked for
	later   time.Time
	payload []byte

	recs   []session.Record
	tokens []string
	used   atomic.Int64
}

// As many as a comparison of destroys needs, and as the others do.
const manyRows, fewRows = 120_000, 20_000

func newSide(b *testing.B) *side {
	p := durable(b)
	sqlExec(b, p.db, `CREATE TABLE flat (token char(43) PRIMARY KEY, data blob NOT NULL, expiry timestamp(6) NOT NULL, KEY (expiry))`)
	flat := pool40(b, p.dsn, nil)
	flat.SetMaxIdleConns(64)
	flat.SetMaxOpenConns(64)
	s := openStore(b, p, quiet)
	return &side{B: b, s: s, flat: flat, later: s.Now().Add(12 * time.Hour).Truncate(time.Microsecond), payload: make([]byte, 600)}
}

// fill replaces all rows by so many new ones.
func (b *side) fill(rows int) {
	if hasty() {
		rows = 2000
	}
	b.recs, b.tokens = make([]session.Record, rows), make([]string, rows)
	b.used.Store(0)
	sqlExec(b, b.flat, `TRUNCATE flat`)
	sqlExec(b, b.flat, `TRUNCATE sojourn_sessions`)
	now := b.s.Now().Truncate(time.Microsecond)
	for from := 0; from < rows; from += 500 {
		var flat, ours []any
		for i := from; i < from+500; i++ {
			rec := session.Record{
				Key: session.NewID(b.later).Key(), Version: 1, Created: now,
				Deadline: b.later, Expires: b.later.Add(-6 * time.Hour), Data: b.payload,
			}
			b.recs[i], b.tokens[i] = rec, fmt.Sprintf("%043d", rand.Uint64())
			flat = append(flat, b.tokens[i], b.payload, b.later)
			ours = insertArgs(ours, rec, 0)
		}
		sqlExec(b, b.flat, `INSERT INTO flat VALUES `+repeat(`(?, ?, ?)`, 500), flat...)
		sqlExec(b, b.flat, `
INSERT INTO sojourn_sessions (hash, bucket, kept_to, version, expires_at, deadline, created_at, user_id, data)
VALUES `+repeat(`(?, ?, ?, ?, ?, ?, ?, ?, ?)`, 500), ours...)
	}
}

// changed is other data each time: a server does nothing for the same.
func (b *side) changed(r *rand.Rand) []byte {
	data := slices.Clone(b.payload)
	for i := range 8 {
		data[i] = byte(r.Uint32())
	}
	return data
}

func (b *side) upsert(token string, data []byte) error {
	_, err := b.flat.ExecContext(context.Background(),
		`INSERT INTO flat (token, data, expiry) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE data = ?, expiry = ?`,
		token, data, b.later, data, b.later)
	return err
}

func (b *side) create(user string) error {
	_, err := b.s.Create(context.Background(), session.Record{Key: session.NewID(b.later).Key(), Deadline: b.later, Data: b.payload, User: user})
	return err
}

// BenchmarkAgainstUpsert compares with one upsert for each write.
func BenchmarkAgainstUpsert(b *testing.B) {
	at := newSide(b)
	ctx := context.Background()
	insert := func(_ int, r *rand.Rand) error { return at.upsert(fmt.Sprintf("%043d", r.Uint64()), at.payload) }
	for _, kind := range []struct {
		name       string
		flat, ours func(g int, r *rand.Rand) error
	}{
		{"Get", func(_ int, r *rand.Rand) error {
			var data []byte
			return at.flat.QueryRowContext(ctx, `SELECT data FROM flat WHERE token = ? AND UTC_TIMESTAMP(6) < expiry`,
				at.tokens[r.IntN(len(at.tokens))]).Scan(&data)
		}, func(_ int, r *rand.Rand) error {
			_, err := at.s.Get(ctx, at.recs[r.IntN(len(at.recs))].Key)
			return err
		}},
		{"Create", insert, func(int, *rand.Rand) error { return at.create("") }},
		{"CreateOfUser", insert, func(_ int, r *rand.Rand) error { return at.create(fmt.Sprint("user ", r.IntN(5000))) }},
		{"Save", func(g int, r *rand.Rand) error { return at.upsert(at.tokens[g], at.changed(r)) }, func(g int, r *rand.Rand) error {
			rec := at.recs[g]
			rec.Data, rec.Expires = at.changed(r), time.Time{}
			rec, err := at.s.Save(ctx, rec)
			at.recs[g] = rec
			return err
		}},
		{"Touch", func(_ int, r *rand.Rand) error {
			return at.upsert(at.tokens[r.IntN(len(at.tokens))], at.changed(r))
		}, func(_ int, r *rand.Rand) error {
			rec := at.recs[r.IntN(len(at.recs))]
			_, err := at.s.Touch(ctx, rec.Key, rec.Expires.Add(time.Duration(at.used.Add(1))*time.Millisecond))
			return err
		}},
		{"Destroy", func(_ int, r *rand.Rand) error {
			_, err := at.flat.ExecContext(ctx, `DELETE FROM flat WHERE token = ?`, at.tokens[int(at.used.Add(1))%len(at.tokens)])
			return err
		}, func(_ int, r *rand.Rand) error {
			_, err := at.s.Destroy(ctx, at.recs[int(at.used.Add(1))%len(at.recs)].Key)
			return err
		}},
	} {
		for _, goroutines := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/goroutines=%d", kind.name, goroutines), func(b *testing.B) {
				if kind.name == "Destroy" {
					at.fill(manyRows)
				} else if goroutines == 1 {
					at.fill(fewRows)
				}
				compare(b, goroutines, variant{"upsert", kind.flat}, variant{"store", kind.ours})
			})
		}
	}
}
