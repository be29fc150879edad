package invalidation

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestWhatFailsAgainAndAgainIsSaidOnceAndCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		told := 0
		tr := newTrouble(ListenOptions{Logger: zap.New(core), OnError: func(error) { told++ }}, "it fails", "it works")
		reason, another := errors.New("the reason"), ErrNoEcho
		lines := func(when string, warnings, ends int) {
			t.Helper()
			if w, e := logs.FilterMessage("it fails").Len(), logs.FilterMessage("it works").Len(); w != warnings || e != ends || told != w {
				t.Errorf("%s: %d warnings, OnError told %d times, %d ends; want %d and %d", when, w, told, e, warnings, ends)
			}
		}
		flap := func(d time.Duration, err error) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Second) {
				tr.failed(err)
				time.Sleep(time.Second)
				tr.over()
			}
		}
		tr.over()
		lines("before anything fails", 0, 0)
		tr.failed(reason)
		tr.failed(reason)
		lines("an outage", 1, 0)
		tr.over()
		tr.over()
		lines("its end", 1, 1)
		flap(50*time.Minute, reason)
		lines("the same again and again", 1, 1)
		tr.failed(another)
		tr.over()
		lines("another reason", 2, 2)
		flap(65*time.Minute, reason)
		lines("after an hour", 3, 3)
		last := logs.FilterMessage("it fails").All()[2].ContextMap()["times before, not logged"]
		if n, ok := last.(int64); !ok || n < 1000 {
			t.Errorf("the reminder says that it happened %v times", last)
		}
		time.Sleep(quietTime)
		tr.failed(reason)
		lines("after a quiet time", 4, 3)
	})
}
