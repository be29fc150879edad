package leader_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/sojourn/leader"
)

func TestAloneIsRunWithoutTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		alone := leader.Alone(newFakeServer(), leader.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var led [2]time.Time
		done := make(chan error, len(led))
		for i := range led {
			go func() {
				done <- alone(ctx, func(leading context.Context) error {
					led[i] = time.Now()
					<-leading.Done()
					return context.Cause(leading)
				})
			}()
		}
		advance(time.Hour)
		if led[0].IsZero() == led[1].IsZero() {
			t.Errorf("led since %v, want one of two", led)
		}
		cancel()
		for range led {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	if err := leader.Alone(newFakeServer(), leader.Options{Poll: -1})(t.Context(), func(context.Context) error { return errors.ErrUnsupported }); err == nil {
		t.Error("bad options are no error")
	}
}
