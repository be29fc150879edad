package sessiontest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// Request returns a copy of r with the cookie of a new session of m, for tests
// of handlers. prepare makes the session what the test needs: it logs somebody
// in or sets values, and fails the test by an error. The session is in m's
// store like any other.
func Request(t testing.TB, m *session.Manager, r *http.Request, prepare func(*session.Session) error) *http.Request {
	t.Helper()
	err := session.ErrNoManager
	answer := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var s *session.Session
		if s, err = m.Session(r.Context()); err == nil {
			err = prepare(s)
		}
	})).ServeHTTP(answer, httptest.NewRequestWithContext(r.Context(), http.MethodGet, "https://localhost/", nil))
	cookies := answer.Result().Cookies()
	switch {
	case err != nil:
		t.Fatalf("sessiontest: the session cannot be prepared: %v", err)
	case answer.Code != http.StatusOK:
		t.Fatalf("sessiontest: the session cannot be saved: %s", answer.Body)
	case len(cookies) == 0:
		t.Fatal("sessiontest: the session is empty: log somebody in or set a value")
	}
	r = r.Clone(r.Context())
	for _, cookie := range cookies {
		r.AddCookie(cookie)
	}
	return r
}
