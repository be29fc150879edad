package session_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func TestTheTouchIntervalIsHalfOfTheIdleTimeoutAtMost(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{TouchInterval: 15 * minute})
	_, err := session.NewManager(p.store, session.Options{TouchInterval: 15*minute + 1})
	if !errors.Is(err, session.ErrInvalid) || !strings.Contains(err.Error(), "Options.TouchInterval") || !strings.Contains(err.Error(), "30m0s") {
		t.Errorf("TouchInterval over half of the idle timeout: %v", err)
	}
	if _, err := session.NewManager(p.store, session.Options{TouchInterval: oneDay, Policy: session.PolicyRememberMe()}); err != nil {
		t.Errorf("TouchInterval without an idle timeout: %v", err)
	}
	// A session of a policy with a shorter one is touched in time all the same.
	high := session.PolicyHigh()
	b := p.browser()
	b.visit(loggingIn(t, "ann", session.Login{Policy: &high}))
	for range 20 {
		p.clock.advance(3 * minute)
		if infoOf(b).User != "ann" {
			t.Fatal("a session in use has expired")
		}
	}
}

func TestTouchesAreRare(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		interval      time.Duration
		idle          time.Duration
		never, always time.Duration // after which there is none, and one
	}{
		{0, 30 * minute, 44 * time.Second, minute},
		{0, 5 * minute, 22 * time.Second, 30 * time.Second},
		{10 * minute, 30 * minute, 449 * time.Second, 10 * minute},
		{-1, 30 * minute, 0, time.Nanosecond},
	} {
		p := newSite(t, session.Options{TouchInterval: test.interval, Policy: session.Policy{IdleTimeout: test.idle}})
		b := p.browser()
		b.visit(loggingIn(t, "ann", session.Login{}))
		p.store.taken()
		p.clock.advance(test.never)
		b.visit(nil)
		p.want("Get")
		p.clock.advance(test.always - test.never)
		res := b.visit(nil)
		if p.want("Get", "Touch"); len(res.Cookies()) > 0 {
			t.Error("a touch sets a cookie")
		}
		if got := infoOf(b).LastSeen; !got.Equal(p.clock.Now()) {
			t.Errorf("interval %v: last seen %v ago", test.interval, p.clock.Now().Sub(got))
		}
	}
}
