package session_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

func TestCrossOriginProtectionInFrontRefusesOtherSitesForms(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	handler := http.NewCrossOriginProtection().Handler(p.manager.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s, err := session.FromContext(r.Context())
		if err != nil {
			t.Error(err)
			return
		}
		setting(t, "k", "changed")(r.Context(), s)
	})))
	for _, test := range []struct {
		method, header, value string
		allowed               bool
	}{
		{http.MethodPost, "Sec-Fetch-Site", "cross-site", false},
		{http.MethodPost, "Sec-Fetch-Site", "same-site", false},
		{http.MethodPost, "Origin", "https://evil.example", false},
		{http.MethodPost, "Origin", "null", false},
		{http.MethodDelete, "Origin", "https://evil.example", false},
		{http.MethodPost, "Sec-Fetch-Site", "same-origin", true},
		{http.MethodPost, "Sec-Fetch-Site", "none", true},
		{http.MethodPost, "Origin", "https://www.example.com", true},
	} {
		plant(t, p, key, `{"k":0}`)
		p.store.taken()
		r := httptest.NewRequest(test.method, "https://www.example.com/", nil)
		r.Header.Set("Cookie", b.cookie)
		r.Header.Set(test.header, test.value)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if test.allowed {
			p.want("Get", "Save")
		} else {
			p.want()
		}
		if status, got := w.Code, body(t, p, key); (status == http.StatusOK) != test.allowed || !test.allowed && status != http.StatusForbidden || (got != `{"k":0}`) != test.allowed {
			t.Errorf("%s with %s: %s: status %d, values %s", test.method, test.header, test.value, status, got)
		}
	}
}
