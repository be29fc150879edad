//go:build unix

package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// Which hosts keep which cookies over plain HTTP.
func TestDevelopmentHostsKeepTheirCookies(t *testing.T) {
	strict := session.PolicyHigh()
	for name, test := range map[string]struct {
		opts session.Options
		host string
		who  string
	}{
		"localhost":                         {session.Options{}, "localhost", "alice: "},
		"a host below localhost":            {session.Options{}, "app.localhost", "alice: "},
		"the loopback address":              {session.Options{}, "127.0.0.1", "alice: "},
		"localhost, insecure":               {session.Options{Cookie: session.Cookie{Insecure: true}}, "localhost", "alice: "},
		"a development host":                {session.Options{}, "app.plain.test", ": "},
		"a development host, insecure":      {session.Options{Cookie: session.Cookie{Insecure: true}}, "app.insecure.test", "alice: "},
		"a development host, and strict":    {session.Options{Cookie: session.Cookie{Insecure: true}, Policy: strict}, "app.strict.test", "alice: "},
		"a domain of development, insecure": {session.Options{Cookie: session.Cookie{Insecure: true, Domain: "domain.test"}}, "app.domain.test", "alice: "},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, test.opts)
			s.plain(test.host)
			s.mux.HandleFunc("/in", func(_ http.ResponseWriter, r *http.Request) {
				one, err := session.FromContext(r.Context())
				if err == nil {
					err = one.Login(r.Context(), "alice", session.Login{})
				}
				if (err == nil) != (test.who == "alice: ") {
					t.Errorf("Login: %v", err)
				}
			})
			s.mux.HandleFunc("/all", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, len(r.CookiesNamed("secure"))) })
			s.mux.HandleFunc("/secure", func(w http.ResponseWriter, _ *http.Request) {
				http.SetCookie(w, &http.Cookie{Name: "secure", Value: "1", Path: "/", Secure: true})
			})
			report := s.run("/", `
				await ask("/in");
				await ask("/secure");
				return {who: await ask("/who"), secure: await ask("/all")};`)
			s.is(report, "who", test.who)
			secure := "0" // the browser has dropped it, without a word
			if test.host == "127.0.0.1" || strings.HasSuffix(test.host, "localhost") {
				secure = "1"
			}
			s.is(report, "secure", secure)
		})
	}
}

// behind has the browser visit the service by a proxy that ends TLS and, below a
// path, strips that.
func (s *site) behind(prefix string, tell func(http.Header, *http.Request)) {
	s.Helper()
	inner := s.listen()
	inner.Start()
	to, err := url.Parse(inner.URL)
	if err != nil {
		s.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(to)
		if path, below := strings.CutPrefix(p.In.URL.Path, prefix); below && !strings.HasSuffix(path, "/page") {
			p.Out.URL.Path = path
		}
		tell(p.Out.Header, p.In)
	}}
	outer := httptest.NewUnstartedServer(proxy)
	s.Cleanup(outer.Close)
	outer.StartTLS()
	s.address = s.at(outer, s.address.Hostname())
}

// What docs/http.md says of proxies: which headers they have to set.
func TestACookieGetsThroughAProxy(t *testing.T) {
	domain := func(s *site) string { return strings.TrimPrefix(s.address.Hostname(), "www.") }
	for name, test := range map[string]struct {
		cookie func(s *site) session.Cookie
		tell   func(h http.Header, r *http.Request)
		ok     bool
	}{
		"that says https": {nil, func(h http.Header, _ *http.Request) { h.Set("X-Forwarded-Proto", "https") }, true},
		"of the standard": {nil, func(h http.Header, r *http.Request) { h.Set("Forwarded", `proto=https;host="`+r.Host+`"`) }, true},
		"that says nothing, which looks like localhost": {nil, func(http.Header, *http.Request) {}, true},
		"that says http": {nil, func(h http.Header, r *http.Request) {
			h.Set("X-Forwarded-Proto", "http")
			h.Set("X-Forwarded-Host", r.Host)
		}, false},
		"that strips the cookie's path": {
			func(*site) session.Cookie { return session.Cookie{Path: "/app"} },
			func(h http.Header, _ *http.Request) {
				h.Set("X-Forwarded-Proto", "https")
				h.Set("X-Forwarded-Prefix", "/app")
			}, true,
		},
		"that strips it without a word": {
			func(*site) session.Cookie { return session.Cookie{Path: "/app"} },
			func(h http.Header, _ *http.Request) { h.Set("X-Forwarded-Proto", "https") }, false,
		},
		"with a cookie of the domain": {
			func(s *site) session.Cookie { return session.Cookie{Domain: domain(s)} },
			func(h http.Header, r *http.Request) {
				h.Set("X-Forwarded-Proto", "https")
				h.Set("X-Forwarded-Host", r.Host)
			}, true,
		},
		"with a cookie of the domain, without a word": {
			func(s *site) session.Cookie { return session.Cookie{Domain: domain(s)} },
			func(h http.Header, _ *http.Request) { h.Set("X-Forwarded-Proto", "https") }, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, session.Options{})
			if test.cookie != nil {
				s.manage(session.Options{Cookie: test.cookie(s)})
			}
			s.behind("/app", test.tell)
			s.mux.HandleFunc("/in", func(_ http.ResponseWriter, r *http.Request) {
				one, err := session.FromContext(r.Context())
				if err == nil {
					err = one.Login(r.Context(), "alice", session.Login{})
				}
				if (err == nil) != test.ok {
					t.Errorf("Login: %v", err)
				}
			})
			report := s.run("/app/", `
				await ask("/app/in");
				return {who: await ask("/app/who")};`)
			s.is(report, "who", map[bool]string{true: "alice: ", false: ": "}[test.ok])
		})
	}
}

// Cookies do not tell ports apart.
func TestServicesOfOneHostNeedNamesOfTheirOwn(t *testing.T) {
	for name, who := range map[string]string{"": ": ", "shop": "alice: "} {
		t.Run("named "+name, func(t *testing.T) {
			s, other := newSite(t, session.Options{}), anotherSite(t, session.Options{Name: name})
			other.address.Host = s.address.Hostname() + ":" + other.address.Port()
			report := s.run("/", fmt.Sprintf(`
				const other = %q;
				await ask("/login?as=alice");
				await fetch(other + "/login?as=bob", {mode: "no-cors", credentials: "include"});
				return {who: await ask("/who")};`, other.address.String()))
			s.is(report, "who", who)
			if n, err := other.store.Len(t.Context()); n != 1 || err != nil {
				t.Errorf("the other service has %d sessions, %v", n, err)
			}
		})
	}
}
