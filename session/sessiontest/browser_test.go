package sessiontest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

// newManager makes a manager of a store of its own.
func newManager(t testing.TB, opts session.Options) *session.Manager {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	m, err := session.NewManager(memory.Open(t, nil), opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// shop is the service that the tests of this file test.
func shop(m *session.Manager) http.Handler {
	mux := http.NewServeMux()
	page := func(pattern string, do func(w http.ResponseWriter, r *http.Request, s *session.Session) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s, err := session.FromContext(r.Context())
			if err == nil {
				err = do(w, r, s)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	page("GET /cart", func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		cart, err := session.Get[[]string](s, "cart")
		fmt.Fprint(w, s.User(), cart)
		return err
	})
	page("POST /cart", func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		err := session.Update(s, "cart", func(cart []string) []string { return append(cart, r.FormValue("item")) })
		http.Redirect(w, r, "/cart", http.StatusSeeOther)
		return errors.Join(err, s.Flash("added "+r.FormValue("item")))
	})
	page("POST /logout", func(_ http.ResponseWriter, r *http.Request, s *session.Session) error { return s.Logout(r.Context()) })
	return http.NewCrossOriginProtection().Handler(m.Handler(m.RequireCSRF(mux)))
}

func text(t testing.TB, answer *http.Response) string {
	t.Helper()
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

func TestTheCartOfAUser(t *testing.T) {
	t.Parallel()
	sessions := newManager(t, session.Options{})
	handler := shop(sessions)

	b := sessiontest.NewBrowser(t, sessions, handler)
	b.Login("alice") // without the form
	if answer := b.PostForm("/cart", url.Values{"item": {"book"}}); answer.StatusCode != http.StatusSeeOther {
		t.Errorf("the answer is %s", answer.Status)
	}
	if got := text(t, b.Get("/cart")); got != "alice[book]" {
		t.Errorf("the page says %s", got)
	}
	if cart := sessiontest.Value[[]string](b, "cart"); !slices.Equal(cart, []string{"book"}) {
		t.Errorf("the cart has %v", cart)
	}
	b.Session(func(s *session.Session) error {
		flashes, err := session.Flashes[string](s)
		if !slices.Equal(flashes, []string{"added book"}) {
			t.Errorf("the flashes are %v", flashes)
		}
		return err
	})
	b.PostForm("/logout", nil)
	if user := b.User(); user != "" {
		t.Errorf("%s is still logged in", user)
	}
}

func TestARequestWithASession(t *testing.T) {
	t.Parallel()
	sessions := newManager(t, session.Options{})
	r := httptest.NewRequest("GET", "/cart", nil)
	r = sessiontest.Request(t, sessions, r, func(s *session.Session) error {
		return errors.Join(s.Login(r.Context(), "alice", session.Login{}), s.Set("cart", []string{"book"}))
	})
	w := httptest.NewRecorder()
	shop(sessions).ServeHTTP(w, r)
	if got := w.Body.String(); got != "alice[book]" {
		t.Errorf("the page says %s", got)
	}
}

// What a handler may need of its request, whoever has made that.
func TestABrowsersRequestsAreAsFromAServer(t *testing.T) {
	t.Parallel()
	m := newManager(t, session.Options{Address: func(r *http.Request) netip.Addr { return netip.MustParseAddrPort(r.RemoteAddr).Addr() }})
	b := sessiontest.NewBrowser(t, m, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := session.FromContext(r.Context())
		if err == nil {
			err = s.Login(r.Context(), "ann", session.Login{})
		}
		body, bodyErr := io.ReadAll(r.Body)
		fmt.Fprint(w, r.Method, " ", r.Host, " ", r.RequestURI, " ", r.TLS != nil, " ", string(body), errors.Join(err, bodyErr))
	})))
	client := func(method, address string, body io.Reader) *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), method, address, body)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for want, r := range map[string]*http.Request{
		"GET example.com / true <nil>":           httptest.NewRequest(http.MethodGet, "/", nil),
		"PUT example.com /a?b=c true text<nil>":  httptest.NewRequest(http.MethodPut, "/a?b=c", strings.NewReader("text")),
		"GET example.com /client true <nil>":     client(http.MethodGet, "/client", nil),
		"GET shop.example /d true <nil>":         client(http.MethodGet, "https://shop.example/d", nil),
		"POST shop.example:8443 /e true x<nil>":  client(http.MethodPost, "https://shop.example:8443/e", strings.NewReader("x")),
		"GET localhost http://localhost/f false": httptest.NewRequest(http.MethodGet, "http://localhost/f", nil),
	} {
		if got := text(t, b.Do(r)); !strings.HasPrefix(got, want) {
			t.Errorf("got %q; want %q", got, want)
		}
	}
	if b.User() != "ann" {
		t.Error("the login at a page is not kept")
	}
}

func TestABrowserGoesWhereTheCookieGoes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts    session.Options
		address string
		header  http.Header
	}{
		"a domain":       {session.Options{Cookie: session.Cookie{Domain: "shop.example"}}, "https://www.shop.example/", nil},
		"a path":         {session.Options{Cookie: session.Cookie{Path: "/app"}}, "https://example.com/app/", nil},
		"another name":   {session.Options{Name: "admin"}, "", nil},
		"no TLS":         {session.Options{Cookie: session.Cookie{Insecure: true}}, "http://app.test:8080/", nil},
		"signed":         {session.Options{Cookie: session.Cookie{SigningKeys: session.Secrets(strings.Repeat("k", 32))}}, "", nil},
		"always renewed": {session.Options{Policy: session.Policy{RenewAfter: 1, RenewGrace: -1}}, "", nil},
		"a proxy's word": {session.Options{HTTPS: func(r *http.Request) bool { return r.Header.Get("X-Tls") == "on" }}, "", http.Header{"X-Tls": {"on"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newManager(t, test.opts)
			b := sessiontest.NewBrowser(t, m, shop(m))
			if test.address != "" {
				b.Address = test.address
			}
			if test.header != nil {
				b.Header = test.header
			}
			b.Login("ann")
			b.Session(func(s *session.Session) error { return s.Set("k", 1) })
			if b.User() != "ann" || sessiontest.Value[int](b, "k") != 1 || sessiontest.Value[int](b, "none") != 0 {
				t.Error("the session is not kept")
			}
			other := sessiontest.NewBrowser(t, m, shop(m))
			other.Address, other.Header = b.Address, b.Header
			if other.User() != "" {
				t.Error("another browser has the session")
			}

			r := httptest.NewRequest(http.MethodGet, b.Address+"x", nil)
			for field, values := range test.header {
				r.Header[field] = values
			}
			r = sessiontest.Request(t, m, r, func(s *session.Session) error { return s.Set("k", 2) })
			m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				s, err := session.FromContext(r.Context())
				if err != nil || !s.Has("k") {
					t.Errorf("Request: the session has %v, %v", s.Keys(), err)
				}
			})).ServeHTTP(httptest.NewRecorder(), r)
		})
	}
}

func TestABrowserIsUsedConcurrently(t *testing.T) {
	t.Parallel()
	m := newManager(t, session.Options{})
	b := sessiontest.NewBrowser(t, m, shop(m))
	b.Login("ann")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { b.PostForm("/cart", url.Values{"item": {fmt.Sprint(i)}}) })
	}
	wg.Wait()
	if n := len(sessiontest.Value[[]string](b, "cart")); n != 20 {
		t.Errorf("%d items; want 20", n)
	}
}

// watched is a test that may fail.
type watched struct {
	testing.TB
	said string
}

func (w *watched) Helper() {}
func (w *watched) Fatalf(format string, args ...any) {
	w.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
func (w *watched) Fatal(args ...any) { w.Fatalf("%s", fmt.Sprint(args...)) }

func TestWhatGoesWrongFailsTheTestWithTheCause(t *testing.T) {
	t.Parallel()
	nothing := func(*session.Session) error { return nil }
	down := newManager(t, session.Options{HTTPS: func(*http.Request) bool { return false }})
	for want, do := range map[string]func(t testing.TB){
		"plain HTTP": func(t testing.TB) { sessiontest.NewBrowser(t, down, nil).Login("ann") },
		"for path": func(t testing.TB) {
			b := sessiontest.NewBrowser(t, newManager(t, session.Options{Cookie: session.Cookie{Path: "/app"}}), nil)
			b.Session(func(s *session.Session) error { return s.Set("k", 1) })
		},
		"my own": func(t testing.TB) {
			sessiontest.NewBrowser(t, down, nil).Session(func(*session.Session) error { return errors.New("my own") })
		},
		"no int": func(t testing.TB) {
			b := sessiontest.NewBrowser(t, newManager(t, session.Options{}), nil)
			b.Session(func(s *session.Session) error { return s.Set("k", "text") })
			sessiontest.Value[int](b, "k")
		},
		"the session is empty": func(t testing.TB) {
			sessiontest.Request(t, newManager(t, session.Options{}), httptest.NewRequest(http.MethodGet, "/", nil), nothing)
		},
	} {
		w := &watched{TB: t}
		var wg sync.WaitGroup
		wg.Go(func() { do(w) })
		wg.Wait()
		if !strings.Contains(w.said, want) {
			t.Errorf("the test fails with %q; want %q", w.said, want)
		}
	}
}
