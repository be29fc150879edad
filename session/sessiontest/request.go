package sessiontest

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// Request returns a copy of r with the cookie of a new session of m, for tests
// of handlers. prepare makes the session what the test needs: it logs somebody
// in or sets values, and fails the test by an error. The session is in m's
// store like any other. The copy has come over TLS, unless its address says http.
// For several requests, and to look at the session afterwards, there is Browser.
func Request(t testing.TB, m *session.Manager, r *http.Request, prepare func(*session.Session) error) *http.Request {
	t.Helper()
	b := NewBrowser(t, m, nil)
	at := url.URL{Scheme: "https", Host: r.Host, Path: r.URL.Path}
	if r.URL.Host != "" {
		at.Scheme = r.URL.Scheme
	}
	b.Address = at.String()
	b.Header = r.Header.Clone()
	b.Header.Del("Cookie") // the session is a new one
	b.Session(prepare)
	r, to := b.prepared(r)
	if len(b.jar().Cookies(to)) == 0 {
		t.Fatal("sessiontest: the session is empty: log somebody in or set a value")
	}
	return r
}
