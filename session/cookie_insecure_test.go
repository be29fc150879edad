package session_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

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
		{"HTTP at the first of proxies of the standard", "www.example.com", header("Forwarded", "proto=http, proto=https"), false},
		{"a websocket in clear", "www.example.com", header("X-Forwarded-Proto", "ws"), false},
		{"a proxy on this machine", "localhost:3000", header("X-Forwarded-Host", "www.example.com"), false},
		{"a proxy of the standard on this machine", "127.0.0.1:3000", header("Forwarded", "host=www.example.com;proto=http"), false},
		{"a page of another host, by way of a proxy that says nothing", "localhost:3000", header("Origin", "http://www.example.com"), false},
		{"a page of another port of another host", "localhost:3000", header("Origin", "http://192.0.2.1:8080"), false},
		{"another parameter", "www.example.com", header("Forwarded", "for=x;by=proto=https"), false},

		{"localhost", "localhost", nil, true},
		{"localhost and port", "localhost:8080", nil, true},
		{"localhost in full", "LOCALHOST.:8080", nil, true},
		{"a subdomain of localhost", "app.localhost", nil, true},
		{"a subdomain and port", "app.localhost:3000", nil, true},
		{"a loopback address", "127.0.0.1:8080", nil, true},
		{"another loopback address", "127.1.2.3", nil, true},
		{"a loopback address of version 6", "[::1]:8080", nil, true},
		{"one without port", "[::1]", nil, true},
		{"a proxy for localhost", "localhost:3000", header("X-Forwarded-Host", "localhost:8080, app:3000"), true},
		{"a page of localhost", "localhost:3000", header("Origin", "http://localhost:5173"), true},
		{"a page of localhost by version 6", "localhost:3000", header("Origin", "http://[::1]:5173"), true},
		{"a page of a file", "localhost:3000", header("Origin", "null"), true},
		{"a login at another site", "localhost:3000", header("Origin", "https://login.example.com"), true},
		{"TLS", "www.example.com", func(r *http.Request) { r.TLS = &tls.ConnectionState{} }, true},
		{"a proxy", "www.example.com", header("X-Forwarded-Proto", "https"), true},
		{"a loud proxy", "www.example.com", header("X-Forwarded-Proto", "HTTPS"), true},
		{"two proxies", "www.example.com", header("X-Forwarded-Proto", "https, http"), true},
		{"a proxy of the standard", "www.example.com", header("Forwarded", "for=192.0.2.1; Proto=https; by=203.0.113.4"), true},
		{"a proxy that quotes", "www.example.com", header("Forwarded", `for="[2001:db8::1]";proto="https"`), true},
		{"a websocket at a proxy", "www.example.com", header("X-Forwarded-Proto", "wss"), true},
		{"a websocket at a proxy of the standard", "www.example.com", header("Forwarded", "proto=WSS"), true},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zap.DebugLevel)
			p := newSite(t, session.Options{Logger: zap.New(core)})
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
			told := logs.FilterMessageSnippet("cookie").All()
			if len(told) != 1 {
				t.Fatalf("the log was told %d times; want once", len(told))
			}
			for _, hint := range []string{"plain HTTP", "X-Forwarded-Proto", "Options.HTTPS", "Options.Cookie.Insecure", "httptest.NewRequest"} {
				if !strings.Contains(fmt.Sprint(told[0].ContextMap()["error"]), hint) {
					t.Errorf("the log does not speak of %s: %v", hint, told[0].ContextMap())
				}
				if strings.Contains(string(text), hint) {
					t.Errorf("the answer speaks of %s: %s", hint, text)
				}
			}
		})
	}
}

// A handler may drop the error of a login.
func TestACookieThatBrowsersWouldNotSendBackIsSaidOnceAndThenCounted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cookie session.Cookie
		url    string
		header string // of a proxy
		want   error
	}{
		"plain HTTP":                       {session.Cookie{}, "http://example.com/", "", session.ErrInsecure},
		"httptest.NewRequest by itself":    {session.Cookie{}, "/", "", session.ErrInsecure},
		"another domain":                   {session.Cookie{Domain: "example.org"}, "https://www.example.com/", "", session.ErrMisplaced},
		"a domain below":                   {session.Cookie{Domain: "www.example.com"}, "https://example.com/", "", session.ErrMisplaced},
		"a domain that ends like it":       {session.Cookie{Domain: "ample.com"}, "https://example.com/", "", session.ErrMisplaced},
		"a top-level domain":               {session.Cookie{Domain: "com"}, "https://example.com/", "", session.ErrMisplaced},
		"another path":                     {session.Cookie{Path: "/app"}, "https://example.com/login", "", session.ErrMisplaced},
		"a path that begins like it":       {session.Cookie{Path: "/app"}, "https://example.com/apple", "", session.ErrMisplaced},
		"its domain":                       {session.Cookie{Domain: "example.com"}, "https://EXAMPLE.com:8443/", "", nil},
		"a host of the domain":             {session.Cookie{Domain: ".example.com"}, "https://www.example.com/", "", nil},
		"its path":                         {session.Cookie{Path: "/app"}, "https://example.com/app", "", nil},
		"below its path":                   {session.Cookie{Path: "/app"}, "https://example.com/app/login", "", nil},
		"below its path with a slash":      {session.Cookie{Path: "/app/"}, "https://example.com/app/login", "", nil},
		"a proxy that sets another host":   {session.Cookie{Domain: "example.com"}, "https://10.0.0.1:8080/", "X-Forwarded-Host: www.example.com", nil},
		"another such proxy":               {session.Cookie{Domain: "example.com"}, "https://10.0.0.1:8080/", "Forwarded: host=www.example.com;proto=https", nil},
		"a proxy that strips a prefix":     {session.Cookie{Path: "/app"}, "https://example.com/login", "X-Forwarded-Prefix: /app/", nil},
		"a proxy that strips the path":     {session.Cookie{Path: "/app"}, "https://example.com/app/login", "X-Forwarded-Prefix: /site", session.ErrMisplaced},
		"a proxy that only tells a prefix": {session.Cookie{Path: "/app"}, "https://example.com/app/login", "X-Forwarded-Prefix: /app", nil},
		"a proxy that strips a long one":   {session.Cookie{Path: "/site/app"}, "https://example.com/login", "X-Forwarded-Prefix: /site/app", nil},
		"two proxies that strip":           {session.Cookie{Path: "/site/app"}, "https://example.com/login", "X-Forwarded-Prefix: /site, /app", nil},
		"a proxy that strips all":          {session.Cookie{Path: "/app/"}, "https://example.com/", "X-Forwarded-Prefix: /app", nil},
		"a proxy that strips nothing":      {session.Cookie{Path: "/app"}, "https://example.com/app", "X-Forwarded-Prefix: /", nil},
		"a proxy that strips another one":  {session.Cookie{Path: "/app"}, "https://example.com/login", "X-Forwarded-Prefix: /other", session.ErrMisplaced},
	} {
		core, logs := observer.New(zap.DebugLevel)
		p := newSite(t, session.Options{Cookie: test.cookie, Logger: zap.New(core)})
		visit := func(do page) *http.Response {
			r := httptest.NewRequest(http.MethodGet, test.url, nil)
			if field, value, ok := strings.Cut(test.header, ": "); ok {
				r.Header.Set(field, value)
			}
			return p.serve(r, do)
		}
		for range 100 {
			visit(func(ctx context.Context, s *session.Session) {
				if err := s.Login(ctx, "ann", session.Login{}); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
					t.Errorf("%s: Login: %v; want %v", name, err, test.want)
				}
			})
		}
		lines := logs.FilterMessageSnippet("cookie").Len()
		if test.want == nil {
			if lines > 0 {
				t.Errorf("%s: the log was told %d times", name, lines)
			}
			continue
		}
		if lines != 1 {
			t.Errorf("%s: the log was told %d times; want once", name, lines)
		}
		if res := visit(setting(t, "k", 1)); res.StatusCode != http.StatusInternalServerError || len(res.Cookies()) > 0 {
			t.Errorf("%s: Set: status %d with %d cookies", name, res.StatusCode, len(res.Cookies()))
		}
		if n, err := p.store.Len(t.Context()); n != 0 || err != nil {
			t.Errorf("%s: %d rows, %v", name, n, err)
		}
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
