package batch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestTurnsAreTakenInOrderAndForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		end, err := turns.take(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other, err := turns.take(t.Context(), "b") // waits for nobody
		if err != nil {
			t.Fatal(err)
		}
		other()
		var order []int
		for i := range 3 {
			go func() {
				end, err := turns.take(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, i)
				end()
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("the reason")
		cancel(reason)
		if _, err := turns.take(ctx, "a"); !errors.Is(err, reason) {
			t.Errorf("take with a context that has ended: %v", err)
		}
		if len(order) > 0 {
			t.Errorf("%v did not wait", order)
		}
		end()
		synctest.Wait()
		if len(order) != 3 || order[0] != 0 || order[1] != 1 || order[2] != 2 {
			t.Errorf("they came in the order %v", order)
		}
		if len(turns.taken) > 0 {
			t.Errorf("%d turns are remembered", len(turns.taken))
		}
	})
}
