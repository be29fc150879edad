package reqsession

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func hashOf(n int) (hash [32]byte) {
	binary.BigEndian.PutUint64(hash[:], uint64(n)+1)
	binary.BigEndian.PutUint64(hash[8:], uint64(n)*0x9e3779b97f4a7c15)
	return hash
}

func lookUp(t *testing.T, s *Strangers, n int, outcome LookedUp) {
	t.Helper()
	asked := 0
	if err := s.LookUp(t.Context(), hashOf(n), func() LookedUp { asked++; return outcome }); err != nil || asked != 1 {
		t.Errorf("%d: asked %d times, %v", n, asked, err)
	}
}

func TestIDsOfNobodyAreLookedUpSoOftenASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s Strangers
		began := time.Now()
		for n := range strangersAtOnce {
			lookUp(t, &s, n, Stranger)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the first %d took %v", strangersAtOnce, took)
		}
		const many, seconds = 64, 8
		var wg sync.WaitGroup
		for g := range many {
			wg.Go(func() {
				for n := range strangersPerSecond * seconds / many {
					lookUp(t, &s, 1_000_000*(g+1)+n, Stranger)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took < (seconds-1)*time.Second || took > 4*seconds*time.Second {
			t.Errorf("%d look-ups took %v; want about %ds", strangersPerSecond*seconds, took, seconds)
		}
	})
}

func TestASessionIsFoundAmongIDsOfNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s Strangers
		const known = -1
		lookUp(t, &s, known, Met)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for g := range 500 {
			wg.Go(func() {
				for n := 0; s.LookUp(ctx, hashOf(1_000*(g+1)+n), func() LookedUp { return Stranger }) == nil; n++ {
				}
			})
		}
		time.Sleep(10 * time.Second)
		began := time.Now()
		for range 100 {
			lookUp(t, &s, known, Met)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("one that is known waited for %v", waited)
		}
		for n := range 20 {
			lookUp(t, &s, -100-n, Met)
		}
		if waited := time.Since(began); waited > 5*time.Minute {
			t.Errorf("20 that are new here waited for %v", waited)
		}
		stop()
		wg.Wait()
	})
}

func TestWhatExistsOrIsNotAnsweredTakesNoShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s Strangers
		began := time.Now()
		for n := range 10 * strangersAtOnce {
			lookUp(t, &s, n, Met)
			lookUp(t, &s, 1_000_000+n, Unanswered)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestWaitingForALookUpEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s Strangers
		for n := range strangersAtOnce {
			lookUp(t, &s, n, Stranger)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := s.LookUp(ctx, hashOf(-7), func() LookedUp { t.Error("it was looked up"); return Stranger })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v; want that its context ended", err)
		}
	})
}
