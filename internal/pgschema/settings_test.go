package pgschema

import (
	"testing"
	"time"
)

func TestDefaultSettingsGiveNinePartitions(t *testing.T) {
	t.Parallel()
	for hours, width := range map[int]int{720: 83, 1: 3, 24: 6, 100: 14, 87600: 9736} {
		got := Settings{LongestLifetime: time.Duration(hours) * time.Hour}.WithDefaults()
		if got.PartitionWidth != time.Duration(width)*time.Hour {
			t.Errorf("longest %d h: width is %s, want %d h", hours, got.PartitionWidth, width)
		}
	}
	got := Settings{}.WithDefaults()
	if want := (Settings{LongestLifetime: time.Duration(720) * time.Hour, PartitionWidth: time.Duration(83) * time.Hour, Lease: 2e9}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
