package logging

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsSaidAgainAndAgainIsHeldBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d Damper
		var lines, counted int
		const beats = 12 * 60 * 60 / 2 // every two seconds, for twelve hours
		for range beats {
			if held, ok := d.Allow("lost"); ok {
				lines++
				counted += held
			}
			<-time.After(2 * time.Second)
		}
		if lines < 100 || lines > 150 {
			t.Errorf("%d lines in twelve hours, want three and then one every five minutes", lines)
		}
		if missing := beats - lines - counted; missing < 0 || missing > 150 {
			t.Errorf("%d of %d were neither written nor counted", missing, beats)
		}
		<-time.After(time.Hour)
		for i := range burst {
			if _, ok := d.Allow("lost"); !ok {
				t.Errorf("line %d after an hour of calm is held back", i+1)
			}
		}
	})
}

func TestAnotherReasonIsSaid(t *testing.T) {
	t.Parallel()
	var d Damper
	for range 10 {
		d.Allow("refused")
	}
	if _, ok := d.Allow("no such database"); !ok {
		t.Error("it is held back")
	}
	for i := range 10_000 {
		d.Allow(fmt.Sprint("made up ", i))
	}
	if n := len(d.kinds); n > maxKinds+1 {
		t.Errorf("%d kinds are kept, want at most %d", n, maxKinds+1)
	}
}
