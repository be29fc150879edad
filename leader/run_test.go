package leader_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/leader"
)

type (
	fakeTerm = leader.Term[*fakeSession]
	fakeWork = func(context.Context, *fakeTerm) error
)

// start runs an election in the background and returns how to end it; the end
// waits for Run and gives its answer.
func start(t *testing.T, server *fakeServer, opts leader.Options, work fakeWork) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- leader.Run(ctx, server, opts, work) }()
	return func() error {
		cancel()
		return <-done
	}
}

// untilEnd is a work that ends with its term.
func untilEnd(leading context.Context, _ *fakeTerm) error {
	<-leading.Done()
	return context.Cause(leading)
}

func TestRunLeadsUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		var cause error
		stop := start(t, server, leader.Options{}, func(leading context.Context, term *fakeTerm) error {
			if term.Number != 1 || !term.Since.Equal(time.Now()) {
				t.Errorf("got term %d since %v, want the first, since now", term.Number, term.Since)
			}
			<-leading.Done()
			cause = context.Cause(leading)
			return nil
		})
		advance(time.Hour)
		if opened, open := server.openCount(); opened != 1 || open != 1 {
			t.Errorf("%d sessions opened, %d open; want a single one that lasts", opened, open)
		}
		if err := stop(); err != nil {
			t.Errorf("Run returned %v, want nil once its context has ended", err)
		}
		if cause != context.Canceled {
			t.Errorf("leading ended with %v, want the cause of Run's context", cause)
		}
		if _, open := server.openCount(); open != 0 {
			t.Errorf("%d sessions open after Run", open)
		}
	})
}

func TestAFollowerLeadsWithinPollOfAResignation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			server := newFakeServer()
			stopFirst := start(t, server, leader.Options{}, untilEnd)
			synctest.Wait()
			led := make(chan time.Time, 1)
			stopSecond := start(t, server, leader.Options{}, func(leading context.Context, term *fakeTerm) error {
				led <- term.Since
				return untilEnd(leading, term)
			})
			advance(time.Duration(rand.N(10_000)) * time.Millisecond)
			resigned := time.Now()
			if err := stopFirst(); err != nil {
				t.Fatal(err)
			}
			if took := (<-led).Sub(resigned); took > time.Second {
				t.Errorf("the next one led after %v, want within Poll", took)
			}
			if err := stopSecond(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestExactlyOneOfManyLeads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		var leaders, terms atomic.Int64
		var stops []func() error
		for range 8 {
			stops = append(stops, start(t, server, leader.Options{}, func(leading context.Context, _ *fakeTerm) error {
				if n := leaders.Add(1); n != 1 {
					t.Errorf("%d work functions run at the same time", n)
				}
				defer leaders.Add(-1)
				terms.Add(1)
				select {
				case <-leading.Done():
				case <-time.After(rand.N(20 * time.Second)):
				}
				if rand.N(3) == 0 {
					return errors.New("some failure")
				}
				return nil
			}))
		}
		advance(2 * time.Hour)
		for _, stop := range stops {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		// About one term in ten seconds, and the lock is never free for long.
		if n := terms.Load(); n < 400 {
			t.Errorf("only %d terms in two hours", n)
		}
	})
}

func TestAWorkThatReturnsResignsAndCompetesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		failure := errors.New("maintenance cannot start")
		var (
			states recorder
			mu     sync.Mutex
			begun  int
			result error
		)
		minutes := func(n int, with error) (terms int, last leader.State) {
			mu.Lock()
			begun, result = 0, with
			mu.Unlock()
			advance(time.Duration(n) * time.Minute)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return begun, states.last()
		}
		core, logs := observer.New(zapcore.WarnLevel)
		opts := leader.Options{Logger: zap.New(core), OnChange: states.record}
		stop := start(t, server, opts, func(context.Context, *fakeTerm) error {
			mu.Lock()
			defer mu.Unlock()
			begun++
			return result
		})

		terms, last := minutes(1, nil)
		if terms < 60 || terms > 121 {
			t.Errorf("%d terms in a minute, want about one per Poll", terms)
		}
		if last.Failures != 0 || last.Err != nil {
			t.Errorf("got %+v, want no failures of a work that returns nil", last)
		}
		terms, last = minutes(60, failure)
		if terms < 240 || terms > 490 {
			t.Errorf("%d terms in an hour of failures, want pauses that grow to 15s", terms)
		}
		if last.Failures != int64(terms) || last.Err != failure || last.Leading {
			t.Errorf("got %+v, want %d failures", last, terms)
		}
		if logs.Len() != 1 {
			t.Errorf("%d warnings, want one for a failure that repeats", logs.Len())
		}
		if terms, _ = minutes(1, nil); terms < 45 {
			t.Errorf("%d terms in the minute after the failures, want short pauses again", terms)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestALongTermForgetsEarlierFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		n := 0
		var ended time.Time
		var pause time.Duration
		stop := start(t, server, leader.Options{}, func(leading context.Context, term *fakeTerm) error {
			switch n++; {
			case n < 20:
			case n == 20:
				advance(time.Minute)
				ended = time.Now()
			default:
				pause = time.Since(ended)
				return untilEnd(leading, term)
			}
			return errors.New("failed")
		})
		advance(time.Hour)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if pause == 0 || pause > 2*time.Second {
			t.Errorf("paused for %v after a long term, want twice Poll at most", pause)
		}
	})
}

func TestChangesAreToldAndLoggedOnceEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		stopOther := start(t, server, leader.Options{}, untilEnd)
		synctest.Wait()

		var states recorder
		core, logs := observer.New(zapcore.InfoLevel)
		stop := start(t, server, leader.Options{Logger: zap.New(core), OnChange: states.record}, untilEnd)
		expect := func(when string, want leader.State) {
			t.Helper()
			synctest.Wait()
			got := states.last()
			got.Err = nil
			if got != want {
				t.Errorf("%s: got %+v, want %+v", when, got, want)
			}
		}
		began := time.Now()
		expect("another one leads", leader.State{Connected: true, Since: began})
		advance(time.Minute)
		expect("a minute later", leader.State{Connected: true, Since: began})

		if err := stopOther(); err != nil {
			t.Error(err)
		}
		advance(time.Minute)
		first := states.last().Since
		expect("the other one has resigned", leader.State{Connected: true, Leading: true, Term: 1, Since: first})

		server.set(faults{open: errors.New("refused at port 1")})
		server.breakHolder()
		advance(4 * time.Second)
		server.set(faults{open: errors.New("refused at port 2")})
		advance(time.Minute)
		if s := states.last(); s.Failures < 5 || s.Err == nil || s.Connected || s.Leading || !s.Since.After(first) {
			t.Errorf("the server is gone: got %+v", s)
		}
		failures := states.last().Failures

		server.set(faults{})
		advance(time.Minute)
		second := states.last().Since
		expect("the server is back", leader.State{Connected: true, Leading: true, Term: 2, Since: second, Failures: failures})
		if err := stop(); err != nil {
			t.Error(err)
		}
		expect("the end", leader.State{Term: 2, Since: time.Now(), Failures: failures})

		var lines []string
		for _, line := range logs.All() {
			lines = append(lines, line.Message)
		}
		wantLines := "[leader: following leader: leading leader: lost leader: cannot compete leader: leading leader: resigned]"
		if got := fmt.Sprint(lines); got != wantLines {
			t.Errorf("logged %v, want %v", got, wantLines)
		}
	})
}

func TestOptionsOutOfRangeAreNamed(t *testing.T) {
	t.Parallel()
	for want, opts := range map[string]leader.Options{
		"leader: Options.Poll is -1s; it must be from 10ms to 24h0m0s":                        {Poll: -time.Second},
		"leader: Options.Verify is 1ms; it must be from 10ms to 24h0m0s":                      {Verify: time.Millisecond},
		"leader: Options.Timeout is -1ns; it must be from 1ms to 24h0m0s":                     {Timeout: -1},
		"leader: Options.ConnectTimeout is 1µs; it must be from 1ms to 24h0m0s":               {ConnectTimeout: time.Microsecond},
		"leader: Options.Timeout is 2562047h47m16.854775807s; it must be from 1ms to 24h0m0s": {Timeout: 1<<63 - 1},
		"leader: Options.MaxBackoff is -1ns; it must be from 10ms to 24h0m0s":                 {MaxBackoff: -1},
	} {
		server := newFakeServer()
		err := leader.Run(t.Context(), server, opts, untilEnd)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if opened, _ := server.openCount(); opened != 0 {
			t.Errorf("%d sessions opened in spite of %s", opened, want)
		}
	}
}

func TestRunNeedsALockerAndAWork(t *testing.T) {
	t.Parallel()
	if err := leader.Run(t.Context(), newFakeServer(), leader.Options{}, nil); err == nil {
		t.Error("no error without a work")
	}
	if err := leader.Run[*fakeSession](t.Context(), nil, leader.Options{}, untilEnd); err == nil {
		t.Error("no error without a locker")
	}
}
