package leader_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/sojourn/leader"
)

// oneTerm runs work for a single term in a bubble.
func oneTerm(t *testing.T, opts leader.Options, work func(t *testing.T, server *fakeServer, leading context.Context, term *fakeTerm)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := leader.Run(ctx, server, opts, func(leading context.Context, term *fakeTerm) error {
			defer cancel()
			work(t, server, leading, term)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if _, open := server.openCount(); open != 0 {
			t.Errorf("%d sessions left open", open)
		}
	})
}

// after is closed when d has passed.
func after(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}

func TestALongStatementKeepsTheTerm(t *testing.T) {
	oneTerm(t, leader.Options{}, func(t *testing.T, server *fakeServer, leading context.Context, term *fakeTerm) {
		err := term.Do(leading, 2*time.Hour, func(ctx context.Context, conn *fakeSession) error {
			server.set(faults{hangVerify: true}) // nobody may verify on a busy connection
			defer server.set(faults{})
			return conn.run(ctx, after(time.Hour))
		})
		if err != nil || leading.Err() != nil {
			t.Errorf("Do returned %v, the term ended with %v; want neither", err, context.Cause(leading))
		}
	})
}

func TestAStatementOverItsLimitEndsTheTerm(t *testing.T) {
	for name, listens := range map[string]bool{"that listens to its context": true, "that does not": false} {
		t.Run(name, func(t *testing.T) {
			oneTerm(t, leader.Options{}, func(t *testing.T, server *fakeServer, leading context.Context, term *fakeTerm) {
				began := time.Now()
				err := term.Do(leading, time.Minute, func(ctx context.Context, conn *fakeSession) error {
					if deadline, ok := ctx.Deadline(); !ok || deadline.Sub(began) != time.Minute {
						t.Errorf("the context of f ends at %v, want the limit", deadline)
					}
					if !listens {
						ctx = context.Background()
					}
					return conn.run(ctx, after(time.Hour))
				})
				if took := time.Since(began); took != time.Minute {
					t.Errorf("Do took %v, want its limit", took)
				}
				if !errors.Is(err, leader.ErrLost) || !strings.Contains(err.Error(), "limit of 1m0s") {
					t.Errorf("Do returned %v, want ErrLost and the limit", err)
				}
				if cause := context.Cause(leading); !errors.Is(cause, leader.ErrLost) {
					t.Errorf("leading ended with %v, want ErrLost", cause)
				}
				err = term.Do(context.WithoutCancel(leading), time.Minute, func(context.Context, *fakeSession) error {
					t.Error("called after the term")
					return nil
				})
				if !errors.Is(err, leader.ErrLost) {
					t.Errorf("Do after the term returned %v, want its cause", err)
				}
			})
		})
	}
}

func TestAStatementThatFailsKeepsTheTermIfTheLockIsStillThere(t *testing.T) {
	oneTerm(t, leader.Options{}, func(t *testing.T, server *fakeServer, leading context.Context, term *fakeTerm) {
		failure := errors.New("duplicate key")
		err := term.Do(leading, time.Minute, func(context.Context, *fakeSession) error { return failure })
		if err != failure || leading.Err() != nil {
			t.Errorf("Do returned %v, the term ended with %v; want the failure alone", err, context.Cause(leading))
		}
		err = term.Do(leading, time.Minute, func(context.Context, *fakeSession) error {
			server.breakHolder()
			return failure
		})
		if !errors.Is(err, leader.ErrLost) || !errors.Is(err, failure) {
			t.Errorf("Do on a broken connection returned %v, want ErrLost and the failure", err)
		}
		if cause := context.Cause(leading); !errors.Is(cause, leader.ErrLost) || !errors.Is(cause, failure) {
			t.Errorf("leading ended with %v, want ErrLost and the failure", cause)
		}
	})
}

func TestASuccessCountsOnlyIfTheLockWasStillHeld(t *testing.T) {
	oneTerm(t, leader.Options{}, func(t *testing.T, server *fakeServer, leading context.Context, term *fakeTerm) {
		err := term.Do(leading, time.Minute, func(context.Context, *fakeSession) error {
			server.set(faults{verify: errors.New("not listed")})
			return nil
		})
		if !errors.Is(err, leader.ErrLost) {
			t.Errorf("Do returned %v, want ErrLost", err)
		}
	})
}

func TestOneStatementAtATime(t *testing.T) {
	oneTerm(t, leader.Options{Verify: 10 * time.Millisecond}, func(t *testing.T, server *fakeServer, leading context.Context, term *fakeTerm) {
		var users atomic.Int64
		results := make(chan error)
		for range 10 {
			go func() {
				results <- term.Do(leading, time.Minute, func(ctx context.Context, conn *fakeSession) error {
					if n := users.Add(1); n != 1 {
						t.Errorf("%d users of the connection", n)
					}
					defer users.Add(-1)
					return conn.run(ctx, after(time.Second))
				})
			}()
		}
		for range 10 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}

		ctx, cancel := context.WithTimeout(leading, time.Second)
		defer cancel()
		err := term.Do(leading, time.Minute, func(context.Context, *fakeSession) error {
			done := make(chan error)
			go func() {
				done <- term.Do(ctx, time.Minute, func(context.Context, *fakeSession) error { return nil })
			}()
			if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a Do that could not start returned %v, want its context's error", err)
			}
			return nil
		})
		if err != nil || leading.Err() != nil {
			t.Errorf("Do returned %v, the term ended with %v; want neither", err, context.Cause(leading))
		}
	})
}

func TestDoRefusesWhatCannotWork(t *testing.T) {
	oneTerm(t, leader.Options{}, func(t *testing.T, _ *fakeServer, leading context.Context, term *fakeTerm) {
		nothing := func(context.Context, *fakeSession) error { return nil }
		for _, limit := range []time.Duration{0, -time.Second} {
			if err := term.Do(leading, limit, nothing); err == nil || !strings.Contains(err.Error(), "limit is "+limit.String()) {
				t.Errorf("Do with the limit %v returned %v", limit, err)
			}
		}
		err := term.Do(leading, time.Minute, func(ctx context.Context, _ *fakeSession) error {
			return term.Do(ctx, time.Minute, nothing)
		})
		if err == nil || !strings.Contains(err.Error(), "inside of another Do") {
			t.Errorf("Do inside of Do returned %v", err)
		}
		if leading.Err() != nil {
			t.Errorf("the term ended with %v", context.Cause(leading))
		}
	})
}

func TestAPanicInsideOfDoEndsTheTerm(t *testing.T) {
	oneTerm(t, leader.Options{}, func(t *testing.T, _ *fakeServer, leading context.Context, term *fakeTerm) {
		func() {
			defer func() { _ = recover() }()
			_ = term.Do(leading, time.Minute, func(context.Context, *fakeSession) error { panic("boom") })
		}()
		if cause := context.Cause(leading); !errors.Is(cause, leader.ErrLost) {
			t.Errorf("leading ended with %v, want ErrLost", cause)
		}
	})
}

func TestTheEndOfTheTermEndsWhatRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		var err error
		stop := start(t, server, leader.Options{}, func(leading context.Context, term *fakeTerm) error {
			// Not the term's context: the term bounds f all the same.
			err = term.Do(context.Background(), time.Hour, func(ctx context.Context, conn *fakeSession) error {
				return conn.run(ctx, after(time.Hour))
			})
			return err
		})
		advance(time.Minute)
		before := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if !time.Now().Equal(before) {
			t.Errorf("the shutdown took %v, want no time", time.Since(before))
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Do returned %v, want context.Canceled", err)
		}
	})
}

func TestAStatementThatOutlivesItsWorkIsCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		result := make(chan error, 1)
		terms := 0
		stop := start(t, server, leader.Options{}, func(leading context.Context, term *fakeTerm) error {
			if terms++; terms > 1 {
				return untilEnd(leading, term)
			}
			begun := make(chan struct{})
			go func() {
				result <- term.Do(leading, time.Hour, func(ctx context.Context, conn *fakeSession) error {
					close(begun)
					return conn.run(context.Background(), after(time.Hour))
				})
			}()
			<-begun
			return nil
		})
		advance(time.Minute)
		if err := <-result; err == nil {
			t.Error("a statement whose work had returned succeeded")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if terms != 2 {
			t.Errorf("%d terms, want the next one", terms)
		}
	})
}
