package leader_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/leader"
)

func TestASessionWhoseLockAttemptFailedIsNeverReused(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]faults{
		"error":   {tryLock: errors.New("no answer")},
		"timeout": {hangTryLock: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := newFakeServer()
				server.set(fault) // grants the lock, but nobody hears of it
				var states recorder
				led := make(chan struct{})
				stop := start(t, server, leader.Options{OnChange: states.record}, func(leading context.Context, term *fakeTerm) error {
					close(led)
					return untilEnd(leading, term)
				})
				advance(3500 * time.Millisecond)
				synctest.Wait()
				if s := states.last(); s.Failures == 0 || s.Err == nil || s.Connected {
					t.Errorf("got %+v, want the failure and no connection", s)
				}
				server.set(faults{})
				<-led
				if err := stop(); err != nil {
					t.Error(err)
				}
				if opened, open := server.openCount(); opened < 2 || open != 0 {
					t.Errorf("%d sessions opened and %d left open, want a new one per failure and none left", opened, open)
				}
			})
		})
	}
}

func TestAServerThatCannotBeReachedIsTriedAtOnceAndThenRarely(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		server.set(faults{open: errors.New("connection refused")})
		stop := start(t, server, leader.Options{}, untilEnd)
		synctest.Wait()
		if opened, _ := server.openCount(); opened != 2 {
			t.Errorf("%d attempts at once, want the first and one more", opened)
		}
		advance(time.Hour)
		// From half to the whole of 15 seconds each, once the pauses have grown.
		if opened, _ := server.openCount(); opened < 240 || opened > 490 {
			t.Errorf("%d attempts in an hour", opened)
		}
		before := time.Now()
		if err := stop(); err != nil || !time.Now().Equal(before) {
			t.Errorf("Run returned %v after %v, want nil at once", err, time.Since(before))
		}
	})
}

func TestLosingTheLockEndsTheTermWithErrLost(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lose   func(*fakeServer)
		within time.Duration
	}{
		"session gone":        {(*fakeServer).breakHolder, 2 * time.Second},
		"lock not found":      {func(s *fakeServer) { s.set(faults{verify: errors.New("not listed")}) }, 2 * time.Second},
		"server says nothing": {func(s *fakeServer) { s.set(faults{hangVerify: true}) }, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := newFakeServer()
				causes := make(chan error, 10)
				stop := start(t, server, leader.Options{}, func(leading context.Context, term *fakeTerm) error {
					<-leading.Done()
					causes <- context.Cause(leading)
					return context.Cause(leading)
				})
				advance(time.Minute)
				before := time.Now()
				tc.lose(server)
				cause := <-causes
				if !errors.Is(cause, leader.ErrLost) {
					t.Errorf("leading ended with %v, want ErrLost", cause)
				}
				if took := time.Since(before); took > tc.within {
					t.Errorf("noticed after %v, want within %v", took, tc.within)
				}
				server.set(faults{})
				advance(time.Minute)
				if _, open := server.openCount(); open != 1 {
					t.Errorf("%d sessions open, want the next term's", open)
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestALostWorkThatDoesNotStopLosesItsSessionAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		release := make(chan struct{})
		var stuckErr error
		stopStuck := start(t, server, leader.Options{}, func(leading context.Context, term *fakeTerm) error {
			// A statement that listens to no context.
			stuckErr = term.Do(leading, 10*time.Second, func(ctx context.Context, conn *fakeSession) error {
				return conn.run(context.Background(), release)
			})
			<-release // and a work that does not stop
			return stuckErr
		})
		synctest.Wait()
		led := make(chan struct{})
		stopNext := start(t, server, leader.Options{}, func(leading context.Context, term *fakeTerm) error {
			close(led)
			return untilEnd(leading, term)
		})
		began := time.Now()
		<-led
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("the next one led after %v, want the limit of 10s and Poll", took)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- stopStuck() }()
		advance(time.Hour)
		select {
		case <-stopped:
			t.Error("Run returned before its work")
		default:
		}
		close(release)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if !errors.Is(stuckErr, leader.ErrLost) || !errors.Is(stuckErr, errBroken) {
			t.Errorf("Do returned %v, want ErrLost and the broken statement", stuckErr)
		}
		if err := stopNext(); err != nil {
			t.Error(err)
		}
	})
}

func TestAShutdownWaitsASecondForTheWorkAndThenCutsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		var took time.Duration
		core, logs := observer.New(zapcore.WarnLevel)
		stop := start(t, server, leader.Options{Logger: zap.New(core)}, func(leading context.Context, term *fakeTerm) error {
			<-leading.Done()
			began := time.Now()
			_, open := server.openCount()
			for ; open > 0; _, open = server.openCount() {
				advance(time.Millisecond)
			}
			took = time.Since(began)
			return nil
		})
		synctest.Wait()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("the session was ended after %v, want a second", took)
		}
		if logs.Len() != 1 {
			t.Errorf("logged %v, want one warning", logs.All())
		}
	})
}

func TestAServerThatLocksNothingNeverMakesALeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		server.set(faults{alwaysYes: true})
		stop := start(t, server, leader.Options{}, func(context.Context, *fakeTerm) error {
			t.Error("work was called without a lock")
			return nil
		})
		advance(time.Hour)
		if opened, _ := server.openCount(); opened > 490 {
			t.Errorf("%d attempts in an hour, want growing pauses", opened)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestAPoolerEndsRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		server.set(faults{tryLock: fmt.Errorf("%w: other process", leader.ErrPooled)})
		err := leader.Run(t.Context(), server, leader.Options{}, untilEnd)
		if !errors.Is(err, leader.ErrPooled) {
			t.Errorf("Run returned %v, want ErrPooled", err)
		}
		if _, open := server.openCount(); open != 0 {
			t.Errorf("%d sessions left open", open)
		}
	})
}

func TestAPanicOfTheWorkGivesTheLockBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		func() {
			defer func() {
				if got := recover(); got != "boom" {
					t.Errorf("recovered %v, want the work's panic", got)
				}
			}()
			_ = leader.Run(t.Context(), server, leader.Options{}, func(context.Context, *fakeTerm) error { panic("boom") })
		}()
		if _, open := server.openCount(); open != 0 {
			t.Errorf("%d sessions left open", open)
		}
	})
}

func TestASessionThatDoesNotCloseIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		server.set(faults{ignoresClose: true})
		core, logs := observer.New(zapcore.WarnLevel)
		stop := start(t, server, leader.Options{Logger: zap.New(core)}, untilEnd)
		synctest.Wait()
		before := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(before); took != time.Second { // whoever stops it waits
			t.Errorf("Run took %v to end, want a second", took)
		}
		if logs.Len() != 1 {
			t.Errorf("logged %v, want one warning", logs.All())
		}
	})
}
