package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

// newNode is a node's HTTP side with a store in memory.
func newNode(t *testing.T) (http.Handler, *memstore.Store) {
	t.Helper()
	store, err := memstore.New(memstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := store.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	var peers atomic.Pointer[[]peer]
	peers.Store(&[]peer{{"node 1", "http://127.0.0.1:1/"}, {"node 2", "http://127.0.0.1:2/"}})
	leads := func(context.Context) (string, error) { return "demo_x node 2", nil }
	s, err := newServer(nodeConfig{Store: "postgres", Run: "demo_x", Name: "node 1"}, &opened{store: store, leader: leads}, &peers, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return s.handler(), store
}

// request sends a request with a cookie, and returns the answer and its body.
func request(t *testing.T, h http.Handler, method, path, id string, form url.Values, header http.Header) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		r.AddCookie(&http.Cookie{Name: cookieName, Value: id})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	answer := w.Result()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

// ask is request for an answer that is 200 and JSON.
func ask[T any](t *testing.T, h http.Handler, method, path, id string) (reply T, cookie string) {
	t.Helper()
	answer, body := request(t, h, method, path, id, nil, nil)
	if err := json.Unmarshal([]byte(body), &reply); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %s, %v", method, path, answer.Status, body, err)
	}
	for _, c := range answer.Cookies() {
		cookie = c.Value
	}
	return reply, cookie
}

func TestRequestsWithoutASessionReadNone(t *testing.T) {
	t.Parallel()
	h, store := newNode(t)
	for _, c := range []struct {
		method, path, origin string
		status               int
		says                 string
	}{
		{"GET", "/", "", http.StatusOK, "Nobody is logged in"},
		{"GET", "/stats", "", http.StatusOK, `"node":"node 1"`},
		{"GET", "/nothing", "", http.StatusNotFound, ""},
		{"GET", "/me", "", http.StatusUnauthorized, "not logged in"},
		{"GET", "/login?user=alice", "", http.StatusMethodNotAllowed, ""},
		{"POST", "/login", "", http.StatusBadRequest, "user="},
		{"POST", "/login?user=a%00b", "", http.StatusBadRequest, "not possible"},
		{"POST", "/login?user=a&label=%ff", "", http.StatusBadRequest, "not possible"},
		{"POST", "/login?user=alice", "http://elsewhere.example", http.StatusForbidden, ""},
		{"POST", "/count", "", http.StatusUnauthorized, "not logged in"},
		{"POST", "/logout", "", http.StatusUnauthorized, "not logged in"},
		{"POST", "/logout?nodes=all", "", http.StatusUnauthorized, "not logged in"},
		{"POST", "/revoke?handle=a", "", http.StatusUnauthorized, "not logged in"},
		{"POST", "/logout-all", "", http.StatusUnauthorized, "not logged in"},
	} {
		header := http.Header{}
		if c.origin != "" {
			header.Set("Origin", c.origin)
		}
		answer, body := request(t, h, c.method, c.path, "", nil, header)
		if answer.StatusCode != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s %s: %s, %s", c.method, c.path, answer.Status, body)
		}
		if len(answer.Cookies()) > 0 {
			t.Errorf("%s %s sets a cookie", c.method, c.path)
		}
		if c.status == http.StatusOK && (answer.Header.Get("Cache-Control") != "no-store" || answer.Header.Get("Content-Security-Policy") == "") {
			t.Errorf("%s %s: %v", c.method, c.path, answer.Header)
		}
	}
	if st := store.Stats(); st.Gets != 0 || st.Creates != 0 {
		t.Errorf("%d reads, %d created", st.Gets, st.Creates)
	}
}

func TestRevokeEndsTheUsersOwnSessionsOnly(t *testing.T) {
	t.Parallel()
	h, store := newNode(t)
	_, mine := ask[view](t, h, "POST", "/login?user=alice", "")
	other, _ := ask[view](t, h, "POST", "/login?user=alice", "")
	third, _ := ask[view](t, h, "POST", "/login?user=alice", "")
	foreign, _ := ask[view](t, h, "POST", "/login?user=bob", "")
	for _, key := range []string{foreign.Handle, "nonsense", ""} {
		if answer, body := request(t, h, "POST", "/revoke", mine, url.Values{"handle": {key}}, nil); answer.StatusCode != http.StatusNotFound {
			t.Errorf("%q: %s, %s", key, answer.Status, body)
		}
	}
	ask[ended](t, h, "POST", "/revoke?handle="+other.Handle, mine)
	left, _ := ask[[]session.Info](t, h, "GET", "/sessions", mine)
	if len(left) != 2 || !left[0].Current || left[1].Handle != third.Handle || left[1].Current {
		t.Errorf("left: %+v", left)
	}
	if all, _ := ask[ended](t, h, "POST", "/logout-all", mine); all.Ended != 2 {
		t.Errorf("%d ended", all.Ended)
	}
	if n, err := store.CountUser(t.Context(), "bob"); err != nil || n != 1 {
		t.Errorf("another user has %d sessions, %v", n, err)
	}
}

// A browser without scripts has a page and forms.
func TestThePageShowsWhoAnswersWhoLeadsAndWhoIsLoggedIn(t *testing.T) {
	t.Parallel()
	h, _ := newNode(t)
	page := http.Header{"Accept": {"text/html,application/xhtml+xml,*/*;q=0.8"}}
	answer, _ := request(t, h, "POST", "/login", "", url.Values{"user": {"<alice>"}, "label": {"laptop"}}, page)
	if answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Location") != "/" || len(answer.Cookies()) != 1 {
		t.Fatalf("%s, %v", answer.Status, answer.Header)
	}
	id := answer.Cookies()[0].Value
	if n, _ := ask[view](t, h, "POST", "/count", id); n.Clicks != 1 {
		t.Errorf("%d clicks", n.Clicks)
	}
	_, body := request(t, h, "GET", "/", id, nil, page)
	for _, want := range []string{
		"&lt;alice&gt; is logged in, with 1 clicks", "laptop", "node 1, process", `<a href="http://127.0.0.1:2/">node 2</a> (leads)`,
		`action="/logout"`, `action="/logout-all"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("it does not say %q:\n%s", want, body)
		}
	}
	if strings.Contains(body, id) {
		t.Error("it shows the cookie")
	}
	answer, body = request(t, h, "POST", "/revoke", id, url.Values{"handle": {"nonsense"}}, page)
	if answer.StatusCode != http.StatusNotFound || !strings.Contains(body, "there is no such session of yours") {
		t.Errorf("%s:\n%s", answer.Status, body)
	}
	answer, _ = request(t, h, "POST", "/logout", id, nil, page)
	if answer.StatusCode != http.StatusSeeOther || len(answer.Cookies()) != 1 || answer.Cookies()[0].MaxAge >= 0 {
		t.Errorf("%s, %v", answer.Status, answer.Cookies())
	}
}

func TestErrorsAreAnsweredByWhatTheCallerCanDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
	}{
		{&refusal{http.StatusNotFound, "no such"}, http.StatusNotFound},
		{session.ErrNotFound, http.StatusUnauthorized},
		{session.ErrInvalid, http.StatusBadRequest},
		{session.ErrConflict, http.StatusConflict},
		{session.ErrClosed, http.StatusServiceUnavailable},
		{context.DeadlineExceeded, http.StatusServiceUnavailable},
		{fmt.Errorf("%w: %w", session.ErrUnknown, session.ErrConflict), http.StatusServiceUnavailable},
		{errors.New("dial tcp: connection refused"), http.StatusServiceUnavailable},
	} {
		status, text := statusOf(fmt.Errorf("pgstore: save: %w", c.err))
		if status != c.status {
			t.Errorf("%v: got %d, want %d", c.err, status, c.status)
		}
		if text == "" || strings.Contains(text, "dial") || strings.Contains(text, "pgstore") {
			t.Errorf("%v: %q", c.err, text)
		}
	}
}
