package storekit_test

import (
	"testing"

	"github.com/sojourn-go/sojourn/internal/storekit"
)

func TestVersionsGrowByStepsThatNobodyForesees(t *testing.T) {
	const versions = 1000
	seen := map[int64]bool{}
	for range versions {
		step := storekit.Version(1<<40) - 1<<40
		if step < 1 || step > 1<<31 {
			t.Fatalf("a step is %d", step)
		}
		seen[step] = true
	}
	if len(seen) < versions-2 {
		t.Errorf("%d of %d steps are different", len(seen), versions)
	}
}
