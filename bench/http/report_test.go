package main

import (
	"strings"
	"testing"
	"time"
)

func TestTableHasMediansAndRatiosWithinARound(t *testing.T) {
	t.Parallel()
	samples := make([][]sample, len(candidates))
	for i := range samples {
		for _, rate := range []float64{1000, 4000, 2000} { // a machine that changes its speed
			samples[i] = append(samples[i], sample{
				rate: rate / float64(i+1), p50: 1500 * time.Microsecond, p99: 20 * time.Millisecond,
				cpu: 12500 * time.Nanosecond, mallocs: rate / 100, bytes: 2.6, acquires: 0.25,
			})
		}
	}
	lines := strings.Split(tableOf(samples), "\n")
	if len(lines) != len(candidates)+3 || lines[len(lines)-1] != "" {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines[:len(lines)-1] {
		if len([]rune(line)) != len([]rune(lines[0])) {
			t.Errorf("not aligned: %s", line)
		}
	}
	var cells []string
	for cell := range strings.SplitSeq(strings.Trim(lines[3], "|"), "|") {
		cells = append(cells, strings.TrimSpace(cell))
	}
	want := []string{candidates[1].name, "1000", "500 to 2000", "0.50", "2.00", "1.50", "20.00", "12.5", "20.0", "3", "0.25"}
	if got := strings.Join(cells, "; "); got != strings.Join(want, "; ") {
		t.Errorf("got  %s\nwant %s", got, strings.Join(want, "; "))
	}
	samples[1][0].cpu, samples[1][1].cpu, samples[1][2].cpu = 0, 0, 0
	if got := tableOf(samples); !strings.Contains(got, "unknown") {
		t.Errorf("a CPU time that is not known is shown as one:\n%s", got)
	}
}
