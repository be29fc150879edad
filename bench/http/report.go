package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/bench/internal/table"
)

// print writes one table in Markdown for each workload.
func (r *results) print(out io.Writer) error {
	flushed := "commits flushed to disk"
	if !r.durable {
		flushed = "commits not flushed to disk"
	}
	_, err := fmt.Fprintf(out, "%d connections, %d sessions of about 600 bytes, %d pool connections per server; medians of %d rounds of %v.\n%s, %s/%s, %d CPUs; %s, %s.\n",
		r.clients, r.sessions, poolSize, r.rounds, r.duration,
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), r.postgres, flushed)
	for i, w := range workloads {
		if err == nil {
			_, err = fmt.Fprintf(out, "\n**%s**\n\n%s", strings.ToUpper(w.name[:1])+w.name[1:], tableOf(r.samples[i]))
		}
	}
	return err
}

var columns = []string{
	"server", "requests/s", "min to max", "times " + candidates[withoutSessions].name, "times " + candidates[peer].name,
	"p50 ms", "p99 ms", "CPU µs", "allocations", "bytes", "pool uses",
}

// tableOf has a row per candidate. From CPU on it is per request, of the server's
// process alone.
func tableOf(samples [][]sample) string {
	rows := [][]string{columns}
	for i, own := range samples {
		of := func(value func(sample) float64) float64 { return table.Median(own, value) }
		rate := func(s sample) float64 { return s.rate }
		ratio := func(base int) string {
			ratios := make([]float64, len(own))
			for round, s := range own {
				ratios[round] = s.rate / samples[base][round].rate
			}
			return fmt.Sprintf("%.2f", table.Median(ratios, func(f float64) float64 { return f }))
		}
		byRate := func(a, b sample) int { return cmp.Compare(a.rate, b.rate) }
		millis := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
		cpu := "unknown"
		if micros := of(func(s sample) float64 { return float64(s.cpu) / float64(time.Microsecond) }); micros > 0 {
			cpu = fmt.Sprintf("%.1f", micros)
		}
		rows = append(rows, []string{
			candidates[i].name,
			fmt.Sprintf("%.0f", of(rate)),
			fmt.Sprintf("%.0f to %.0f", slices.MinFunc(own, byRate).rate, slices.MaxFunc(own, byRate).rate),
			ratio(withoutSessions),
			ratio(peer),
			fmt.Sprintf("%.2f", of(func(s sample) float64 { return millis(s.p50) })),
			fmt.Sprintf("%.2f", of(func(s sample) float64 { return millis(s.p99) })),
			cpu,
			fmt.Sprintf("%.1f", of(func(s sample) float64 { return s.mallocs })),
			fmt.Sprintf("%.0f", of(func(s sample) float64 { return s.bytes })),
			fmt.Sprintf("%.2f", of(func(s sample) float64 { return s.acquires })),
		})
	}
	return table.Markdown(rows)
}
