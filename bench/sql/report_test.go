package main

import (
	"strings"
	"testing"
	"time"
)

func TestRatiosAreThoseWithinARound(t *testing.T) {
	t.Parallel()
	var samples [2][]sample
	for _, rate := range []float64{1000, 4000, 2000} { // a machine that changes its speed
		samples[0] = append(samples[0], sample{rate, 1500 * time.Microsecond, 20 * time.Millisecond})
		samples[1] = append(samples[1], sample{rate / 2, 2 * time.Millisecond, 30 * time.Millisecond})
	}
	samples[1][0].rate *= 2
	const want = "2000; 1000; 2.00; 1.00 to 2.00; 1.500; 2.000; 20.000; 30.000"
	if got := strings.Join(cells(samples), "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
