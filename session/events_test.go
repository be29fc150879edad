package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// expect fails the test unless exactly these events were told, in this order.
// Of errors it compares what they are.
func (p *site) expect(what string, want ...session.Event) {
	p.t.Helper()
	got := p.told()
	for i := range min(len(got), len(want)) {
		if !errors.Is(got[i].Err, want[i].Err) {
			p.t.Errorf("%s: the error of %v is %v; want %v", what, got[i].Kind, got[i].Err, want[i].Err)
		}
		got[i].Err, want[i].Err = nil, nil
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		p.t.Errorf("%s: told %+v\nwant %+v", what, got, want)
	}
}

func keyOf(b *browser) (key session.Key) {
	b.site.t.Helper()
	id, err := session.ParseID(b.value())
	if err != nil {
		b.site.t.Fatal(err)
	}
	return id.Key()
}

func ending(t *testing.T, end func(*session.Session, context.Context) error) page {
	return func(ctx context.Context, s *session.Session) {
		if err := end(s, ctx); err != nil {
			t.Error(err)
		}
	}
}

func TestTheHookIsToldOfEachSessionsLife(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.browser()
	b.visit(nil)
	b.visit(func(_ context.Context, s *session.Session) { _ = s.Has("k") })
	b.visit(ending(t, (*session.Session).Destroy))
	p.expect("no session")

	b.visit(setting(t, "k", 1))
	visitor := keyOf(b)
	p.expect("a session", session.Event{Kind: session.EventCreated, Key: visitor})
	b.visit(setting(t, "k", 2))
	p.clock.advance(5 * minute)
	b.visit(nil)
	p.expect("a save and a touch")

	b.visit(loggingIn(t, "ann", session.Login{}))
	ann := keyOf(b)
	p.expect("a login", session.Event{Kind: session.EventRenewed, Key: ann, Old: visitor, User: "ann", Reason: session.ReasonLogin})
	b.visit(ending(t, func(s *session.Session, ctx context.Context) error { return s.Renew(ctx, 0) }))
	renewed := keyOf(b)
	p.expect("a renewal", session.Event{Kind: session.EventRenewed, Key: renewed, Old: ann, User: "ann"})

	other := p.browser()
	other.visit(loggingIn(t, "ann", session.Login{}))
	third := keyOf(other)
	p.expect("a login without a session", session.Event{Kind: session.EventCreated, Key: third, User: "ann", Reason: session.ReasonLogin})
	left := *b
	b.visit(ending(t, (*session.Session).Logout))
	p.expect("a logout", session.Event{Kind: session.EventDestroyed, Key: renewed, User: "ann", Reason: session.ReasonLogout})
	left.visit(nil)
	p.expect("what was logged out", session.Event{Kind: session.EventEnded, Key: renewed})

	p.clock.advance(hour)
	other.visit(nil)
	p.expect("an idle session", session.Event{Kind: session.EventExpired, Key: third})
	p.clock.advance(10 * oneDay)
	if _, err := p.store.PruneNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	other.visit(nil)
	p.expect("one that the store has forgotten", session.Event{Kind: session.EventUnknownID, Key: third})

	unknown := session.NewID(p.clock.Now().Add(hour))
	(&browser{site: p, cookie: "__Host-session=" + unknown.Secret()}).visit(nil)
	p.expect("a guess", session.Event{Kind: session.EventUnknownID, Key: unknown.Key()})
	(&browser{site: p, cookie: "__Host-session=guess"}).visit(nil)
	p.expect("what is no ID", session.Event{Kind: session.EventInvalidID})
}

func TestTheHookIsToldOfRevocationsAndLimits(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{UserLimit: session.UserLimit{Max: 3, Evict: true}})
	var browsers []*browser
	var keys []session.Key
	login := func() {
		b := p.browser()
		b.visit(loggingIn(t, "ann", session.Login{}))
		browsers, keys = append(browsers, b), append(keys, keyOf(b))
		p.clock.advance(time.Second)
	}
	for range 3 {
		login()
	}
	p.told()
	login()
	p.expect("a login over the limit",
		session.Event{Kind: session.EventCreated, Key: keys[3], User: "ann", Reason: session.ReasonLogin},
		session.Event{Kind: session.EventDestroyed, Key: keys[0], User: "ann", Reason: session.ReasonLimit})
	handle := infoOf(browsers[1]).Handle
	p.told()
	if err := p.manager.Revoke(t.Context(), "ann", handle); err != nil {
		t.Error(err)
	}
	p.expect("a revocation", session.Event{Kind: session.EventDestroyed, Key: keys[1], User: "ann", Reason: session.ReasonRevoked, Count: 1})
	if err := p.manager.Revoke(t.Context(), "ann", handle); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Revoke again: %v", err)
	}
	p.expect("a revocation of nothing")
	others := ending(t, func(_ *session.Session, ctx context.Context) error {
		_, err := p.manager.RevokeOthers(ctx)
		return err
	})
	browsers[3].visit(others)
	p.expect("a revocation of the others", session.Event{Kind: session.EventDestroyed, User: "ann", Reason: session.ReasonRevoked, Count: 1})
	browsers[3].visit(others)
	p.expect("a revocation of no others")
	login()
	p.told()
	for _, want := range []int64{2, 0} {
		if n, err := p.manager.RevokeUser(t.Context(), "ann"); n != want || err != nil {
			t.Errorf("RevokeUser = %d, %v; want %d", n, err, want)
		}
		if want > 0 {
			p.expect("a revocation of all", session.Event{Kind: session.EventDestroyed, User: "ann", Reason: session.ReasonRevoked, Count: 2})
		}
	}
	p.expect("a revocation of none")
}

func TestTheHookIsToldOfWhatFailsBehindAnAnswer(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Policy: session.Policy{RenewAfter: hour, IdleTimeout: 2 * hour}})
	b := p.browser()
	b.visit(loggingIn(t, "ann", session.Login{}))
	key := keyOf(b)
	p.told()
	down := errors.New("no database")

	p.store.fail("Touch", down)
	p.clock.advance(20 * minute)
	b.visit(nil)
	p.expect("a touch", session.Event{Kind: session.EventTouchFailed, Key: key, User: "ann", Err: down})
	p.store.fail("Touch", nil)

	p.store.fail("Renew", down)
	p.clock.advance(hour)
	b.visit(nil)
	p.expect("a renewal", session.Event{Kind: session.EventRenewFailed, Key: key, User: "ann", Err: down})
	p.store.fail("Renew", nil)
	b.visit(nil)
	p.expect("the next", session.Event{Kind: session.EventRenewed, Key: keyOf(b), Old: key, User: "ann"})
	key = keyOf(b)

	w := httptest.NewRecorder()
	p.manager.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := session.FromContext(r.Context())
		if err != nil {
			t.Error(err)
			return
		}
		w.WriteHeader(http.StatusOK)
		setting(t, "k", 1)(r.Context(), s)
		p.store.fail("Save", down)
	})).ServeHTTP(w, get(b.cookie))
	p.expect("a late save", session.Event{Kind: session.EventSaveFailed, Key: key, User: "ann", Err: down})
	p.store.fail("Save", nil)

	b.visit(func(ctx context.Context, s *session.Session) {
		setting(t, "k", 1)(ctx, s)
		if _, err := p.store.Store.Destroy(ctx, key); err != nil {
			t.Error(err)
		}
	})
	p.expect("a late save of what has ended", session.Event{Kind: session.EventSaveDropped, Key: key, User: "ann", Err: session.ErrNotFound})
}

func TestTheHookMayUseTheSession(t *testing.T) {
	t.Parallel()
	var kinds []session.EventKind
	p := newSite(t, session.Options{
		Policy: session.Policy{RenewAfter: hour, IdleTimeout: 2 * hour},
		OnEvent: func(ctx context.Context, e session.Event) {
			s, err := session.FromContext(ctx)
			if err != nil {
				t.Errorf("%v: %v", e.Kind, err)
				return
			}
			kinds = append(kinds, e.Kind)
			_, _, _, _ = s.Key(), s.User(), s.Info(), s.Keys()
			if e.Kind == session.EventCreated || e.Kind == session.EventUnknownID {
				setting(t, "kind", e.Kind.String())(ctx, s)
			}
		},
	})
	b := &browser{site: p, cookie: "__Host-session=" + session.NewID(noon.Add(hour)).Secret()}
	b.visit(nil)
	b.visit(loggingIn(t, "ann", session.Login{}))
	p.clock.advance(hour)
	b.visit(nil)
	b.visit(func(_ context.Context, s *session.Session) {
		kind, err := session.Get[string](s, "kind")
		check(t, "what the hook has set", kind, err, session.EventCreated.String())
	})
	b.visit(ending(t, (*session.Session).Destroy))
	want := []session.EventKind{session.EventUnknownID, session.EventCreated, session.EventRenewed, session.EventRenewed, session.EventDestroyed}
	if fmt.Sprint(kinds) != fmt.Sprint(want) {
		t.Errorf("told %v; want %v", kinds, want)
	}
}
