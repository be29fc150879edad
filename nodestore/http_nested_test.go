package nodestore_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// unwritable is a store that creates nothing.
type unwritable struct{ session.Store }

func (unwritable) Create(context.Context, session.Record) (session.Record, error) {
	return session.Record{}, errLost
}

// While a site moves page by page a request can have a session of either kind. The
// browser is told what has become of the one when the other cannot be saved.
func TestManagersOfBothKindsKnowEachOther(t *testing.T) {
	t.Parallel()
	memory, err := memstore.New(memstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = memory.Close(context.Background()) })
	managers := func() (works, fails *session.Manager) {
		for _, m := range []struct {
			into  **session.Manager
			store session.Store
		}{{&works, memory}, {&fails, unwritable{memory}}} {
			*m.into, err = session.NewManager(m.store, session.Options{Cookie: session.Cookie{Insecure: true}, Logger: zap.NewNop()})
			if err != nil {
				t.Fatal(err)
			}
		}
		return works, fails
	}
	goes, broken := managers()
	node := express(t, "fake", nodestore.ExpressOptions{})
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, err := node.m.Session(r.Context()); err != nil || s.Set("views", 1) != nil {
			t.Errorf("the Node session: %v", err)
		}
		s, err := session.FromContext(r.Context()) // there is one of that kind
		if err != nil || s.Set("views", 1) != nil {
			t.Errorf("the Go session: %v", err)
		}
		if _, err := nodestore.FromContext(r.Context()); err != nil {
			t.Errorf("the only Node session: %v", err)
		}
	})
	serve := func(h http.Handler) (status, cookies int) {
		node.store.rows.Destroy(t.Context(), sidB)
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
		return answer.Code, len(answer.Result().Cookies())
	}
	for _, tt := range []struct {
		name            string
		handler         http.Handler
		fail            error
		status, cookies int
	}{
		{"Go outside", goes.Handler(node.m.Handler(page)), nil, http.StatusOK, 2},
		{"Node outside", node.m.Handler(goes.Handler(page)), nil, http.StatusOK, 2},
		{"Go outside fails", broken.Handler(node.m.Handler(page)), nil, http.StatusServiceUnavailable, 1},
		{"Node outside fails", node.m.Handler(goes.Handler(page)), errLost, http.StatusServiceUnavailable, 1},
	} {
		node.store.fail("create", tt.fail)
		if status, cookies := serve(tt.handler); status != tt.status || cookies != tt.cookies {
			t.Errorf("%s: status %d with %d cookies, want %d with %d", tt.name, status, cookies, tt.status, tt.cookies)
		}
	}
	// One cookie cannot belong to both.
	node.store.fail("create", nil)
	taken := express(t, "fake", nodestore.ExpressOptions{Name: "session"})
	if status, _ := serve(goes.Handler(taken.m.Handler(page))); status != http.StatusInternalServerError {
		t.Errorf("two of one name: status %d", status)
	}
}
