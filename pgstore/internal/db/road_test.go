package db

import (
	"testing"
	"time"
)

// A caller with less time than the options give has time for another
// connection when the first one is silent.
func TestAnAttemptLeavesItsCallerTimeForAnother(t *testing.T) {
	t.Parallel()
	option := Road{limit: attemptLimit(10 * time.Second)}
	tests := []struct {
		name string
		road Road
		left time.Duration // 0: without an end; negative: it has passed
		want time.Duration
	}{
		{"as the options give", option, 10 * time.Second, 2500 * time.Millisecond},
		{"more", option, time.Hour, 2500 * time.Millisecond},
		{"a little less", option, 8 * time.Second, 2 * time.Second},
		{"much less", option, 3 * time.Second, time.Second},
		// One of a batch must not cut the attempt of all short: its own wait ends anyway.
		{"too little for two", option, 500 * time.Millisecond, time.Second},
		{"hardly any", option, time.Millisecond, time.Second},
		{"none", option, -time.Second, time.Second},
		{"no end", option, 0, 2500 * time.Millisecond},
		{"a fixed limit", Road{limit: time.Hour, fixed: true}, 3 * time.Second, time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var end time.Time
			if tt.left != 0 {
				end = time.Now().Add(tt.left)
			}
			got := tt.road.Until(end).limit
			if got > tt.want || tt.road.fixed && got != tt.want || got < tt.want-tt.want/2 {
				t.Errorf("an attempt may take %v, want %v", got, tt.want)
			}
		})
	}
}
