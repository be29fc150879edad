package session_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// answered is the header of an answer for which a handler sets some fields, and the
// cookie that the browser then has.
func (p *site) answered(cookie string, fields http.Header, do func(http.ResponseWriter, *http.Request)) (http.Header, string) {
	w := httptest.NewRecorder()
	p.manager.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range fields {
			w.Header()[name] = slices.Clone(values)
		}
		do(w, r)
	})).ServeHTTP(w, get(cookie))
	for _, c := range w.Result().Cookies() {
		cookie = c.Name + "=" + c.Value
	}
	return w.Result().Header, cookie
}

// with opens the session for a page.
func with(t *testing.T, do page) func(http.ResponseWriter, *http.Request) {
	return func(_ http.ResponseWriter, r *http.Request) {
		s, err := session.FromContext(r.Context())
		if err != nil {
			t.Error(err)
			return
		}
		do(r.Context(), s)
	}
}

func look(context.Context, *session.Session) {}

func TestCachesAreToldOfTheCookie(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	// What goes before Cache-Control in some caches: RFC 9213, and single products.
	goesBefore := []string{
		"CDN-Cache-Control", "Cdn-Cache-Control", "cdn-cache-control", "Cloudflare-CDN-Cache-Control", "Vercel-CDN-Cache-Control", "Netlify-CDN-Cache-Control",
		"Surrogate-Control", "Edge-Control", "X-Accel-Expires", "X-Litespeed-Cache-Control",
	}
	cacheable := http.Header{"Cache-Control": {"public, max-age=3600"}, "cache-control": {"public"}, "Expires": {"Fri, 01 Jan 2038 00:00:00 GMT"}}
	for _, name := range goesBefore {
		cacheable[name] = []string{"max-age=3600"}
	}
	fresh, cookie := p.answered("", cacheable, with(t, setting(t, "k", 1)))
	read, _ := p.answered(cookie, cacheable, with(t, look))
	gone, _ := p.answered(cookie, cacheable, with(t, loggingOut(t)))
	for what, header := range map[string]http.Header{"the cookie": fresh, "a session that was read": read, "a logout": gone} {
		for _, name := range goesBefore {
			if got := header[name]; len(got) > 0 {
				t.Errorf("with %s: %s: %q", what, name, got)
			}
		}
		want := "no-store"
		if what == "a session that was read" {
			want = "private, max-age=3600"
		} else if got := header.Values("Expires"); len(got) > 0 {
			t.Errorf("with %s: Expires: %q", what, got)
		}
		var got []string
		for name, values := range header {
			if strings.EqualFold(name, "Cache-Control") {
				got = append(got, values...)
			}
		}
		if !slices.Equal(got, []string{want}) {
			t.Errorf("with %s: Cache-Control: %q; want %s", what, got, want)
		}
	}
	header, _ := p.answered(cookie, cacheable, func(http.ResponseWriter, *http.Request) {})
	for name, values := range cacheable {
		if !slices.Equal(header[name], values) {
			t.Errorf("not asked: %s: %q", name, header[name])
		}
	}
	if len(header.Values("Vary")) > 0 {
		t.Errorf("not asked: Vary: %q", header.Values("Vary"))
	}
}

func TestAnswersThatHaveReadTheSessionArePrivate(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	_, cookie := p.answered("", nil, with(t, setting(t, "k", 1)))
	for given, want := range map[string]string{
		"":                                  "private",
		"public":                            "private",
		"public, max-age=60":                "private, max-age=60",
		"Public ,  Max-Age=60":              "private, Max-Age=60",
		"max-age=60":                        "private, max-age=60",
		"s-maxage=60, max-age=1":            "private, max-age=1",
		"no-cache":                          "private, no-cache",
		"private":                           "private",
		"private, max-age=60":               "private, max-age=60",
		`private="Set-Cookie", s-maxage=60`: "private",
		"no-store":                          "no-store",
		"no-store, max-age=0":               "no-store, max-age=0",
		"immutable, public, NO-STORE":       "immutable, public, NO-STORE",
	} {
		fields := http.Header{}
		if given != "" {
			fields.Set("Cache-Control", given)
		}
		header, _ := p.answered(cookie, fields, with(t, look))
		if got := header.Values("Cache-Control"); !slices.Equal(got, []string{want}) {
			t.Errorf("after %q: Cache-Control: %q; want %q", given, got, want)
		}
	}
	for _, vary := range [][]string{nil, {"Accept"}, {"Cookie"}, {"Accept", "Cookie"}, {"Accept, cookie , Origin"}} {
		header, _ := p.answered(cookie, http.Header{"Vary": vary}, func(w http.ResponseWriter, r *http.Request) {
			with(t, look)(w, r)
			with(t, look)(w, r)
		})
		all := strings.ToLower(strings.Join(header.Values("Vary"), ","))
		if strings.Count(all, "cookie") != 1 || !strings.HasPrefix(all, strings.ToLower(strings.Join(vary, ","))) {
			t.Errorf("the handler says %q: Vary: %q", vary, all)
		}
	}
}

func loggingOut(t *testing.T) page {
	return func(ctx context.Context, s *session.Session) {
		if err := s.Logout(ctx); err != nil {
			t.Error(err)
		}
	}
}

// A browser obeys Clear-Site-Data when it has taken the answer's cookies.
func TestClearSiteDataNeverActsAgainstACookieOfTheSameAnswer(t *testing.T) {
	t.Parallel()
	const all, storage = `"cookies", "storage"`, `"storage"`
	logout := loggingOut(t)
	login := loggingIn(t, "bob", session.Login{})
	own := func(w http.ResponseWriter) { http.SetCookie(w, &http.Cookie{Name: "theme", Value: "dark"}) }
	gone := func(w http.ResponseWriter) { http.SetCookie(w, &http.Cookie{Name: "theme", MaxAge: -1}) }
	for name, test := range map[string]struct {
		do     []page
		own    func(http.ResponseWriter)
		header string // of the handler's own
		want   string
		user   string // of the session that is left
		rows   int64
	}{
		"a logout":                     {do: []page{logout}, want: all},
		"a logout and a login":         {do: []page{logout, login}, want: storage, user: "bob", rows: 1},
		"a login and a logout":         {do: []page{login, logout}, want: all},
		"logouts and logins":           {do: []page{logout, login, logout, login}, want: storage, user: "bob", rows: 1},
		"a logout and a value":         {do: []page{logout, setting(t, "k", 1)}, want: storage, rows: 1},
		"a logout and a flash":         {do: []page{logout, func(_ context.Context, s *session.Session) { _ = s.Flash("bye") }}, want: storage, rows: 1},
		"a value and a logout":         {do: []page{setting(t, "k", 1), logout}, want: all},
		"a logout and another cookie":  {do: []page{logout}, own: own, want: storage},
		"a logout that clears another": {do: []page{logout}, own: gone, want: all},
		"the handler's own":            {do: []page{logout}, header: `"cache"`, want: `"cache"`},
		"the handler's own, a login":   {do: []page{logout, login}, header: `"cookies"`, want: "", user: "bob", rows: 1},
		"all of it, with a login":      {do: []page{login}, header: `"*"`, want: `"cache", "storage"`, user: "bob", rows: 1},
		"only the handler's own":       {do: []page{look}, header: `"*"`, want: `"*"`, user: "ann", rows: 1},
	} {
		p := newSite(t, session.Options{UserLimit: session.UserLimit{Max: 1}})
		_, cookie := p.answered("", nil, with(t, loggingIn(t, "ann", session.Login{})))
		header, after := p.answered(cookie, nil, func(w http.ResponseWriter, r *http.Request) {
			for _, do := range test.do {
				with(t, do)(w, r)
			}
			if test.own != nil {
				test.own(w)
			}
			if test.header != "" {
				w.Header().Set("Clear-Site-Data", test.header)
			}
		})
		if got := header.Get("Clear-Site-Data"); got != test.want {
			t.Errorf("%s: Clear-Site-Data: %s; want %s", name, got, test.want)
		}
		if n, err := p.store.Len(t.Context()); n != test.rows || err != nil {
			t.Errorf("%s: %d rows, %v; want %d", name, n, err, test.rows)
		}
		p.serve(get(after), func(_ context.Context, s *session.Session) {
			if s.User() != test.user {
				t.Errorf("%s: the user is %q; want %q", name, s.User(), test.user)
			}
		})
	}
}

func TestCookiesOfManagersInsideAndOutsideAreSpared(t *testing.T) {
	t.Parallel()
	shop := newSite(t, session.Options{Name: "shop"})
	plain := newSiteOn(t, shop.clock, shop.store, session.Options{})
	for name, pair := range map[string][2]*site{"outside": {shop, plain}, "inside": {plain, shop}} {
		out, in := pair[0].manager, pair[1].manager
		w := httptest.NewRecorder()
		out.Handler(in.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s, err := shop.manager.Session(r.Context())
			if err == nil {
				err = s.Set("cart", 1)
			}
			if err != nil {
				t.Error(err)
			}
			if s, err = plain.manager.Session(r.Context()); err == nil {
				err = s.Logout(r.Context())
			}
			if err != nil {
				t.Error(err)
			}
		}))).ServeHTTP(w, get(""))
		if got := w.Result().Header.Get("Clear-Site-Data"); got != `"storage"` || len(w.Result().Cookies()) != 1 {
			t.Errorf("%s: Clear-Site-Data: %s with %d cookies", name, got, len(w.Result().Cookies()))
		}
	}
}

// An error handler may show a page that is cached elsewhere.
func TestTheErrorHandlersPageIsNotCachedWithACookie(t *testing.T) {
	t.Parallel()
	for name, show := range map[string]func(http.ResponseWriter){
		"a status": func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
		"text":     func(w http.ResponseWriter) { _, _ = io.WriteString(w, "sorry") },
		"a copy":   func(w http.ResponseWriter) { _, _ = io.Copy(w, strings.NewReader("sorry")) },
		"a flush":  func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
		"nothing":  func(http.ResponseWriter) {},
	} {
		page := func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.Header().Set("Cache-Control", "public, max-age=60")
			w.Header().Set("CDN-Cache-Control", "max-age=60")
			show(w)
		}
		shop := newSite(t, session.Options{Name: "shop", ErrorHandler: page})
		inner := newSite(t, session.Options{})
		for _, cookies := range []int{1, 0} {
			shop.store.fail("Create", errLost)
			w := httptest.NewRecorder()
			shop.manager.Handler(inner.manager.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				for _, p := range []*site{shop, inner}[:1+cookies] {
					s, err := p.manager.Session(r.Context())
					if err == nil {
						err = s.Set("k", 1)
					}
					if err != nil {
						t.Error(err)
					}
				}
			}))).ServeHTTP(w, get(""))
			header, want := w.Result().Header, "no-store"
			if cookies == 0 {
				want = "private, max-age=60"
			}
			if len(header["Set-Cookie"]) != cookies || header.Get("Cache-Control") != want || header.Get("CDN-Cache-Control") != "" {
				t.Errorf("%s, %d cookies: the header is %v", name, cookies, header)
			}
		}
	}
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
