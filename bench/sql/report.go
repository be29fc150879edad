package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/bench/internal/table"
)

// print writes a table in Markdown.
func (r *results) print(out io.Writer) error {
	_, err := fmt.Fprintf(out, "%s against %s: %d sessions of %d bytes; medians of %d rounds of %v.\n%s, %s/%s, %d CPUs; %s.\n\n%s",
		r.site.own.name, r.site.peer.name, r.sessions, dataSize, r.rounds, r.duration,
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), r.site.about, r.table())
	return err
}

func (r *results) table() string {
	own, peer := r.site.own.name, r.site.peer.name
	rows := [][]string{{
		"operation", "goroutines", own + "/s", peer + "/s", "times", "min to max",
		own + " p50 ms", peer + " p50 ms", own + " p99 ms", peer + " p99 ms",
	}}
	for o, op := range operations {
		for n, goroutines := range r.goroutines {
			rows = append(rows, append([]string{op.name, fmt.Sprint(goroutines)}, cells(r.samples[n][o])...))
		}
	}
	return table.Markdown(rows)
}

// cells are the numbers of a row.
func cells(samples [2][]sample) []string {
	var ratios []float64
	for round, s := range samples[0] {
		ratios = append(ratios, s.rate/samples[1][round].rate)
	}
	row := []string{
		fmt.Sprintf("%.0f", table.Median(samples[0], rate)),
		fmt.Sprintf("%.0f", table.Median(samples[1], rate)),
		fmt.Sprintf("%.2f", table.Median(ratios, func(f float64) float64 { return f })),
		fmt.Sprintf("%.2f to %.2f", slices.Min(ratios), slices.Max(ratios)),
	}
	for _, at := range []func(sample) time.Duration{
		func(s sample) time.Duration { return s.p50 },
		func(s sample) time.Duration { return s.p99 },
	} {
		for _, own := range samples {
			row = append(row, fmt.Sprintf("%.3f", table.Median(own, func(s sample) float64 {
				return float64(at(s)) / float64(time.Millisecond)
			})))
		}
	}
	return row
}

func rate(s sample) float64 { return s.rate }
