package session_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// Handlers of the first manager call FromContext; others are added later.
func TestAnotherManagerChangesNothingForHandlersOfTheFirst(t *testing.T) {
	t.Parallel()
	store := newSite(t, session.Options{}).store
	named := map[string]*session.Manager{}
	for _, name := range []string{"", "admin", "shop"} {
		m, err := session.NewManager(store, session.Options{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		named[name] = m
	}
	other, err := session.NewManager(store, session.Options{Cookie: session.Cookie{Name: "__Host-other"}}) // has no name either
	if err != nil {
		t.Fatal(err)
	}
	named["other"] = other
	for _, tt := range []struct {
		around []string // the outermost first
		want   string
	}{
		{[]string{""}, ""}, {[]string{"admin"}, "admin"},
		{[]string{"", "admin"}, ""}, {[]string{"admin", ""}, ""}, {[]string{"admin", "", "shop"}, ""},
		{[]string{"admin", "shop"}, "admin"}, {[]string{"shop", "admin"}, "shop"},
		{[]string{"", "other"}, ""}, {[]string{"other", "shop", ""}, "other"},
	} {
		asked := false
		handler := http.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			asked = true
			got, err := session.FromContext(r.Context())
			want, other := named[tt.want].Session(r.Context())
			if got != want || err != nil || other != nil {
				t.Errorf("within %q FromContext has another session than that of %q: %v, %v", tt.around, tt.want, err, other)
			}
			// One that was opened by hand was meant.
			opened := opens(t, named["shop"], "")
			ctx := session.NewContext(r.Context(), opened)
			if got, err := session.FromContext(ctx); got != opened || err != nil {
				t.Errorf("FromContext of NewContext: %v", err)
			}
		}))
		for i := len(tt.around) - 1; i >= 0; i-- {
			handler = named[tt.around[i]].Handler(handler)
		}
		handler.ServeHTTP(httptest.NewRecorder(), get(""))
		if !asked {
			t.Errorf("within %q nobody was asked", tt.around)
		}
	}
}
