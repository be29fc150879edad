package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func TestOptionsOutOfRangeAreRefusedWithTheFieldsName(t *testing.T) {
	t.Parallel()
	store := newSite(t, session.Options{}).store
	for _, test := range []struct {
		opts session.Options
		says []string
	}{
		{session.Options{Name: strings.Repeat("a", 33)}, []string{"Options.Name", "33", "32"}},
		{session.Options{Name: "Shop"}, []string{"Options.Name", `'S'`}},
		{session.Options{Name: "a b"}, []string{"Options.Name", `' '`}},
		{session.Options{Name: "a\x1fb"}, []string{"Options.Name", `'\x1f'`}},
		{session.Options{Name: "é"}, []string{"Options.Name", `'é'`}},
		{session.Options{UserLimit: session.UserLimit{Max: -1}}, []string{"Options.UserLimit.Max", "-1"}},
		{session.Options{TouchInterval: hour}, []string{"Options.TouchInterval", "1h0m0s", "30m0s"}},
		{session.Options{Policy: session.Policy{RenewGrace: 2 * hour}}, []string{"Options.Policy.RenewGrace", "2h0m0s", "1h0m0s"}},
		{session.Options{Cookie: session.Cookie{Path: "x"}}, []string{"Options.Cookie.Path", `"x"`}},
	} {
		m, err := session.NewManager(store, test.opts)
		if m != nil || !errors.Is(err, session.ErrInvalid) {
			t.Errorf("%v: %v; want ErrInvalid", test.says, err)
		}
		for _, want := range test.says {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("the error does not say %s: %v", want, err)
			}
		}
	}
	if _, err := session.NewManager(nil, session.Options{}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("without a store: %v; want ErrInvalid", err)
	}
	for _, ok := range []session.Options{
		{Name: strings.Repeat("a", 32)}, {Name: "0_-"}, {TouchInterval: -hour}, {TouchInterval: 15 * minute}, {UserLimit: session.UserLimit{Evict: true}},
		{Cookie: session.Cookie{SigningKeys: session.Secrets(make([]byte, 32), make([]byte, 64))}},
	} {
		if _, err := session.NewManager(store, ok); err != nil {
			t.Errorf("%+v: %v", ok, err)
		}
	}
}

// plainStore has nothing but what a store must have.
type plainStore struct{ session.Store }

func (s plainStore) Get(ctx context.Context, key session.Key) (session.Record, error) {
	rec, err := s.Store.Get(ctx, key)
	if errors.Is(err, session.ErrNotFound) {
		err = session.ErrNotFound // it does not tell more
	}
	return rec, err
}

func TestAStoreOfTheSevenMethodsIsEnoughForAllButUsers(t *testing.T) {
	t.Parallel()
	origin := newSite(t, session.Options{})
	origin.clock.advance(time.Since(noon)) // a plain store tells no time
	store := plainStore{origin.store}
	if _, err := session.NewManager(store, session.Options{UserLimit: session.UserLimit{Max: 1}}); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "Options.UserLimit") {
		t.Errorf("UserLimit: %v; want ErrUnsupported that names it", err)
	}
	p := &site{t: t, clock: origin.clock, store: origin.store}
	var err error
	if p.manager, err = session.NewManager(store, session.Options{TouchInterval: -1, OnEvent: func(_ context.Context, e session.Event) {
		p.events = append(p.events, e)
	}}); err != nil {
		t.Fatal(err)
	}
	b := p.browser()
	b.visit(setting(t, "k", 1))
	b.visit(loggingIn(t, "ann", session.Login{Label: "phone"}))
	b.visit(ending(t, func(s *session.Session, ctx context.Context) error { return s.Renew(ctx, minute) }))
	b.visit(nil)
	b.visit(func(ctx context.Context, s *session.Session) {
		if err := session.Update(s, "k", func(n int) int { return n + 1 }); err != nil {
			t.Error(err)
		}
		if info := s.Info(); info.User != "ann" || info.Label != "phone" {
			t.Errorf("Info = %+v", info)
		}
		for what, call := range map[string]func() error{
			"DestroyOnAllNodes": func() error { return s.DestroyOnAllNodes(ctx) },
			"Sessions":          func() error { _, err := collect(p.manager.Sessions(ctx, "ann")); return err },
			"Export":            func() error { _, err := collect(p.manager.Export(ctx, "ann")); return err },
			"Revoke":            func() error { return p.manager.Revoke(ctx, "ann", s.Info().Handle) },
			"RevokeOthers":      func() error { _, err := p.manager.RevokeOthers(ctx); return err },
			"ChangeUser":        func() error { _, err := p.manager.ChangeUser(ctx, "ann", promote); return err },
			"OpenHandle":        func() error { _, err := p.manager.OpenHandle(ctx, "ann", s.Info().Handle); return err },
			"RevokeUser":        func() error { _, err := p.manager.RevokeUser(ctx, "ann"); return err },
			"All": func() error {
				for _, err := range p.manager.All(ctx) {
					return err
				}
				return nil
			},
		} {
			if err := call(); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s: %v; want ErrUnsupported", what, err)
			}
		}
		if err := s.Reload(ctx); err != nil {
			t.Errorf("Reload: %v", err)
		}
		setting(t, "k", 2)(ctx, s)
	})
	left := *b
	b.visit(func(ctx context.Context, s *session.Session) {
		k, err := session.Get[int](s, "k")
		check(t, "k", k, err, 2)
		if err := s.Logout(ctx); err != nil {
			t.Error(err)
		}
	})
	p.told()
	left.visit(nil)
	if events := p.told(); len(events) != 1 || events[0].Kind != session.EventUnknownID {
		t.Errorf("a store that is no Explainer: told %+v", events)
	}
}

func TestManagersWithTheSameCookieAreNotNested(t *testing.T) {
	t.Parallel()
	one, two := newSite(t, session.Options{}), newSite(t, session.Options{})
	w := httptest.NewRecorder()
	one.manager.Handler(two.manager.Handler(http.NotFoundHandler())).ServeHTTP(w, get(""))
	if res := w.Result(); res.StatusCode != http.StatusInternalServerError {
		t.Errorf("status %d; want 500", res.StatusCode)
	}
}
