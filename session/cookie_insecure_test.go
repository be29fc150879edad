package session_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

func TestASecureCookieOverPlainHTTPIsAClearErrorUnlessTheHostIsLocal(t *testing.T) {
	t.Parallel()
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, test := range []struct {
		what, host string
		prepare    func(*http.Request)
		ok         bool
	}{
		{"a host", "www.example.com", nil, false},
		{"a host and port", "www.example.com:8080", nil, false},
		{"no host", "", nil, false},
		{"an address", "192.0.2.1", nil, false},
		{"a private address", "10.0.0.1:80", nil, false},
		{"an address of version 6", "[2001:db8::1]:80", nil, false},
		{"a host that begins local", "localhost.example.com", nil, false},
		{"a host that ends like local", "notlocalhost", nil, false},
		{"a host that begins like local", "127.0.0.1.example.com", nil, false},
		{"HTTP at a proxy", "www.example.com", header("X-Forwarded-Proto", "http"), false},
		{"HTTP at a proxy of the standard", "www.example.com", header("Forwarded", "for=192.0.2.1;proto=http"), false},
		{"HTTP at the first of proxies", "www.example.com", header("X-Forwarded-Proto", "http, https"), false},

		{"localhost", "localhost", nil, true},
		{"localhost and port", "localhost:8080", nil, true},
		{"localhost in full", "LOCALHOST.:8080", nil, true},
		{"a subdomain of localhost", "app.localhost", nil, true},
		{"a subdomain and port", "app.localhost:3000", nil, true},
		{"a loopback address", "127.0.0.1:8080", nil, true},
		{"another loopback address", "127.1.2.3", nil, true},
		{"a loopback address of version 6", "[::1]:8080", nil, true},
		{"one without port", "[::1]", nil, true},
		{"TLS", "www.example.com", func(r *http.Request) { r.TLS = &tls.ConnectionState{} }, true},
		{"a proxy", "www.example.com", header("X-Forwarded-Proto", "https"), true},
		{"a loud proxy", "www.example.com", header("X-Forwarded-Proto", "HTTPS"), true},
		{"two proxies", "www.example.com", header("X-Forwarded-Proto", "https, http"), true},
		{"a proxy of the standard", "www.example.com", header("Forwarded", "for=192.0.2.1; Proto=https; by=203.0.113.4"), true},
		{"a proxy that quotes", "www.example.com", header("Forwarded", `for="[2001:db8::1]";proto="https"`), true},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			p := newSite(t, session.Options{})
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			if r.Host = test.host; test.prepare != nil {
				test.prepare(r)
			}
			res := p.serve(r, setting(t, "k", 1))
			if test.ok {
				if p.want("Create"); res.StatusCode != http.StatusOK || len(res.Cookies()) != 1 {
					t.Errorf("status %d, %d cookies", res.StatusCode, len(res.Cookies()))
				}
				return
			}
			text, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if p.want(); res.StatusCode != http.StatusInternalServerError || len(res.Cookies()) > 0 {
				t.Errorf("status %d, %d cookies; want 500 and none", res.StatusCode, len(res.Cookies()))
			}
			for _, hint := range []string{"plain HTTP", "X-Forwarded-Proto", "Options.HTTPS", "Options.Cookie.Insecure"} {
				if !strings.Contains(string(text), hint) {
					t.Errorf("the answer does not speak of %s: %s", hint, text)
				}
			}
		})
	}
}

func TestOptionsHTTPSDecidesAlone(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{true, false} {
		p := newSite(t, session.Options{HTTPS: func(*http.Request) bool { return secure }})
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("X-Forwarded-Proto", map[bool]string{true: "http", false: "https"}[secure])
		if res := p.serve(r, setting(t, "k", 1)); (res.StatusCode == http.StatusOK) != secure {
			t.Errorf("HTTPS says %v: status %d", secure, res.StatusCode)
		}
	}
}

func TestOverPlainHTTPALoginFailsAndASessionIsStillRead(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.browser()
	b.visit(setting(t, "k", 1))
	p.store.taken()
	r := httptest.NewRequest(http.MethodGet, "http://www.example.com/", nil)
	r.Header.Set("Cookie", b.cookie)
	res := p.serve(r, func(ctx context.Context, s *session.Session) {
		if !s.Has("k") {
			t.Error("the session is not read")
		}
		if err := s.Login(ctx, "ann", session.Login{}); !errors.Is(err, session.ErrInsecure) {
			t.Errorf("Login: %v; want ErrInsecure", err)
		}
		if err := s.Renew(ctx, 0); !errors.Is(err, session.ErrInsecure) {
			t.Errorf("Renew: %v; want ErrInsecure", err)
		}
		if s.User() != "" || !s.Has("k") {
			t.Error("what failed has changed the session")
		}
	})
	if p.want("Get"); res.StatusCode != http.StatusOK || len(res.Cookies()) > 0 {
		t.Errorf("status %d, %d cookies", res.StatusCode, len(res.Cookies()))
	}
	insecure := newSite(t, session.Options{Cookie: session.Cookie{Insecure: true}})
	if res := insecure.serve(httptest.NewRequest(http.MethodGet, "http://www.example.com/", nil), setting(t, "k", 1)); len(res.Cookies()) != 1 {
		t.Error("an insecure cookie is not set over plain HTTP")
	}
}

func TestCachesAreToldOfTheCookie(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	serve := func(cookie string, handler func(http.ResponseWriter, *http.Request)) (http.Header, string) {
		w := httptest.NewRecorder()
		p.manager.Handler(http.HandlerFunc(handler)).ServeHTTP(w, get(cookie))
		header := w.Result().Header
		for _, c := range w.Result().Cookies() {
			cookie = c.Name + "=" + c.Value
		}
		return header, cookie
	}
	public := func(w http.ResponseWriter) { w.Header().Set("Cache-Control", "public, max-age=3600") }
	header, cookie := serve("", func(w http.ResponseWriter, r *http.Request) {
		public(w)
		s, err := session.FromContext(r.Context())
		if err != nil {
			t.Error(err)
			return
		}
		setting(t, "k", 1)(r.Context(), s)
	})
	if got := header.Values("Cache-Control"); !slices.Equal(got, []string{"no-store"}) {
		t.Errorf("with the cookie: Cache-Control: %q; want no-store", got)
	}
	for _, vary := range [][]string{nil, {"Accept"}, {"Cookie"}, {"Accept", "Cookie"}, {"Accept, cookie , Origin"}} {
		header, _ = serve(cookie, func(w http.ResponseWriter, r *http.Request) {
			public(w)
			w.Header()["Vary"] = slices.Clone(vary)
			if _, err := session.FromContext(r.Context()); err != nil {
				t.Error(err)
			}
			if _, err := session.FromContext(r.Context()); err != nil {
				t.Error(err)
			}
		})
		all := strings.ToLower(strings.Join(header.Values("Vary"), ","))
		if strings.Count(all, "cookie") != 1 || !strings.HasPrefix(all, strings.ToLower(strings.Join(vary, ","))) {
			t.Errorf("asked, and the handler says %q: Vary: %q", vary, all)
		}
		if got := header.Get("Cache-Control"); got != "public, max-age=3600" || len(header.Values("Set-Cookie")) > 0 {
			t.Errorf("without a new cookie: Cache-Control: %q", got)
		}
	}
	header, _ = serve(cookie, func(w http.ResponseWriter, _ *http.Request) { public(w) })
	if len(header.Values("Vary")) > 0 || header.Get("Cache-Control") != "public, max-age=3600" {
		t.Errorf("not asked: Vary %q, Cache-Control %q", header.Values("Vary"), header.Get("Cache-Control"))
	}
	p.store.taken()
	header, _ = serve(cookie, func(w http.ResponseWriter, r *http.Request) {
		public(w)
		s, err := session.FromContext(r.Context())
		if err == nil {
			err = s.Logout(r.Context())
		}
		if err != nil {
			t.Error(err)
		}
	})
	if got := header.Get("Clear-Site-Data"); got != `"cache", "cookies", "storage"` || header.Get("Cache-Control") != "no-store" {
		t.Errorf("logout: Clear-Site-Data: %s; Cache-Control: %s", got, header.Get("Cache-Control"))
	}
	p.want("Get", "Destroy")
}

func TestDestroyDoesNotClearTheSite(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.browser()
	b.visit(setting(t, "k", 1))
	res := b.visit(func(ctx context.Context, s *session.Session) {
		if err := s.Destroy(ctx); err != nil {
			t.Error(err)
		}
	})
	if res.Header.Get("Clear-Site-Data") != "" || b.cookie != "" {
		t.Errorf("Clear-Site-Data %q, cookie left: %v", res.Header.Get("Clear-Site-Data"), b.cookie != "")
	}
}
