package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

const (
	minute  = time.Minute
	hour    = time.Hour
	oneDay  = 24 * hour
	longest = 30 * oneDay // of memstore and pgstore by default
)

// lifetimes are the ends of a fresh session, seen from its beginning.
func lifetimes(t *testing.T, policy session.Policy, login *session.Login) (idle, absolute time.Duration) {
	t.Helper()
	p := newSite(t, session.Options{Policy: policy})
	begin := setting(t, "k", 1)
	if login != nil {
		begin = loggingIn(t, "ann", *login)
	}
	b := p.browser()
	b.visit(begin)
	b.visit(func(_ context.Context, s *session.Session) {
		info := s.Info()
		idle, absolute = info.Expires.Sub(noon), info.Deadline.Sub(noon)
	})
	return idle, absolute
}

func TestPoliciesSayForHowLongSessionsLast(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		policy                        session.Policy
		anonymousIdle, anonymous      time.Duration
		idle, absolute                time.Duration
		sameSite, persistent, renewal bool
	}{
		"zero":        {session.Policy{}, 30 * minute, 4 * hour, 30 * minute, 12 * hour, false, false, false},
		"low risk":    {session.PolicyLowRisk(), 30 * minute, 4 * hour, 30 * minute, 12 * hour, false, false, false},
		"high":        {session.PolicyHigh(), 5 * minute, 4 * hour, 5 * minute, 8 * hour, true, false, false},
		"AAL1":        {session.PolicyAAL1(), 4 * hour, 4 * hour, 24 * hour, 30 * oneDay, false, false, false},
		"AAL2":        {session.PolicyAAL2(), hour, 4 * hour, hour, 24 * hour, false, false, false},
		"AAL3":        {session.PolicyAAL3(), 15 * minute, 4 * hour, 15 * minute, 12 * hour, true, false, false},
		"remember me": {session.PolicyRememberMe(), 4 * hour, 4 * hour, 30 * oneDay, 30 * oneDay, false, true, true},

		"short in all":              {session.Policy{AbsoluteTimeout: hour}, 30 * minute, hour, 30 * minute, hour, false, false, false},
		"anonymous as long":         {session.Policy{AnonymousTimeout: -1}, 30 * minute, 12 * hour, 30 * minute, 12 * hour, false, false, false},
		"anonymous for short":       {session.Policy{AnonymousTimeout: minute}, minute, minute, 30 * minute, 12 * hour, false, false, false},
		"anonymous for too long":    {session.Policy{AnonymousTimeout: oneDay}, 30 * minute, 12 * hour, 30 * minute, 12 * hour, false, false, false},
		"never idle":                {session.Policy{IdleTimeout: -hour}, 4 * hour, 4 * hour, 12 * hour, 12 * hour, false, false, false},
		"no end but idleness":       {session.Policy{AbsoluteTimeout: -1}, 30 * minute, 4 * hour, 30 * minute, longest, false, false, true},
		"no end for anybody":        {session.Policy{AbsoluteTimeout: -1, AnonymousTimeout: -1}, 30 * minute, longest, 30 * minute, longest, false, false, true},
		"idleness beyond the whole": {session.Policy{IdleTimeout: oneDay}, 4 * hour, 4 * hour, 12 * hour, 12 * hour, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if idle, absolute := lifetimes(t, test.policy, nil); idle != test.anonymousIdle || absolute != test.anonymous {
				t.Errorf("anonymous: %v idle, %v in all; want %v, %v", idle, absolute, test.anonymousIdle, test.anonymous)
			}
			if idle, absolute := lifetimes(t, test.policy, &session.Login{}); idle != test.idle || absolute != test.absolute {
				t.Errorf("logged in: %v idle, %v in all; want %v, %v", idle, absolute, test.idle, test.absolute)
			}
			// The policy of a login is the same as that of the manager.
			if idle, absolute := lifetimes(t, session.PolicyAAL3(), &session.Login{Policy: &test.policy}); idle != test.idle || absolute != test.absolute {
				t.Errorf("of the login: %v idle, %v in all; want %v, %v", idle, absolute, test.idle, test.absolute)
			}
			p := newSite(t, session.Options{Policy: test.policy})
			b := p.browser()
			line := b.visit(loggingIn(t, "ann", session.Login{})).Header.Get("Set-Cookie")
			if got := strings.Contains(line, "SameSite=Strict"); got != test.sameSite {
				t.Errorf("SameSite=Strict: %v; want %v", got, test.sameSite)
			}
			if got := strings.Contains(line, "Max-Age"); got != test.persistent {
				t.Errorf("persistent: %v; want %v", got, test.persistent)
			}
			// With all its uses the session is kept alive for more than a day.
			before := b.cookie
			for range 24*12 + 1 {
				p.clock.advance(5*minute - time.Second)
				b.visit(nil)
			}
			if got := b.cookie != before; got != test.renewal {
				t.Errorf("renewed after a day: %v; want %v", got, test.renewal)
			}
		})
	}
}

// keeping is a store that keeps sessions for as long as it says.
type keeping struct {
	*memstore.Store
	longest time.Duration
}

func (k keeping) Longest() time.Duration { return k.longest }

func TestPoliciesOutOfRangeAreRefusedWithFieldAndLimit(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	store := keeping{p.store.Store, 10 * oneDay}
	for _, test := range []struct {
		policy session.Policy
		field  string
		limit  string
	}{
		{session.Policy{AbsoluteTimeout: 11 * oneDay}, "AbsoluteTimeout", "240h"},
		{session.PolicyRememberMe(), "AbsoluteTimeout", "240h"},
		{session.Policy{IdleTimeout: 11 * oneDay}, "IdleTimeout", "240h"},
		{session.Policy{AbsoluteTimeout: -1, AnonymousTimeout: 11 * oneDay}, "AnonymousTimeout", "240h"},
		{session.Policy{AbsoluteTimeout: -1, IdleTimeout: -1}, "IdleTimeout", "AbsoluteTimeout"},
		{session.Policy{AbsoluteTimeout: -1, RenewAfter: -1}, "RenewAfter", "AbsoluteTimeout"},
		{session.Policy{AbsoluteTimeout: -1, RenewAfter: 6 * oneDay}, "RenewAfter", "240h"},
		{session.Policy{RenewGrace: hour + 1}, "RenewGrace", "1h0m0s"},
		{session.Policy{SameSite: http.SameSiteDefaultMode}, "SameSite", "Lax"},
		{session.Policy{SameSite: 17}, "SameSite", "Lax"},
		{session.Policy{SameSite: -1}, "SameSite", "Lax"},
	} {
		names := func(err error, prefix string) bool {
			return errors.Is(err, session.ErrInvalid) && strings.Contains(err.Error(), prefix+test.field+" ") && strings.Contains(err.Error(), test.limit)
		}
		if _, err := session.NewManager(store, session.Options{Policy: test.policy}); !names(err, "Options.Policy.") {
			t.Errorf("%+v: %v; want Options.Policy.%s and %s", test.policy, err, test.field, test.limit)
		}
		m, err := session.NewManager(store, session.Options{})
		if err != nil {
			t.Fatal(err)
		}
		(&site{t: t, manager: m}).serve(get(""), func(ctx context.Context, s *session.Session) {
			if err := s.Login(ctx, "ann", session.Login{Policy: &test.policy}); !names(err, "Login.Policy.") {
				t.Errorf("%+v: %v; want Login.Policy.%s and %s", test.policy, err, test.field, test.limit)
			}
		})
	}
	none := session.Options{Policy: session.Policy{SameSite: http.SameSiteNoneMode}, Cookie: session.Cookie{Insecure: true}}
	if _, err := session.NewManager(store, none); !errors.Is(err, session.ErrInvalid) || !strings.Contains(err.Error(), "Options.Policy.SameSite") {
		t.Errorf("SameSite=None without Secure: %v", err)
	}
	for _, ok := range []session.Policy{
		{AbsoluteTimeout: 10 * oneDay}, {AbsoluteTimeout: -1, RenewAfter: 5 * oneDay}, {RenewGrace: hour}, {RenewAfter: -1, RenewGrace: -1}, {RenewAfter: 100 * oneDay},
	} {
		if _, err := session.NewManager(store, session.Options{Policy: ok}); err != nil {
			t.Errorf("%+v: %v", ok, err)
		}
	}
}

func TestASessionKeepsItsOwnPolicyOnOtherNodesAndThroughRenewals(t *testing.T) {
	t.Parallel()
	one := newSite(t, session.Options{})
	two := newSiteOn(t, one.clock, one.store, session.Options{Policy: session.PolicyHigh()})
	own := session.Policy{IdleTimeout: 2 * hour, AbsoluteTimeout: 20 * hour, Persistent: true, SameSite: http.SameSiteStrictMode}
	b := one.browser()
	b.visit(loggingIn(t, "ann", session.Login{Policy: &own}))
	for i, p := range []*site{two, one, two} {
		b.site = p
		one.clock.advance(hour)
		line := b.visit(func(ctx context.Context, s *session.Session) {
			if err := s.Renew(ctx, 0); err != nil {
				t.Error(err)
			}
		}).Header.Get("Set-Cookie")
		if want := fmt.Sprintf("Max-Age=%d; ", (19-i)*3600); !strings.Contains(line, want) || !strings.Contains(line, "SameSite=Strict") {
			t.Errorf("renewal %d: the cookie's line lacks %q or SameSite=Strict", i, want)
		}
		b.visit(setting(t, "k", i))
		info := infoOf(b)
		if got, want := info.Expires, one.clock.Now().Add(2*hour); !got.Equal(want) {
			t.Errorf("renewal %d: expires at %v; want %v", i, got, want)
		}
		if got, want := info.Deadline, noon.Add(20*hour); !got.Equal(want) {
			t.Errorf("renewal %d: ends at %v; want %v", i, got, want)
		}
	}
	b.visit(loggingIn(t, "ann", session.Login{}))
	if got, want := infoOf(b).Deadline.Sub(one.clock.Now()), 8*hour; got != want {
		t.Errorf("after a login without a policy it lasts %v; want that of the node, %v", got, want)
	}
}

func infoOf(b *browser) (info session.Info) {
	b.visit(func(_ context.Context, s *session.Session) { info = s.Info() })
	return info
}

func TestAnIDIsReplacedWhenItIsDueAndOnlyThen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		policy session.Policy
		moves  bool // the deadline
	}{
		"with an end":    {session.Policy{RenewAfter: hour, AbsoluteTimeout: 12 * hour, IdleTimeout: -1}, false},
		"without an end": {session.Policy{RenewAfter: hour, AbsoluteTimeout: -1, IdleTimeout: 2 * hour}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newSite(t, session.Options{Policy: test.policy})
			b := p.browser()
			b.visit(loggingIn(t, "ann", session.Login{}))
			first, deadline := b.cookie, infoOf(b).Deadline
			p.clock.advance(hour - time.Second)
			if b.visit(nil); b.cookie != first {
				t.Error("renewed too early")
			}
			p.clock.advance(time.Second)
			p.told()
			b.visit(nil)
			second := b.cookie
			if second == first {
				t.Fatal("not renewed when due")
			}
			if events := p.told(); len(events) != 1 || events[0].Kind != session.EventRenewed || events[0].Reason != "" || events[0].User != "ann" {
				t.Errorf("told %+v", events)
			}
			if b.visit(nil); b.cookie != second {
				t.Error("renewed twice")
			}
			if got := infoOf(b).Deadline; got.After(deadline) != test.moves || got.Before(deadline) {
				t.Errorf("the deadline was %v and is %v", deadline, got)
			}
			old := &browser{site: p, cookie: first}
			if old.visit(nil); old.cookie != first || infoOf(old).User != "ann" {
				t.Error("the old ID does not work in its grace period")
			}
			p.clock.advance(minute)
			if infoOf(old).User != "" {
				t.Error("the old ID works after its grace period")
			}
		})
	}
}

func TestAnonymousSessionsOfAPolicyWithoutAnEndAreNotRenewedAllTheTime(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Policy: session.Policy{AbsoluteTimeout: -1}})
	b := p.browser()
	b.visit(setting(t, "k", 1))
	first := b.cookie
	for range 24 {
		p.clock.advance(10*minute - time.Second)
		if b.visit(nil); b.cookie != first {
			t.Fatal("renewed, though that does not move the deadline")
		}
	}
	p.clock.advance(minute)
	if !infoOf(b).Deadline.IsZero() {
		t.Error("it has outlived AnonymousTimeout")
	}
}
