package sessiontest

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// Browser is a browser in a test of handlers. It sends requests to a handler, keeps
// the cookies of the answers, and does to its session what a test needs without the
// pages of the service. What goes wrong with a session fails the test, with the
// cause. It opens no connection. It may be used concurrently, once its fields are
// set.
type Browser struct {
	// Address is what relative addresses are relative to, https://example.com/ at
	// first. Set it where Cookie.Domain or Cookie.Path needs another one. Without
	// https browsers keep Secure cookies for localhost only, and this one for nobody.
	Address string
	// Header goes with each request, as what a proxy in front would add.
	Header http.Header

	t       testing.TB
	m       *session.Manager
	handler http.Handler
	mu      sync.Mutex
	cookies http.CookieJar
}

// NewBrowser makes a browser without cookies. handler answers its requests; m's
// Handler has to be in it, or around it.
func NewBrowser(t testing.TB, m *session.Manager, handler http.Handler) *Browser {
	t.Helper()
	b := &Browser{Address: "https://example.com/", Header: http.Header{}, t: t, m: m, handler: handler}
	b.forget()
	return b
}

func (b *Browser) forget() {
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatalf("sessiontest: %v", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cookies = jar
}

func (b *Browser) jar() http.CookieJar {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cookies
}

// Do sends a request of httptest.NewRequest or http.NewRequest, with the cookies, and
// returns the answer, whose body need not be closed. A request without a host, or
// with the one of httptest.NewRequest, goes to the host of Address. Redirects are the
// test's to follow.
func (b *Browser) Do(r *http.Request) *http.Response {
	b.t.Helper()
	return b.send(b.handler, r)
}

// Get sends a GET.
func (b *Browser) Get(address string) *http.Response {
	b.t.Helper()
	return b.Do(b.request(http.MethodGet, address, ""))
}

// PostForm sends a form as a page of the service would: with a CSRF token, in the
// field session.CSRFHeader of the header.
func (b *Browser) PostForm(address string, form url.Values) *http.Response {
	b.t.Helper()
	r := b.request(http.MethodPost, address, form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	b.Session(func(s *session.Session) error {
		token, err := s.CSRFToken()
		r.Header.Set(session.CSRFHeader, token)
		return err
	})
	return b.Do(r)
}

// Session calls do with the browser's session, in a request of its own, to look at
// it or to change it. What do changes is saved when Session returns. An error of do
// fails the test.
func (b *Browser) Session(do func(*session.Session) error) {
	b.t.Helper()
	err := errors.New("the manager did not call its handler")
	b.send(b.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var s *session.Session
		if s, err = b.m.Session(r.Context()); err == nil {
			err = do(s)
		}
		if err == nil {
			err = s.Save(r.Context())
		}
	})), b.request(http.MethodGet, "", ""))
	if err != nil {
		b.t.Fatalf("sessiontest: the session of the browser: %v", err)
	}
}

// Login logs a user in, without a password.
func (b *Browser) Login(user string) {
	b.t.Helper()
	b.Session(func(s *session.Session) error { return s.Login(b.t.Context(), user, session.Login{}) })
}

// User returns who is logged in; empty if nobody is.
func (b *Browser) User() (user string) {
	b.t.Helper()
	b.Session(func(s *session.Session) error { user = s.User(); return nil })
	return user
}

// Value returns a value of the browser's session, the zero T if there is none.
func Value[T any](b *Browser, key string) (value T) {
	b.t.Helper()
	b.Session(func(s *session.Session) (err error) {
		value, err = session.Get[T](s, key)
		return err
	})
	return value
}

// request makes a request to an address.
func (b *Browser) request(method, address, body string) *http.Request {
	b.t.Helper()
	base, err := url.Parse(b.Address)
	if err == nil {
		base, err = base.Parse(address)
	}
	var r *http.Request
	if err == nil {
		r, err = http.NewRequestWithContext(b.t.Context(), method, base.String(), strings.NewReader(body))
	}
	if err != nil {
		b.t.Fatalf("sessiontest: the address %q: %v", address, err)
	}
	return r
}

func (b *Browser) send(handler http.Handler, r *http.Request) *http.Response {
	b.t.Helper()
	r, to := b.prepared(r)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	answer := w.Result()
	b.jar().SetCookies(to, answer.Cookies())
	if strings.Contains(answer.Header.Get("Clear-Site-Data"), `"cookies"`) {
		b.forget()
	}
	return answer
}

// prepared is a request as the service would get it from the browser, and where it
// goes to.
func (b *Browser) prepared(r *http.Request) (*http.Request, *url.URL) {
	b.t.Helper()
	r = r.Clone(r.Context())
	to, err := url.Parse(b.Address)
	if err != nil {
		b.t.Fatalf("sessiontest: Browser.Address: %v", err)
	}
	if r.URL.Host != "" {
		to.Scheme = r.URL.Scheme
	}
	switch r.Host {
	case "", "example.com":
		r.Host = to.Host
	default:
		to.Host = r.Host
	}
	to.Path, to.RawPath, to.RawQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery
	if to.Scheme == "https" && r.TLS == nil {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: to.Hostname()}
	}
	if r.RequestURI == "" {
		r.RequestURI = to.RequestURI()
	}
	if r.RemoteAddr == "" {
		r.RemoteAddr = "192.0.2.1:1234"
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	for name, values := range b.Header {
		if r.Header[name] == nil {
			r.Header[name] = values
		}
	}
	for _, cookie := range b.jar().Cookies(to) {
		r.AddCookie(cookie)
	}
	return r, to
}
