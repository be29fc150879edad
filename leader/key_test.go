package leader_test

import (
	"testing"

	"github.com/sojourn-go/sojourn/leader"
)

// Processes of different versions must agree on the key for ever. The numbers
// were computed with Python's hashlib, not from Key.
func TestKeysNeverChange(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		parts []string
		want  int64
	}{
		{nil, -2039914840885289964},
		{[]string{"sojourn", "public", "sessions", "maintenance"}, 6634052188934102779},
		{[]string{"a", "bc"}, 4589064456534337473},
		{[]string{"ab", "c"}, 6925784671553650220},
		{[]string{"schéma", ""}, -3771779250095315358},
	} {
		if got := leader.Key(tc.parts...); got != tc.want {
			t.Errorf("Key(%q) = %d, want %d", tc.parts, got, tc.want)
		}
	}
}
