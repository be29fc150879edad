package storekit_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sojourn-go/sojourn/internal/storekit"
)

func TestBetweenNamesTheFieldAndItsLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{storekit.Between("Readers", 1, 1, 9), ""},
		{storekit.Between("Readers", 9, 1, 9), ""},
		{storekit.Between("Readers", 0, 1, 9), "Options.Readers is 0; it must be from 1 to 9"},
		{storekit.Between("Readers", 10, 1, 9), "Options.Readers is 10; it must be from 1 to 9"},
		{storekit.Between("Lease", time.Second, time.Minute, time.Hour), "Options.Lease is 1s; it must be from 1m0s to 1h0m0s"},
		{storekit.BetweenIfSet("Lease", 0, time.Minute, time.Hour), ""},
		{storekit.BetweenIfSet("Lease", -1, time.Minute, time.Hour), "Options.Lease is -1ns; it must be from 1m0s to 1h0m0s"},
	} {
		if got := strings.TrimPrefix(fmt.Sprint(tt.err), "<nil>"); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestANodeIsNamedByItsHostAndProcess(t *testing.T) {
	t.Parallel()
	name := storekit.NodeName()
	if !strings.HasSuffix(name, fmt.Sprint(":", os.Getpid())) || !utf8.ValidString(name) || len(name) > storekit.MaxNodeName {
		t.Errorf("%q", name)
	}
}

func TestPassesAreSpreadAboutTheirInterval(t *testing.T) {
	t.Parallel()
	if got := storekit.PruneInterval(-1); got != time.Minute {
		t.Errorf("without passes in the background: %v", got)
	}
	if got := storekit.PruneInterval(time.Hour); got != time.Hour {
		t.Errorf("got %v, want the option", got)
	}
	seen := map[time.Duration]bool{}
	for range 1000 {
		next := storekit.NextPrune(nil, time.Hour)
		if next < 45*time.Minute || next > 75*time.Minute {
			t.Fatalf("the next pass begins in %v", next)
		}
		seen[next] = true
	}
	if len(seen) < 2 {
		t.Error("all nodes begin at once")
	}
	for given, want := range map[time.Duration]time.Duration{-time.Second: time.Millisecond, 0: time.Millisecond, time.Minute: time.Minute} {
		if got := storekit.NextPrune(func() time.Duration { return given }, time.Hour); got != want {
			t.Errorf("asked for %v: %v, want %v", given, got, want)
		}
	}
}
