package rounds_test

import (
	"flag"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
)

func TestShortRunsHaveAQuarterOfTheRounds(t *testing.T) {
	was := flag.Lookup("test.short").Value.String()
	t.Cleanup(func() { _ = flag.Set("test.short", was) })
	for _, c := range []struct{ n, short int }{{1, 1}, {4, 1}, {5, 2}, {100, 25}} {
		for short, want := range map[string]int{"true": c.short, "false": c.n} {
			if err := flag.Set("test.short", short); err != nil {
				t.Fatal(err)
			}
			if got := rounds.Of(c.n); got != want {
				t.Errorf("Of(%d) is %d with -short=%s, want %d", c.n, got, short, want)
			}
		}
	}
}
