package session_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/sojourn-go/sojourn/session"
)

func labels(infos []session.Info) string {
	var all []string
	for _, info := range infos {
		label := info.Label
		if info.Current {
			label += "*"
		}
		all = append(all, label)
	}
	return strings.Join(all, " ")
}

// devices logs ann in on some devices, a minute after the other.
func devices(t *testing.T, p *site, names ...string) []*browser {
	t.Helper()
	var all []*browser
	for _, name := range names {
		b := p.browser()
		b.visit(loggingIn(t, "ann", session.Login{Label: name}))
		p.clock.advance(minute)
		all = append(all, b)
	}
	return all
}

func TestUsersSeeTheirSessions(t *testing.T) {
	t.Parallel()
	addresses := map[string]string{
		"203.0.113.77": "203.0.113.0/24", "::ffff:203.0.113.77": "203.0.113.0/24", "2001:db8:1:2:3:4:5:6": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48", "": "",
	}
	agent := strings.Repeat("é", 99) + "a" + "é" // the last one is cut
	for from, network := range addresses {
		p := newSite(t, session.Options{RecordAgent: true, Address: func(*http.Request) netip.Addr {
			addr, _ := netip.ParseAddr(from)
			return addr
		}})
		r := get("")
		r.Header.Set("User-Agent", agent)
		p.serve(r, loggingIn(t, "ann", session.Login{Label: "phone"}))
		bob := p.browser()
		bob.visit(loggingIn(t, "bob", session.Login{}))
		infos, err := collect(p.manager.Sessions(t.Context(), "ann"))
		if err != nil || len(infos) != 1 {
			t.Fatalf("Sessions = %+v, %v", infos, err)
		}
		got := infos[0]
		if len(got.Key) != 32 {
			t.Errorf("the key is %q", got.Key)
		}
		if len(got.Handle) != 16 {
			t.Errorf("the ID is %q", got.Handle)
		}
		got.Key, got.Handle = "", ""
		want := session.Info{User: "ann", Created: noon, LastSeen: noon, Expires: noon.Add(30 * minute), Deadline: noon.Add(12 * hour),
			Label: "phone", Address: network, Agent: strings.Repeat("é", 99) + "a"}
		if got != want || !utf8.ValidString(got.Agent) {
			t.Errorf("from %q: %+v; want %+v", from, got, want)
		}
	}
	plain := newSite(t, session.Options{})
	r := get("")
	r.Header.Set("User-Agent", agent)
	plain.serve(r, loggingIn(t, "ann", session.Login{}))
	if infos, err := collect(plain.manager.Sessions(t.Context(), "ann")); err != nil || len(infos) != 1 || infos[0].Agent != "" || infos[0].Address != "" {
		t.Errorf("without the options: %+v, %v", infos, err)
	}
}

func TestASessionIsFollowedThroughItsLife(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.browser()
	if info := infoOf(b); info != (session.Info{}) {
		t.Errorf("without a session: %+v", info)
	}
	b.visit(setting(t, "cart", 1))
	authenticated := func(want string) {
		t.Helper()
		b.visit(func(_ context.Context, s *session.Session) {
			if got := s.AuthenticatedAt(); fmt.Sprint(got.Sub(noon)) != want && (want != "never" || !got.IsZero()) {
				t.Errorf("authenticated %v after noon; want %s", got.Sub(noon), want)
			}
		})
	}
	authenticated("never")
	p.clock.advance(minute)
	b.visit(loggingIn(t, "ann", session.Login{Label: "phone"}))
	authenticated("1m0s")
	p.clock.advance(10 * minute)
	b.visit(ending(t, func(s *session.Session, ctx context.Context) error { return s.Renew(ctx, 0) }))
	authenticated("1m0s")
	if got := infoOf(b); got.Created != noon.Add(minute) || got.LastSeen != noon.Add(11*minute) || got.Label != "phone" || !got.Current {
		t.Errorf("after a renewal: %+v", got)
	}
	b.visit(loggingIn(t, "ann", session.Login{Label: "the phone"}))
	authenticated("11m0s")
	b.visit(func(_ context.Context, s *session.Session) {
		cart, err := session.Get[int](s, "cart")
		check(t, "cart", cart, err, 1)
	})
	b.visit(loggingIn(t, "bob", session.Login{}))
	b.visit(func(_ context.Context, s *session.Session) {
		if s.Has("cart") || s.User() != "bob" || s.Info().Label != "" {
			t.Error("bob has something of ann's")
		}
	})
	if infos, err := collect(p.manager.Sessions(t.Context(), "ann")); err != nil || len(infos) > 0 {
		t.Errorf("ann has %+v, %v", infos, err)
	}
}

func TestUsersEndTheirSessions(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	all := devices(t, p, "phone", "laptop", "tablet", "tv")
	bob := p.browser()
	bob.visit(loggingIn(t, "bob", session.Login{Label: "bob's"}))
	list := func(b *browser, want string) {
		t.Helper()
		b.visit(func(ctx context.Context, s *session.Session) {
			infos, err := collect(p.manager.Sessions(ctx, "ann"))
			check(t, "Sessions", labels(infos), err, want)
		})
	}
	list(all[1], "phone laptop* tablet tv")
	list(bob, "phone laptop tablet tv")

	revoke := func(user, key string) page {
		return ending(t, func(_ *session.Session, ctx context.Context) error { return p.manager.Revoke(ctx, user, key) })
	}
	phone, tablet, bobs := infoOf(all[0]).Handle, infoOf(all[2]).Handle, infoOf(bob).Handle
	for _, key := range []string{bobs, "", phone[:15], strings.ToLower(phone), all[0].value(), keyOf(all[0]).String()} {
		if err := p.manager.Revoke(t.Context(), "ann", key); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Revoke of what ann has not: %v; want ErrNotFound", err)
		}
	}
	if res := all[1].visit(revoke("ann", phone)); len(res.Cookies()) > 0 {
		t.Error("to revoke another session set the cookie")
	}
	list(all[1], "laptop* tablet tv")
	if all[0].visit(nil); infoOf(all[0]).User != "" || all[0].cookie == "" {
		t.Error("the revoked session is there, or its cookie was cleared")
	}
	if all[2].visit(revoke("ann", tablet)); all[2].cookie != "" {
		t.Error("to revoke the request's own session did not clear the cookie")
	}
	all[1].visit(func(ctx context.Context, _ *session.Session) {
		n, err := p.manager.RevokeOthers(ctx)
		check(t, "RevokeOthers", n, err, 1)
	})
	list(all[1], "laptop*")
	more := devices(t, p, "phone", "tv")
	all[1].visit(func(ctx context.Context, s *session.Session) {
		setting(t, "late", 1)(ctx, s)
		n, err := p.manager.RevokeUser(ctx, "ann")
		check(t, "RevokeUser", n, err, 3)
		if s.User() != "" || s.Has("late") {
			t.Error("the request still has the session")
		}
	})
	if all[1].cookie != "" || infoOf(more[0]).User != "" || infoOf(bob).User != "bob" {
		t.Error("RevokeUser ended too little or too much")
	}
	p.browser().visit(func(ctx context.Context, _ *session.Session) {
		if _, err := p.manager.RevokeOthers(ctx); !errors.Is(err, session.ErrNoUser) {
			t.Errorf("RevokeOthers of nobody: %v; want ErrNoUser", err)
		}
	})
	if _, err := p.manager.RevokeOthers(t.Context()); !errors.Is(err, session.ErrNoManager) {
		t.Errorf("RevokeOthers of no request: %v; want ErrNoManager", err)
	}
}

func TestTheLimitOfSessionsHoldsAgainstConcurrentLogins(t *testing.T) {
	t.Parallel()
	for _, evict := range []bool{true, false} {
		p := newSite(t, session.Options{UserLimit: session.UserLimit{Max: 3, Evict: evict}})
		var refused atomic.Int64
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				p.serve(get(""), func(ctx context.Context, s *session.Session) {
					err := s.Login(ctx, "ann", session.Login{})
					if err == nil {
						err = s.Save(ctx)
					}
					if errors.Is(err, session.ErrUserLimit) && s.User() == "" && s.Key().IsZero() {
						refused.Add(1)
					} else if err != nil {
						t.Error(err)
					}
				})
			})
		}
		wg.Wait()
		infos, err := collect(p.manager.Sessions(t.Context(), "ann"))
		check(t, "sessions", len(infos), err, 3)
		if got, want := refused.Load(), map[bool]int64{true: 0, false: 47}[evict]; got != want {
			t.Errorf("%d logins were refused; want %d", got, want)
		}
		bob := p.browser()
		bob.visit(loggingIn(t, "bob", session.Login{}))
	}
}

func TestALoginAgainDoesNotCountTwice(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{UserLimit: session.UserLimit{Max: 1}})
	b := p.browser()
	for range 3 {
		b.visit(loggingIn(t, "ann", session.Login{}))
		b.visit(ending(t, func(s *session.Session, ctx context.Context) error { return s.Renew(ctx, 0) }))
	}
	before := b.cookie
	other := p.browser()
	other.visit(setting(t, "k", 1))
	kept := other.cookie
	other.visit(func(ctx context.Context, s *session.Session) {
		if err := s.Login(ctx, "ann", session.Login{}); !errors.Is(err, session.ErrUserLimit) {
			t.Errorf("Login: %v; want ErrUserLimit", err)
		}
		if s.User() != "" || !s.Has("k") {
			t.Error("a refused login has changed the session")
		}
	})
	if other.cookie != kept || infoOf(b).User != "ann" || b.cookie != before {
		t.Error("a refused login has changed a cookie or another session")
	}
}

func TestManagersOfDifferentNamesDoNotMeet(t *testing.T) {
	t.Parallel()
	shop := newSite(t, session.Options{Name: "shop", UserLimit: session.UserLimit{Max: 1}})
	plain := newSiteOn(t, shop.clock, shop.store, session.Options{UserLimit: session.UserLimit{Max: 1}})
	for _, p := range []*site{shop, plain} {
		b := p.browser()
		b.visit(loggingIn(t, "ann", session.Login{}))
		b.visit(setting(t, "of", p.manager == shop.manager))
	}
	for _, p := range []*site{shop, plain} {
		exports, err := collect(p.manager.Export(t.Context(), "ann"))
		if err != nil || len(exports) != 1 || exports[0].User != "ann" || string(exports[0].Values["of"]) != fmt.Sprint(p == shop) {
			t.Errorf("Export = %+v, %v", exports, err)
		}
		n := 0
		for one, err := range p.manager.All(t.Context()) {
			if n++; err != nil || one.Key != exports[0].Key {
				t.Errorf("All = %+v, %v", one, err)
			}
		}
		if n != 1 {
			t.Errorf("All has %d sessions", n)
		}
	}
	if n, err := plain.manager.RevokeUser(t.Context(), "ann"); n != 1 || err != nil {
		t.Errorf("RevokeUser = %d, %v", n, err)
	}
	if infos, err := collect(shop.manager.Sessions(t.Context(), "ann")); len(infos) != 1 || err != nil {
		t.Errorf("shop has %+v, %v", infos, err)
	}
}

func TestUsersThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	p.serve(get(""), func(ctx context.Context, s *session.Session) {
		for _, user := range []string{"", "\x1f", "a\x00", "a\n", "\x7f", "\xff"} {
			_, list := collect(p.manager.Sessions(ctx, user))
			_, export := collect(p.manager.Export(ctx, user))
			_, all := p.manager.RevokeUser(ctx, user)
			for what, err := range map[string]error{
				"Login": s.Login(ctx, user, session.Login{}), "Sessions": list, "Export": export, "RevokeUser": all, "Revoke": p.manager.Revoke(ctx, user, ""),
			} {
				if !errors.Is(err, session.ErrInvalid) {
					t.Errorf("%s of %q: %v; want ErrInvalid", what, user, err)
				}
			}
		}
		for _, label := range []string{strings.Repeat("a", 201), "\xff"} {
			if err := s.Login(ctx, "ann", session.Login{Label: label}); !errors.Is(err, session.ErrInvalid) || !strings.Contains(err.Error(), "Login.Label") || !strings.Contains(err.Error(), "200") {
				t.Errorf("Label of %d bytes: %v", len(label), err)
			}
		}
		if err := errors.Join(s.Login(ctx, strings.Repeat("a", 256), session.Login{}), s.Save(ctx)); !errors.Is(err, session.ErrTooLarge) {
			t.Errorf("a long user: %v; want ErrTooLarge", err)
		}
		if err := s.Login(ctx, strings.Repeat("é", 127), session.Login{Label: strings.Repeat("\n", 200)}); err != nil {
			t.Errorf("what is just right: %v", err)
		}
	})
}

// collect returns what a list has, and the error that ended it.
func collect[T any](list iter.Seq2[T, error]) (all []T, err error) {
	for one, err := range list {
		if err != nil {
			return all, err
		}
		all = append(all, one)
	}
	return all, nil
}

// pageStore counts the pages that are read of a user's sessions.
type pageStore struct {
	*spyStore
	pages int
	fails error
}

func (s *pageStore) ListUser(ctx context.Context, user string, after session.Record, most int) ([]session.Record, error) {
	if s.pages++; s.fails != nil && s.pages > 1 {
		return nil, s.fails
	}
	return s.spyStore.ListUser(ctx, user, after, most)
}

func TestListsOfAUserAreReadPageByPage(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	store := &pageStore{spyStore: p.store}
	m, err := session.NewManager(store, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const sessions, perPage = 1000, 500
	for range sessions {
		s := opens(t, m, "")
		loggingIn(t, "ann", session.Login{})(t.Context(), s)
		ends(t, s)
	}
	for range m.Sessions(t.Context(), "ann") {
		break
	}
	if store.pages != 1 {
		t.Errorf("one session was asked for, and %d pages were read", store.pages)
	}
	infos, err := collect(m.Sessions(t.Context(), "ann"))
	handles := map[string]bool{}
	for _, info := range infos {
		handles[info.Handle] = true
	}
	if err != nil || len(infos) != sessions || len(handles) != sessions {
		t.Errorf("Sessions = %d, %v, of which %d are different", len(infos), err, len(handles))
	}
	if exports, err := collect(m.Export(t.Context(), "ann")); err != nil || len(exports) != sessions {
		t.Errorf("Export = %d, %v", len(exports), err)
	}
	last := infos[sessions-1].Handle
	if s, err := m.OpenHandle(t.Context(), "ann", last); err != nil || s.Info().Handle != last {
		t.Errorf("OpenHandle of the last one: %v", err)
	}
	if done, err := m.ChangeUser(t.Context(), "ann", promote); err != nil || len(done.Changed) != sessions {
		t.Errorf("ChangeUser = %d, %v", len(done.Changed), err)
	}
	if err := m.Revoke(t.Context(), "ann", last); err != nil {
		t.Errorf("Revoke of the last one: %v", err)
	}
	store.pages, store.fails = 0, errors.New("oops")
	if infos, err := collect(m.Sessions(t.Context(), "ann")); !errors.Is(err, store.fails) || len(infos) != perPage {
		t.Errorf("Sessions = %d, %v; want those of the first page", len(infos), err)
	}
	store.fails = nil
	if n, err := m.RevokeUser(t.Context(), "ann"); n != sessions-1 || err != nil {
		t.Errorf("RevokeUser = %d, %v", n, err)
	}
}

func TestAnExportGoesOnAfterASessionThatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	all := devices(t, p, "phone", "tablet", "desktop")
	plant(t, p, keyOf(all[1]), `secret`)
	var told []string
	for one, err := range p.manager.Export(t.Context(), "ann") {
		if errors.Is(err, session.ErrUndecodable) {
			one.Label = "undecodable"
		} else if err != nil {
			t.Error(err)
		}
		told = append(told, one.Label)
	}
	if want := "phone undecodable desktop"; strings.Join(told, " ") != want {
		t.Errorf("Export has %v; want %s", told, want)
	}
}
