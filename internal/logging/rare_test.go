package logging

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTheFirstLineIsWrittenAndTheOthersAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r Rare
		if held, ok := r.Allow(); !ok || held != 0 {
			t.Errorf("the first: %d, %t", held, ok)
		}
		for range 1000 {
			if _, ok := r.Allow(); ok {
				t.Fatal("another one at once")
			}
		}
		<-time.After(interval)
		if held, ok := r.Allow(); !ok || held != 1000 {
			t.Errorf("after a while: %d, %t; want the 1000 counted", held, ok)
		}
	})
}
