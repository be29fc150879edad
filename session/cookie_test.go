package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func TestTheCookieHasExactlyTheseAttributes(t *testing.T) {
	t.Parallel()
	persistent := session.Policy{Persistent: true, AnonymousTimeout: time.Hour}
	for name, test := range map[string]struct {
		opts             session.Options
		name, attributes string
		age              string
	}{
		"the default":    {session.Options{}, "__Host-session", "; Path=/%s; HttpOnly; Secure; SameSite=Lax", ""},
		"a manager name": {session.Options{Name: "admin_2-x"}, "__Host-admin_2-x-session", "; Path=/%s; HttpOnly; Secure; SameSite=Lax", ""},
		"a domain": {session.Options{Cookie: session.Cookie{Domain: "example.com"}},
			"__Secure-session", "; Path=/; Domain=example.com%s; HttpOnly; Secure; SameSite=Lax", ""},
		"a path": {session.Options{Name: "app", Cookie: session.Cookie{Path: "/app"}},
			"__Secure-app-session", "; Path=/app%s; HttpOnly; Secure; SameSite=Lax", ""},
		"without TLS":    {session.Options{Cookie: session.Cookie{Insecure: true}}, "session", "; Path=/%s; HttpOnly; SameSite=Lax", ""},
		"a name":         {session.Options{Name: "app", Cookie: session.Cookie{Name: "sid"}}, "sid", "; Path=/%s; HttpOnly; Secure; SameSite=Lax", ""},
		"a host's name":  {session.Options{Cookie: session.Cookie{Name: "__Host-sid"}}, "__Host-sid", "; Path=/%s; HttpOnly; Secure; SameSite=Lax", ""},
		"a strict one":   {session.Options{Policy: session.PolicyHigh()}, "__Host-session", "; Path=/%s; HttpOnly; Secure; SameSite=Strict", ""},
		"one that stays": {session.Options{Policy: persistent}, "__Host-session", "; Path=/%s; HttpOnly; Secure; SameSite=Lax", "; Max-Age=3600"},
		"in partitions": {session.Options{Cookie: session.Cookie{Partitioned: true}, Policy: session.Policy{SameSite: http.SameSiteNoneMode}},
			"__Host-session", "; Path=/%s; HttpOnly; Secure; SameSite=None; Partitioned", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newSite(t, test.opts)
			b := p.browser()
			line := b.visit(setting(t, "k", 1)).Header.Get("Set-Cookie")
			if got, want := line, test.name+"="+b.value()+fmt.Sprintf(test.attributes, test.age); got != want {
				t.Errorf("Set-Cookie: %s\nwant: %s", got, want)
			}
			if _, err := session.ParseID(b.value()); err != nil {
				t.Errorf("the value is no ID: %v", err)
			}
			res := b.visit(func(ctx context.Context, s *session.Session) {
				if v, err := session.Get[int](s, "k"); v != 1 || err != nil {
					t.Errorf("Get = %d, %v", v, err)
				}
				if err := s.Logout(ctx); err != nil {
					t.Error(err)
				}
			})
			if got, want := res.Header.Get("Set-Cookie"), test.name+"="+fmt.Sprintf(test.attributes, "; Max-Age=0"); got != want {
				t.Errorf("Set-Cookie of the logout: %s\nwant: %s", got, want)
			}
		})
	}
}

func TestAPersistentCookieLastsUntilTheDeadline(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Policy: session.Policy{IdleTimeout: -1, AbsoluteTimeout: 10 * time.Hour, Persistent: true}})
	b := p.browser()
	maxAge := func(res *http.Response) string {
		for _, c := range res.Cookies() {
			return fmt.Sprint(c.MaxAge)
		}
		return "none"
	}
	if got := maxAge(b.visit(loggingIn(t, "ann", session.Login{}))); got != "36000" {
		t.Errorf("Max-Age of a login: %s; want 36000", got)
	}
	p.clock.advance(time.Hour + 300*time.Millisecond)
	if got := maxAge(b.visit(setting(t, "k", 1))); got != "none" {
		t.Errorf("Max-Age of a save: %s; want no cookie", got)
	}
	renew := func(ctx context.Context, s *session.Session) {
		if err := s.Renew(ctx, 0); err != nil {
			t.Error(err)
		}
	}
	if got := maxAge(b.visit(renew)); got != "32399" {
		t.Errorf("Max-Age after an hour: %s; want 32399", got)
	}
	p.clock.advance(9*time.Hour - 800*time.Millisecond)
	if got := maxAge(b.visit(renew)); got != "1" {
		t.Errorf("Max-Age half a second before the end: %s; want 1", got)
	}
}

func TestCookiesThatBrowsersWouldRefuseAreRefusedWithTheFieldsName(t *testing.T) {
	t.Parallel()
	long, short := make([]byte, 32), make([]byte, 31)
	for field, cookies := range map[string][]session.Cookie{
		"Name": {
			{Name: "__Host-sid", Domain: "example.com"},
			{Name: "__Host-sid", Path: "/app"},
			{Name: "__Host-sid", Insecure: true},
			{Name: "__HOST-sid", Path: "/app"},
			{Name: "__Secure-sid", Insecure: true},
			{Name: "__secure-sid", Insecure: true},
			{Name: "a b"}, {Name: "a=b"}, {Name: "a;b"}, {Name: "é"}, {Name: "a\r\nb"},
		},
		"Domain":      {{Domain: "exa mple.com"}, {Domain: "a;b"}, {Domain: "é.example"}, {Domain: "-a.example"}},
		"Path":        {{Path: "app"}, {Path: "/a;b"}, {Path: "/a\n"}},
		"Partitioned": {{Partitioned: true, Insecure: true}},
		"SigningKeys": {{SigningKeys: session.Secrets(long, short)}, {SigningKeys: session.Secrets("")}},
	} {
		for _, cookie := range cookies {
			_, err := session.NewManager(newSite(t, session.Options{}).store, session.Options{Cookie: cookie})
			if !errors.Is(err, session.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "Options.Cookie."+field+" ") && !strings.Contains(fmt.Sprint(err), "Options.Cookie."+field+"[") {
				t.Errorf("%q at %q%q: %v; want ErrInvalid that names Options.Cookie.%s", cookie.Name, cookie.Domain, cookie.Path, err, field)
			}
		}
	}
}

func TestTheFirstLiveOneOfSeveralCookiesCounts(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	ann, bob := p.browser(), p.browser()
	ann.visit(loggingIn(t, "ann", session.Login{}))
	bob.visit(loggingIn(t, "bob", session.Login{}))
	for cookie, want := range map[string]string{
		ann.cookie + "; " + bob.cookie:                      "ann",
		"other=1; " + bob.cookie + "; " + ann.cookie:        "bob",
		ann.name() + "=nonsense; " + ann.cookie:             "ann",
		ann.name() + "=; " + ann.cookie:                     "ann",
		"session=" + ann.value() + "; x" + bob.cookie:       "",
		strings.ToLower(ann.name()) + "=" + ann.value():     "",
		"x=\"" + ann.cookie + "\"; " + bob.cookie + "; y=1": "bob",
	} {
		p.serve(get(cookie), func(_ context.Context, s *session.Session) {
			if s.User() != want {
				t.Errorf("%d bytes of cookies are %q's; want %q's", len(cookie), s.User(), want)
			}
		})
	}
}

func TestWhatIsNoIDIsNoSessionAndNeverLookedUp(t *testing.T) {
	t.Parallel()
	key := [][]byte{make([]byte, 32)}
	for _, opts := range []session.Options{{}, {Cookie: session.Cookie{SigningKeys: session.Secrets(key...)}}} {
		p := newSite(t, opts)
		b := p.browser()
		b.visit(setting(t, "k", 1))
		p.want("Create")
		v := b.value()
		for what, value := range map[string]string{
			"nothing":           "",
			"one byte":          "A",
			"one less":          v[1:],
			"one less at end":   v[:len(v)-1],
			"one more":          v + "A",
			"one more in front": "A" + v,
			"another's cookie":  "s%3Aabc.def",
			"8 KB":              strings.Repeat("A", 8192),
			"8 KB more":         v + strings.Repeat("A", 8192),
			"quotes":            `"` + v + `"`,
			"percents":          "%" + fmt.Sprintf("%02X", v[0]) + v[1:],
			"percents for all":  strings.ReplaceAll(fmt.Sprintf("% X", v), " ", "%"),
			"a letter":          "é" + v[2:],
			"a wide letter":     "А" + v[2:],
			"no UTF-8":          "\xff" + v[1:],
			"a NUL":             "\x00" + v[1:],
			"a space":           v[:8] + " " + v[9:],
			"a comma":           v[:8] + "," + v[9:],
			"the other base64":  "+/" + v[2:],
			"padding":           v[:len(v)-1] + "=",
			"dots":              strings.Repeat(".", len(v)),
		} {
			cookie := b.name() + "=" + value
			res := p.serve(get(cookie), func(_ context.Context, s *session.Session) {
				if !s.Key().IsZero() || s.Has("k") || len(s.Keys()) > 0 {
					t.Errorf("%s: there is a session", what)
				}
			})
			if len(res.Cookies()) > 0 {
				t.Errorf("%s: the answer sets a cookie", what)
			}
			p.want()
			fresh := &browser{site: p, cookie: cookie}
			fresh.visit(setting(t, "k", 2))
			if p.want("Create"); fresh.cookie == cookie || fresh.cookie == b.cookie {
				t.Errorf("%s: the new session has no new ID", what)
			}
		}
		b.visit(func(_ context.Context, s *session.Session) {
			if v, err := session.Get[int](s, "k"); v != 1 || err != nil {
				t.Errorf("the session itself: %d, %v", v, err)
			}
		})
	}
}

func TestNothingButTheCookieNamesASession(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Cookie: session.Cookie{Name: "sid"}})
	b := p.browser()
	b.visit(loggingIn(t, "ann", session.Login{}))
	id := b.value()
	form := url.Values{"sid": {id}, "session": {id}, "token": {id}}.Encode()
	requests := map[string]*http.Request{
		"the address":    httptest.NewRequest(http.MethodGet, "https://www.example.com/?"+form, nil),
		"the path":       httptest.NewRequest(http.MethodGet, "https://www.example.com/"+id+";sid="+id, nil),
		"a form":         httptest.NewRequest(http.MethodPost, "https://www.example.com/", strings.NewReader(form)),
		"another cookie": get("session=" + id + "; Sid=" + id + "; sid2=" + id + "; __Host-sid=" + id),
	}
	requests["a form"].Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, field := range []string{"Authorization", "Sid", "Session", "X-Session", "X-Session-Id", "X-Auth-Token", "Cookie2", "Set-Cookie"} {
		for _, value := range []string{id, "sid=" + id, "Bearer " + id} {
			r := get("")
			r.Header.Set(field, value)
			requests[field+": "+value] = r
		}
	}
	for what, r := range requests {
		p.serve(r, func(_ context.Context, s *session.Session) {
			if s.User() != "" || !s.Key().IsZero() {
				t.Errorf("%s: the session of %s", what, s.User())
			}
		})
	}
}

func TestAnIDThatTheServerDidNotIssueIsNeverAdopted(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	planted := session.NewID(noon.Add(4 * time.Hour)) // for the deadline that it would get
	for what, begin := range map[string]page{
		"Set":   setting(t, "k", 1),
		"Login": loggingIn(t, "ann", session.Login{Policy: &session.Policy{AbsoluteTimeout: 4 * time.Hour}}),
	} {
		b := &browser{site: p, cookie: "__Host-session=" + planted.Secret()}
		b.visit(begin)
		if b.value() == planted.Secret() || b.value() == "" {
			t.Errorf("%s kept the ID that the request came with", what)
		}
		if _, err := p.store.Get(t.Context(), planted.Key()); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("%s: Get of the planted ID: %v; want ErrNotFound", what, err)
		}
	}
	b := &browser{site: p, cookie: "__Host-session=" + planted.Secret()}
	if res := b.visit(nil); len(res.Cookies()) > 0 {
		t.Error("an unknown ID made a request set or clear the cookie")
	}
}
