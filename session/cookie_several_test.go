package session_test

import (
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// jarBrowser keeps cookies as browsers do, and shows how they go with a request.
type jarBrowser struct {
	*testing.T
	jar http.CookieJar
	url *url.URL
	// strips is what a proxy strips off the path, if there is one.
	strips string
}

func newJar(t *testing.T, address string) *jarBrowser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return &jarBrowser{T: t, jar: jar, url: u}
}

func (b *jarBrowser) visit(p *site, do page) *http.Response {
	b.Helper()
	r := httptest.NewRequest(http.MethodGet, b.url.String(), nil)
	if b.strips != "" {
		r = httptest.NewRequest(http.MethodGet, "http://10.0.0.1:8080"+strings.TrimPrefix(b.url.Path, b.strips), nil)
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("X-Forwarded-Host", b.url.Host)
		r.Header.Set("X-Forwarded-Prefix", b.strips)
	}
	for _, c := range b.jar.Cookies(b.url) {
		r.AddCookie(c)
	}
	res := p.serve(r, do)
	b.jar.SetCookies(b.url, res.Cookies())
	return res
}

func (b *jarBrowser) is(p *site, user string) (set int) {
	b.Helper()
	res := b.visit(p, func(_ context.Context, s *session.Session) {
		if s.User() != user {
			b.Errorf("the user is %q; want %q", s.User(), user)
		}
	})
	return len(res.Header["Set-Cookie"])
}

// A change of Domain or Path leaves everybody with a cookie that is sent first.
func TestAStaleCookieOfTheSameNameHidesNoSessionAndIsCleared(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ before, after session.Cookie }{
		"from a domain to a host": {session.Cookie{Name: "sid", Domain: "example.com"}, session.Cookie{Name: "sid"}},
		"from a host to a domain": {session.Cookie{Name: "sid"}, session.Cookie{Name: "sid", Domain: "example.com"}},
		"from a path to the root": {session.Cookie{Name: "sid", Path: "/app"}, session.Cookie{Name: "sid"}},
		"from a longer path":      {session.Cookie{Name: "sid", Path: "/app/in"}, session.Cookie{Name: "sid", Path: "/app"}},
		"both, and signed": {
			session.Cookie{Name: "sid", Domain: "example.com", Path: "/app"}, session.Cookie{Name: "sid", Domain: "www.example.com", SigningKeys: session.Secrets(make([]byte, 32))},
		},
	} {
		t.Run(name, func(t *testing.T) { staleIsCleared(t, test.before, test.after, "") })
		t.Run(name+", behind a proxy", func(t *testing.T) { staleIsCleared(t, test.before, test.after, "/app") })
	}
}

func staleIsCleared(t *testing.T, before, after session.Cookie, strips string) {
	t.Parallel()
	old := newSite(t, session.Options{Cookie: before})
	p := newSiteOn(t, old.clock, old.store, session.Options{Cookie: after})
	b := newJar(t, "https://www.example.com/app/in")
	b.strips = strips
	b.visit(old, loggingIn(t, "ann", session.Login{}))
	old.clock.advance(oneDay) // it is dead by now
	b.visit(p, loggingIn(t, "ann", session.Login{}))
	if n := len(b.jar.Cookies(b.url)); n != 2 {
		t.Fatalf("%d cookies; want both", n)
	}
	if len(after.SigningKeys) > 0 { // what has no signature may be anybody's
		if set := b.is(p, "ann"); set > 0 {
			t.Errorf("%d cookies were set", set)
		}
		return
	}
	b.is(p, "ann")
	if n := len(b.jar.Cookies(b.url)); n != 1 {
		t.Errorf("%d cookies; want the live one", n)
	}
	if set := b.is(p, "ann"); set > 0 {
		t.Errorf("%d cookies were set again", set)
	}
}

func TestCookiesThatMayBeAnothersAreNotCleared(t *testing.T) {
	t.Parallel()
	opts := session.Options{Cookie: session.Cookie{Name: "sid"}}
	p := newSite(t, opts)
	b := p.browser()
	b.visit(loggingIn(t, "ann", session.Login{}))
	ended := p.browser()
	ended.visit(loggingIn(t, "bob", session.Login{}))
	ended.visit(ending(t, (*session.Session).Destroy))
	dead := p.browser()
	dead.visit(loggingIn(t, "bob", session.Login{}))
	left := dead.cookie
	dead.visit(ending(t, (*session.Session).Destroy))
	strange := "sid=" + session.NewID(noon.Add(time.Hour)).Secret() // of another service, perhaps
	for name, test := range map[string]struct {
		cookies []string
		clears  bool
	}{
		"an ended one":                        {[]string{left, b.cookie}, true},
		"an expired one":                      {[]string{"sid=" + session.NewID(noon.Add(-time.Hour)).Secret(), b.cookie}, true},
		"an unknown one":                      {[]string{strange, b.cookie}, false},
		"an ended one and an unknown one":     {[]string{left, strange, b.cookie}, false},
		"an ended one, and one behind":        {[]string{left, b.cookie, strange}, false},
		"garbage":                             {[]string{"sid=garbage", b.cookie}, false},
		"an ended one and garbage":            {[]string{left, "sid=garbage", b.cookie}, false},
		"the live one in front":               {[]string{b.cookie, left}, false},
		"another name":                        {[]string{strings.Replace(left, "sid", "other", 1), b.cookie}, false},
		"an ended one, and no other":          {[]string{left}, false},
		"an unknown one, and then no session": {[]string{strange, left}, false},
	} {
		r := get(strings.Join(test.cookies, "; "))
		res := p.serve(r, func(_ context.Context, s *session.Session) {
			if want := map[bool]string{true: "ann"}[slices.Contains(test.cookies, b.cookie)]; s.User() != want {
				t.Errorf("%s: the user is %q; want %q", name, s.User(), want)
			}
		})
		lines := res.Header["Set-Cookie"]
		if (len(lines) > 0) != test.clears {
			t.Errorf("%s: %d cookies are set: %q", name, len(lines), lines)
		}
		for _, c := range res.Cookies() {
			if c.MaxAge >= 0 || c.Domain == "" && c.Path == "/" || c.Domain == "www.example.com" && c.Path == "/" {
				t.Errorf("%s: a line is against the live cookie: %q", name, c)
			}
		}
		if test.clears && res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: Cache-Control: %q", name, res.Header.Get("Cache-Control"))
		}
	}
	// With __Host- there is one place only.
	host := newSiteOn(t, p.clock, p.store, session.Options{})
	live := host.browser()
	live.visit(loggingIn(t, "ann", session.Login{}))
	res := host.serve(get("__Host-session="+strings.TrimPrefix(left, "sid=")+"; "+live.cookie), nil)
	if lines := res.Header["Set-Cookie"]; len(lines) > 0 {
		t.Errorf("the cookies set are %q; want none", lines)
	}
}

func TestManyCookiesOfOneNameCostABoundedNumberOfReads(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.browser()
	b.visit(setting(t, "k", 1))
	p.store.taken()
	var many []string
	for range 1000 {
		many = append(many, "__Host-session="+session.NewID(noon.Add(time.Hour)).Secret())
	}
	p.serve(get(strings.Join(many, "; ")+"; "+b.cookie), func(_ context.Context, s *session.Session) {
		if s.Has("k") {
			t.Error("the last of a thousand was tried")
		}
	})
	gets := 0
	for _, call := range p.store.taken() {
		if call == "Get" {
			gets++
		}
	}
	if gets == 0 || gets > 4 {
		t.Errorf("the store was read %d times; want a few", gets)
	}
	// Garbage costs nothing.
	garbage := strings.Repeat("__Host-session=garbage; ", 8)
	p.serve(get(garbage+b.cookie), func(_ context.Context, s *session.Session) {
		if !s.Has("k") {
			t.Error("garbage hides the session")
		}
	})
	p.want("Get")
}
