package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// opens is a client without HTTP: what it holds is a token.
func opens(t *testing.T, m *session.Manager, token string) *session.Session {
	t.Helper()
	s, err := m.Open(t.Context(), token)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

// ends returns the client's token.
func ends(t *testing.T, s *session.Session) string {
	t.Helper()
	token := s.Token().Text()
	if err := s.End(t.Context()); err != nil {
		t.Fatalf("End: %v", err)
	}
	if now := s.Token().Text(); now != "" {
		token = now
	}
	return token
}

func TestASessionIsUsedOutsideAHandler(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	s := opens(t, p.manager, "")
	if token := ends(t, s); token != "" {
		t.Errorf("nothing is stored, and the token is %q", token)
	}
	p.want()

	s = opens(t, p.manager, "")
	setting(t, "cart", 3)(t.Context(), s)
	anonymous := ends(t, s)
	p.want("Create")

	s = opens(t, p.manager, anonymous)
	loggingIn(t, "ann", session.Login{Label: "app"})(t.Context(), s)
	if s.User() != "ann" {
		t.Errorf("the user is %q", s.User())
	}
	token := ends(t, s)
	if token == anonymous || len(token) != session.IDTextLen {
		t.Errorf("after Login the token is %q; before it was %q", token, anonymous)
	}
	if _, err := p.manager.Open(t.Context(), anonymous); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Open with the token of before: %v", err)
	}
	s = opens(t, p.manager, token)
	cart, err := session.Get[int](s, "cart")
	check(t, "the cart", cart, err, 3)
	if s.User() != "ann" || s.Info().Label != "app" || s.Token().Text() != token || s.SetCookie().Text() != "" {
		t.Errorf("it is %+v with the token %q and the cookie %q", s.Info(), s.Token().Text(), s.SetCookie().Text())
	}
	p.told()
	if err := s.Logout(t.Context()); err != nil {
		t.Error(err)
	}
	if s.Token().Text() != "" {
		t.Error("after Logout it has a token")
	}
	ends(t, s)
	if _, err := p.manager.Open(t.Context(), token); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Open after Logout: %v", err)
	}
	if events := p.told(); len(events) != 2 || events[0].Kind != session.EventDestroyed || events[1].Kind != session.EventEnded {
		t.Errorf("told %+v", events)
	}
}

func TestATokenIsWhatTheBrowsersCookieHas(t *testing.T) {
	t.Parallel()
	keys := session.Secrets(strings.Repeat("k", 32))
	for name, opts := range map[string]session.Options{"plain": {}, "signed": {Cookie: session.Cookie{SigningKeys: keys}}} {
		t.Run(name, func(t *testing.T) {
			p := newSite(t, opts)
			b := p.browser()
			b.visit(setting(t, "k", 1))
			s := opens(t, p.manager, b.value())
			k, err := session.Get[int](s, "k")
			check(t, "k", k, err, 1)
			loggingIn(t, "ann", session.Login{})(t.Context(), s)
			token := ends(t, s)
			line := s.SetCookie().Text()
			if want := b.name() + "=" + token + "; Path=/; HttpOnly; Secure; SameSite=Lax"; line != want {
				t.Errorf("the cookie is %q; want %q", line, want)
			}
			b.cookie = b.name() + "=" + token
			b.visit(func(ctx context.Context, s *session.Session) {
				if s.User() != "ann" {
					t.Errorf("the user is %q", s.User())
				}
				if err := s.End(ctx); !errors.Is(err, session.ErrInvalid) {
					t.Errorf("End in a handler: %v", err)
				}
				if s.Token().Text() != "" || s.SetCookie().Text() != "" {
					t.Error("a session of a handler has a token")
				}
			})
			s = opens(t, p.manager, token)
			if err := s.Logout(t.Context()); err != nil {
				t.Error(err)
			}
			if line := s.SetCookie().Text(); !strings.HasPrefix(line, b.name()+"=;") || !strings.Contains(line, "Max-Age=0") {
				t.Errorf("after Logout the cookie is %q", line)
			}
		})
	}
}

func TestTokensThatAreNoneAreNotFound(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Cookie: session.Cookie{SigningKeys: session.Secrets(strings.Repeat("k", 32))}})
	id := session.NewID(noon.Add(time.Hour)).Secret()
	for _, token := range []string{"x", "~", "~1", id, id + ".x", strings.Repeat("a", 1<<20)} {
		if s, err := p.manager.Open(t.Context(), token); s != nil || !errors.Is(err, session.ErrNotFound) || strings.Contains(err.Error(), id) {
			t.Errorf("Open: %v, %v", s, err)
		}
	}
	p.want()
	if events := p.told(); len(events) != 6 || events[0].Kind != session.EventInvalidID {
		t.Errorf("told %+v", events)
	}
	p = newSite(t, session.Options{})
	if _, err := p.manager.Open(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Open: %v", err)
	}
	if events := p.told(); len(events) != 1 || events[0].Kind != session.EventUnknownID {
		t.Errorf("told %+v", events)
	}
}

func TestAUseOutsideAHandlerDoesWhatARequestDoes(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Policy: session.Policy{RenewAfter: time.Hour, IdleTimeout: 2 * time.Hour}})
	s := opens(t, p.manager, "")
	loggingIn(t, "ann", session.Login{})(t.Context(), s)
	token := ends(t, s)
	p.store.taken()

	s = opens(t, p.manager, token)
	if same := ends(t, s); same != token {
		t.Error("a use that changes nothing has changed the token")
	}
	p.want("Get")
	p.clock.advance(30 * minute)
	ends(t, opens(t, p.manager, token))
	p.want("Get", "Touch")
	p.clock.advance(40 * minute) // it is time for another ID
	s = opens(t, p.manager, token)
	setting(t, "k", 1)(t.Context(), s)
	if err := s.Save(t.Context()); err != nil {
		t.Error(err)
	}
	p.want("Get", "Save")
	setting(t, "k", 2)(t.Context(), s)
	renewed := ends(t, s)
	p.want("Renew")
	if renewed == token {
		t.Error("the ID was due, and is the same")
	}
	s = opens(t, p.manager, renewed)
	k, err := session.Get[int](s, "k")
	check(t, "k", k, err, 2)
	for what, call := range map[string]func() error{
		"End":   func() error { return s.End(t.Context()) },
		"again": func() error { return s.End(t.Context()) },
	} {
		if err := call(); err != nil {
			t.Errorf("End, %s: %v", what, err)
		}
	}
	for what, call := range map[string]func() error{
		"Set":    func() error { return s.Set("k", 3) },
		"Save":   func() error { return s.Save(t.Context()) },
		"Login":  func() error { return s.Login(t.Context(), "bob", session.Login{}) },
		"Logout": func() error { return s.Logout(t.Context()) },
		"Touch":  func() error { return s.Touch(t.Context()) },
		"Reload": func() error { return s.Reload(t.Context()) },
	} {
		if err := call(); !errors.Is(err, session.ErrTooLate) {
			t.Errorf("%s after End: %v", what, err)
		}
	}
}

func TestReloadOutsideAHandlerForgetsABeginning(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	_, key := started(t, p)
	for what, s := range map[string]*session.Session{
		"an empty one":    opens(t, p.manager, ""),
		"one that ended":  opens(t, p.manager, ""),
		"one of a worker": nil,
	} {
		if s == nil {
			var err error
			if s, err = p.manager.OpenKey(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		} else {
			setting(t, "k", 1)(t.Context(), s)
		}
		if what != "an empty one" {
			if err := s.Destroy(t.Context()); err != nil {
				t.Errorf("%s: Destroy: %v", what, err)
			}
		}
		if err := s.Reload(t.Context()); err != nil {
			t.Errorf("%s: Reload: %v", what, err)
		}
		if keys := s.Keys(); len(keys) != 0 || !s.Key().IsZero() {
			t.Errorf("%s has the values %v after Reload", what, keys)
		}
	}
}

func TestOutsideAHandlerAConflictIsMergedOrTold(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	s := opens(t, p.manager, b.value())
	b.visit(setting(t, "other", 1))
	setting(t, "k", 1)(t.Context(), s)
	ends(t, s)
	if got := body(t, p, key); got != `{"k":1,"other":1}` {
		t.Errorf("the values are %s", got)
	}
	s = opens(t, p.manager, b.value())
	s.FailOnConflict()
	b.visit(setting(t, "other", 2))
	setting(t, "k", 2)(t.Context(), s)
	if err := s.End(t.Context()); !errors.Is(err, session.ErrConflict) {
		t.Errorf("End: %v; want ErrConflict", err)
	}
	s = opens(t, p.manager, b.value())
	setting(t, "k", 3)(t.Context(), s)
	b.visit(ending(t, (*session.Session).Destroy))
	p.told()
	if err := s.End(t.Context()); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("End: %v; want ErrNotFound", err)
	}
	if events := p.told(); len(events) != 1 || events[0].Kind != session.EventSaveDropped {
		t.Errorf("told %+v", events)
	}
	if s.Token().Text() != "" {
		t.Error("a session that has ended has a token")
	}
}

func TestWhatASaveCouldNotSaveEndTells(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	s := opens(t, p.manager, b.value())
	setting(t, "k", 1)(t.Context(), s)
	oops := errors.New("oops")
	p.store.fail("Save", oops)
	if err := s.Save(t.Context()); !errors.Is(err, oops) {
		t.Errorf("Save: %v", err)
	}
	p.store.fail("Save", nil)
	if err := s.End(t.Context()); !errors.Is(err, oops) {
		t.Errorf("End: %v", err)
	}
	if got := body(t, p, key); got != `{"k":0}` {
		t.Errorf("the values are %s", got)
	}
	p.store.fail("Get", oops)
	if s, err := p.manager.Open(t.Context(), b.value()); s != nil || !errors.Is(err, oops) {
		t.Errorf("Open: %v, %v", s, err)
	}
}

func TestASessionIsOpenedByItsKeyOrHandle(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Policy: session.Policy{RenewAfter: time.Minute}})
	b := devices(t, p, "phone")[0]
	var handle string
	var left *session.Session
	b.visit(func(_ context.Context, s *session.Session) { handle, left = s.Info().Handle, s })
	if err := left.Set("k", 1); !errors.Is(err, session.ErrTooLate) {
		t.Errorf("Set after the request: %v", err)
	}
	key := left.Key()
	p.clock.advance(20 * minute)
	for name, open := range map[string]func() (*session.Session, error){
		"key":    func() (*session.Session, error) { return p.manager.OpenKey(t.Context(), key) },
		"handle": func() (*session.Session, error) { return p.manager.OpenHandle(t.Context(), "ann", handle) },
	} {
		before, err := p.store.Store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		s, err := open()
		if err != nil {
			t.Fatal(err)
		}
		p.store.taken()
		ctx := t.Context()
		for what, err := range map[string]error{
			"Login": s.Login(ctx, "bob", session.Login{}), "Renew": s.Renew(ctx, 0),
		} {
			if !errors.Is(err, session.ErrTooLate) {
				t.Errorf("%s: %v", what, err)
			}
		}
		setting(t, name, 1)(ctx, s)
		ends(t, s)
		p.want("Save")
		if s.Token().Text() != "" || s.SetCookie().Text() != "" {
			t.Error("nobody is there to be told of a token")
		}
		after, err := p.store.Store.Get(t.Context(), key)
		if err != nil || !after.Expires.Equal(before.Expires) || after.Version == before.Version {
			t.Errorf("by %s: it was %v, and is %v, %v", name, before, after, err)
		}
	}
	if got := body(t, p, key); got != `{"handle":1,"key":1}` {
		t.Errorf("the values are %s", got)
	}
	for what, err := range map[string]error{
		"OpenKey":           openErr(p.manager.OpenKey(t.Context(), session.NewID(noon.Add(time.Hour)).Key())),
		"OpenKey of zero":   openErr(p.manager.OpenKey(t.Context(), session.Key{})),
		"OpenHandle":        openErr(p.manager.OpenHandle(t.Context(), "bob", handle)),
		"of another Name":   openErr(newSiteOn(t, p.clock, p.store, session.Options{Name: "other"}).manager.OpenKey(t.Context(), key)),
		"OpenHandle of one": openErr(p.manager.OpenHandle(t.Context(), "ann", "")),
	} {
		if !errors.Is(err, session.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func openErr(_ *session.Session, err error) error { return err }

func TestAConnectionPostponesTheIdleTimeout(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := devices(t, p, "phone")[0]
	s, err := p.manager.OpenKey(t.Context(), keyOf(b))
	if err != nil {
		t.Fatal(err)
	}
	p.store.taken()
	touch := func(want ...string) {
		t.Helper()
		p.clock.advance(20 * minute)
		for range 2 { // the second one has nothing to do
			if err := s.Touch(t.Context()); err != nil {
				t.Errorf("Touch: %v", err)
			}
		}
		p.want(want...)
	}
	touch("Touch")
	touch("Touch")
	b.visit(ending(t, (*session.Session).Destroy))
	p.clock.advance(20 * minute)
	for range 2 {
		if err := s.Touch(t.Context()); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Touch: %v", err)
		}
	}
	s = opens(t, p.manager, "")
	if err := s.Touch(t.Context()); err != nil {
		t.Errorf("Touch of an empty session: %v", err)
	}
}

func TestARequestSeesWhatItsSessionIsGivenElsewhere(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	b.visit(func(ctx context.Context, s *session.Session) {
		setting(t, "mine", 1)(ctx, s)
		other, err := p.manager.OpenKey(ctx, s.Key())
		if err != nil {
			t.Error(err)
			return
		}
		setting(t, "k", 5)(ctx, other)
		err = other.End(ctx)
		k, bad := session.Get[int](s, "k")
		if err != nil || bad != nil || k != 5 || !s.Has("mine") {
			t.Errorf("it sees %d and %v, %v, %v", k, s.Keys(), err, bad)
		}
		// In a function that must not use the session nobody waits for ever.
		err = session.Update(s, "n", func(n int) int {
			if other, bad = p.manager.OpenKey(ctx, s.Key()); bad == nil {
				setting(t, "k", 6)(ctx, other)
				bad = other.End(ctx)
			}
			return n + 1
		})
		if !errors.Is(err, session.ErrInvalid) || bad != nil {
			t.Errorf("%v, %v", err, bad)
		}
	})
	if got := body(t, p, key); got != `{"k":6,"mine":1}` {
		t.Errorf("the values are %s", got)
	}
}

func TestASessionIsHandedOnInAContext(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	s := opens(t, p.manager, "")
	ctx := session.NewContext(t.Context(), s)
	for what, find := range map[string]func(context.Context) (*session.Session, error){"FromContext": session.FromContext, "Session": p.manager.Session} {
		if found, err := find(ctx); found != s || err != nil {
			t.Errorf("%s = %v, %v", what, found, err)
		}
	}
	loggingIn(t, "ann", session.Login{})(ctx, s)
	if err := s.Save(ctx); err != nil {
		t.Error(err)
	}
	infos, err := collect(p.manager.Sessions(ctx, "ann"))
	if err != nil || len(infos) != 1 || !infos[0].Current {
		t.Errorf("Sessions = %+v, %v", infos, err)
	}
	if n, err := p.manager.RevokeUser(ctx, "ann"); n != 1 || err != nil {
		t.Errorf("RevokeUser = %d, %v", n, err)
	}
	if s.Token().Text() != "" {
		t.Error("after RevokeUser it has a token")
	}
}

func TestATokenHasTheNextNodeReadWhatWasSaved(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	away, err := session.NewManager(&laggingStore{p.store, map[session.Key]session.Record{}, time.Second}, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := opens(t, away, b.value())
	setting(t, "k", 1)(t.Context(), s)
	token := ends(t, s)
	sees := func(want int, open func() (*session.Session, error)) {
		t.Helper()
		s, err := open()
		if err != nil {
			t.Fatal(err)
		}
		k, err := session.Get[int](s, "k")
		check(t, "k", k, err, want)
	}
	byToken := func(token string) func() (*session.Session, error) {
		return func() (*session.Session, error) { return away.Open(t.Context(), token) }
	}
	sees(0, byToken(b.value()))
	sees(0, byToken(b.value()+"~?"))
	sees(1, byToken(token))
	b.visit(setting(t, "k", 2))
	sees(1, byToken(token))
	sees(2, func() (*session.Session, error) { return away.OpenKey(t.Context(), key) })
}

func TestAnUndecodableSessionIsNoEmptyOne(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	plant(t, p, key, `secret`)
	s := opens(t, p.manager, b.value())
	if err := s.Set("k", 1); !errors.Is(err, session.ErrUndecodable) {
		t.Errorf("Set: %v", err)
	}
	if err := s.End(t.Context()); !errors.Is(err, session.ErrUndecodable) {
		t.Errorf("End: %v", err)
	}
	if got := body(t, p, key); got != `secret` {
		t.Errorf("the values are %s", got)
	}
}

func TestNothingShowsATokenThatIsPrinted(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	s := opens(t, p.manager, "")
	loggingIn(t, "ann", session.Login{})(t.Context(), s)
	token := ends(t, s)
	type holder struct{ inner any }
	for _, shown := range []any{s, *s, s.Token(), s.SetCookie(), holder{s}, holder{s.Token()}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			if text := fmt.Sprintf(verb, shown); strings.Contains(text, token) || strings.Contains(text, fmt.Sprintf("%x", token)) {
				t.Errorf("%s of %T shows it", verb, shown)
			}
		}
	}
	if i := slices.IndexFunc(p.told(), func(e session.Event) bool { return strings.Contains(fmt.Sprintf("%+v", e), token) }); i >= 0 {
		t.Error("an event shows it")
	}
}
