package reqsession

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestTurnsAreTakenInOrderAndTellWhatWasWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var turns Turns[int]
		var order []int
		_, first, err := turns.Take(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			go func() {
				written, done, err := turns.Take(t.Context(), "a")
				if err != nil || written == nil || *written != i {
					t.Errorf("turn %d: %v after %v", i, err, written)
				}
				order = append(order, i)
				next := i + 1
				done(&next)
			}()
			synctest.Wait()
		}
		if len(order) > 0 {
			t.Errorf("%v went before the first had written", order)
		}
		written, done, err := turns.Take(t.Context(), "b")
		if written != nil || err != nil {
			t.Errorf("another session: %v, %v", written, err)
		}
		done(nil)
		zero := 0
		first(&zero)
		synctest.Wait()
		if len(order) != 5 || len(turns.of) > 0 {
			t.Errorf("turns were taken by %v, and %d sessions are kept", order, len(turns.of))
		}
	})
}

func TestWhoGivesUpATurnHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for round := range 100 {
		synctest.Test(t, func(t *testing.T) {
			var turns Turns[int]
			_, first, _ := turns.Take(t.Context(), "a")
			ctx, cancel := context.WithCancelCause(t.Context())
			gone := errors.New("gone")
			take := func(ctx context.Context, err *error) {
				written, done, failed := turns.Take(ctx, "a")
				if *err = failed; failed != nil {
					return
				}
				if written == nil || *written != 1 {
					t.Errorf("told %v", written)
				}
				done(written)
			}
			var given, got error
			go take(ctx, &given)
			synctest.Wait()
			go take(t.Context(), &got)
			synctest.Wait()
			cancel(gone)
			if early := round%2 == 0; early { // else it may get the turn as it gives up
				synctest.Wait()
				if given == nil {
					t.Error("it waits on")
				}
			}
			one := 1
			first(&one)
			synctest.Wait()
			if given != nil && !errors.Is(given, gone) || got != nil || len(turns.of) > 0 {
				t.Errorf("gave up with %v, the next got %v, and %d sessions are kept", given, got, len(turns.of))
			}
		})
	}
}
