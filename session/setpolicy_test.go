package session_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// policing is a page that sets the policy.
func policing(t testing.TB, p *session.Policy) page {
	return func(ctx context.Context, s *session.Session) {
		if err := s.SetPolicy(ctx, p); err != nil {
			t.Errorf("SetPolicy: %v", err)
		}
	}
}

func remembering() *session.Policy {
	p := session.PolicyRememberMe()
	return &p
}

// info is what the next request sees of its session.
func infoAt(b *browser) (info session.Info) {
	b.site.t.Helper()
	b.visit(func(_ context.Context, s *session.Session) { info = s.Info() })
	return info
}

const day = 24 * time.Hour

func TestAUserIsRememberedLaterThanTheLogin(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := devices(t, p, "phone")[0] // a minute ago
	b.visit(setting(t, "k", 1))
	before, old := infoAt(b), *b
	p.clock.advance(9 * minute)
	p.told()
	res := b.visit(policing(t, remembering()))
	if c := res.Cookies()[0]; c.MaxAge != int((30*day-10*minute)/time.Second) {
		t.Errorf("the cookie is %v", c)
	}
	if events := p.told(); len(events) != 1 || events[0].Kind != session.EventRenewed || events[0].Reason != "" {
		t.Errorf("told %+v", events)
	}
	after := infoAt(b)
	if after.Handle != before.Handle || after.Label != "phone" || !after.Created.Equal(before.Created) || after.User != "ann" ||
		!after.Deadline.Equal(noon.Add(30*day)) || !after.Expires.Equal(after.Deadline) {
		t.Errorf("it is %+v; before it was %+v", after, before)
	}
	if got := body(t, p, keyOf(b)); got != `{"k":1}` {
		t.Errorf("the values are %s", got)
	}
	old.visit(func(_ context.Context, s *session.Session) {
		if s.User() != "ann" {
			t.Error("a request that was under way with the old ID has no session")
		}
	})
	// Setting it again makes it last no longer, and nil is the manager's.
	p.clock.advance(60 * minute)
	b.visit(policing(t, remembering()))
	if again := infoAt(b); !again.Deadline.Equal(after.Deadline) {
		t.Errorf("the deadline is %v; before it was %v", again.Deadline, after.Deadline)
	}
	if c := b.visit(policing(t, nil)).Cookies()[0]; c.MaxAge != 0 {
		t.Errorf("the cookie is %v", c)
	}
	if info := infoAt(b); !info.Deadline.Equal(noon.Add(12*time.Hour)) || !info.Expires.Equal(p.clock.Now().Add(30*minute)) {
		t.Errorf("with the manager's policy it is %+v", info)
	}
}

func TestASessionIsShortened(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	kiosk := &session.Policy{IdleTimeout: 2 * minute, AbsoluteTimeout: 15 * minute, SameSite: http.SameSiteStrictMode}
	b := devices(t, p, "kiosk")[0]
	if c := b.visit(policing(t, kiosk)).Cookies()[0]; c.SameSite != http.SameSiteStrictMode {
		t.Errorf("the cookie is %v", c)
	}
	if info := infoAt(b); !info.Deadline.Equal(noon.Add(15*minute)) || !info.Expires.Equal(p.clock.Now().Add(2*minute)) {
		t.Errorf("it is %+v", info)
	}
	p.clock.advance(minute + 1)
	b.visit(nil) // it is touched by its own policy
	p.clock.advance(minute + 1)
	if info := infoAt(b); info.User != "ann" {
		t.Errorf("it has ended: %+v", info)
	}
	p.clock.advance(3 * minute)
	if info := infoAt(b); info.User != "" {
		t.Errorf("it was not used for longer than its idle timeout: %+v", info)
	}
	late := devices(t, p, "late")[0]
	p.clock.advance(20 * minute)
	late.visit(func(ctx context.Context, s *session.Session) {
		if err := s.SetPolicy(ctx, kiosk); !errors.Is(err, session.ErrDeadline) {
			t.Errorf("SetPolicy: %v; want ErrDeadline", err)
		}
	})
	if info := infoAt(late); info.User != "ann" || info.Deadline.Sub(p.clock.Now()) < 11*time.Hour {
		t.Errorf("it is %+v", info)
	}
}

func TestASessionWithoutAUserHasAPolicy(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	short := &session.Policy{AnonymousTimeout: time.Hour, Persistent: true}
	b, key := started(t, p)
	p.clock.advance(10 * minute)
	b.visit(policing(t, short))
	if rec, err := p.store.Store.Get(t.Context(), keyOf(b)); err != nil || rec.Key == key || !rec.Deadline.Equal(noon.Add(time.Hour)) {
		t.Errorf("it is %v, %v", rec, err)
	}
	// One that is not stored yet begins with it, if it begins.
	b = p.browser()
	b.visit(policing(t, short))
	if b.cookie != "" {
		t.Error("nothing is to be kept, and a session has begun")
	}
	res := b.visit(func(ctx context.Context, s *session.Session) {
		policing(t, short)(ctx, s)
		setting(t, "k", 1)(ctx, s)
	})
	if c := res.Cookies()[0]; c.MaxAge != 3600 {
		t.Errorf("the cookie is %v", c)
	}
	// A login brings its own.
	if c := b.visit(loggingIn(t, "ann", session.Login{})).Cookies()[0]; c.MaxAge != 0 {
		t.Errorf("the cookie is %v", c)
	}
}

func TestAPolicyGoesWithALoginOrARenewalOfTheSameRequest(t *testing.T) {
	t.Parallel()
	renewing := func(ctx context.Context, s *session.Session) {
		if err := s.Renew(ctx, 0); err != nil {
			t.Error(err)
		}
	}
	setTo := policing(t, remembering())
	for name, c := range map[string]struct {
		pages  []page
		maxAge time.Duration
	}{
		"after a login":    {[]page{loggingIn(t, "ann", session.Login{}), setTo}, 30 * day},
		"before a login":   {[]page{setTo, loggingIn(t, "ann", session.Login{})}, 0},
		"after a renewal":  {[]page{renewing, setTo}, 30*day - 11*minute},
		"before a renewal": {[]page{setTo, renewing}, 30*day - 11*minute},
	} {
		p := newSite(t, session.Options{})
		b := devices(t, p, "phone")[0]
		p.clock.advance(10 * minute)
		old := *b
		p.store.taken()
		res := b.visit(func(ctx context.Context, s *session.Session) {
			setting(t, "k", 1)(ctx, s)
			for _, page := range c.pages {
				page(ctx, s)
			}
		})
		p.want("Get", "Renew")
		if got := res.Cookies()[0]; time.Duration(got.MaxAge)*time.Second != c.maxAge {
			t.Errorf("%s: the cookie is %v", name, got)
		}
		if got := body(t, p, keyOf(b)); got != `{"k":1}` {
			t.Errorf("%s: the values are %s", name, got)
		}
		if info := infoAt(&old); info.User != "" {
			t.Errorf("%s: the old ID still works", name)
		}
	}
}

func TestAPolicyThatCannotBeSetChangesNothing(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := devices(t, p, "phone")[0]
	before := infoAt(b)
	oops := errors.New("oops")
	b.visit(func(ctx context.Context, s *session.Session) {
		if err := s.SetPolicy(ctx, &session.Policy{AbsoluteTimeout: 1000 * day}); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("SetPolicy for too long: %v", err)
		}
		setting(t, "k", 1)(ctx, s)
		policing(t, remembering())(ctx, s)
		p.store.fail("Renew", oops)
		if err := s.Save(ctx); !errors.Is(err, oops) {
			t.Errorf("Save: %v", err)
		}
		p.store.fail("Renew", nil)
		if err := s.Save(ctx); err != nil { // saves the value
			t.Errorf("Save: %v", err)
		}
	})
	// What a login would have cleared is there again.
	b.visit(func(ctx context.Context, s *session.Session) {
		loggingIn(t, "bob", session.Login{})(ctx, s)
		policing(t, remembering())(ctx, s)
		p.store.fail("Renew", oops)
		if err := s.Save(ctx); !errors.Is(err, oops) || s.User() != "ann" || !s.Has("k") {
			t.Errorf("Save: %v; the user is %q with %q", err, s.User(), s.Keys())
		}
		p.store.fail("Renew", nil)
		if err := s.Save(ctx); err != nil {
			t.Errorf("Save: %v", err)
		}
	})
	if after := infoAt(b); after.Key != before.Key || !after.Deadline.Equal(before.Deadline) {
		t.Errorf("it is %+v; before it was %+v", after, before)
	}
	if got := body(t, p, keyOf(b)); got != `{"k":1}` {
		t.Errorf("the values are %s", got)
	}
	s := opens(t, p.manager, b.value())
	policing(t, remembering())(t.Context(), s)
	if token := ends(t, s); token == b.value() {
		t.Error("the token is that of before")
	}
	if s, err := p.manager.OpenHandle(t.Context(), "ann", before.Handle); err != nil {
		t.Error(err)
	} else if err := s.SetPolicy(t.Context(), nil); !errors.Is(err, session.ErrTooLate) {
		t.Errorf("SetPolicy without the client: %v", err)
	}
}
