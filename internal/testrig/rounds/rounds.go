// Package rounds says how often a test repeats what chance decides.
package rounds

import "testing"

// Of returns n or, with -short, a quarter of it, at least 1. So CI has a sample
// of what a run at night repeats in full.
func Of(n int) int {
	if testing.Short() {
		return (n + 3) / 4
	}
	return n
}
