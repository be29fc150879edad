package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func TestErrorsAreAnsweredByWhatTheCallerCanDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
	}{
		{errNotLoggedIn, http.StatusUnauthorized},
		{session.ErrNotFound, http.StatusUnauthorized},
		{errNoDevice, http.StatusNotFound},
		{badRequest("who?"), http.StatusBadRequest},
		{session.ErrInvalid, http.StatusBadRequest},
		{session.ErrConflict, http.StatusConflict},
		{session.ErrTooLarge, http.StatusRequestEntityTooLarge},
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

func TestRequestsWithoutASessionCostNoQuery(t *testing.T) {
	t.Parallel()
	h, s := newNode(t)
	before := s.queries().Application
	for _, c := range []struct {
		method, path, origin string
		status               int
		says                 string
	}{
		{"GET", "/", "", http.StatusOK, "page.js"},
		{"GET", "/page.js", "", http.StatusOK, "refresh"},
		{"GET", "/page.css", "", http.StatusOK, "font"},
		{"GET", "/nothing", "", http.StatusNotFound, ""},
		{"GET", "/devices.html", "", http.StatusNotFound, ""},
		{"GET", devicesPath, "", http.StatusOK, "Nobody is logged in"},
		{"GET", "/me", "", http.StatusUnauthorized, "not logged in"},
		{"GET", "/login?user=alice", "", http.StatusMethodNotAllowed, ""},
		{"POST", "/login", "", http.StatusBadRequest, "user="},
		{"POST", "/login?user=alice", "http://elsewhere.example", http.StatusForbidden, ""},
		{"POST", "/set?value=blue", "", http.StatusUnauthorized, "not logged in"},
		{"POST", "/logout", "", http.StatusUnauthorized, "not logged in"},
		{"POST", "/logout?nodes=all", "", http.StatusUnauthorized, "not logged in"},
		{"POST", "/revoke?key=a", "", http.StatusUnauthorized, "not logged in"},
		{"POST", "/revoke-others", "", http.StatusUnauthorized, "not logged in"},
		{"POST", "/logout-all", "", http.StatusUnauthorized, "not logged in"},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		answer := w.Result()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != c.status || !strings.Contains(string(body), c.says) {
			t.Errorf("%s %s: %s, %s", c.method, c.path, answer.Status, body)
		}
		if len(answer.Cookies()) > 0 {
			t.Errorf("%s %s sets a cookie", c.method, c.path)
		}
		if c.status == http.StatusOK && (answer.Header.Get("Cache-Control") != "no-store" || answer.Header.Get("Content-Security-Policy") == "") {
			t.Errorf("%s %s: %v", c.method, c.path, answer.Header)
		}
	}
	if after := s.queries().Application; after != before {
		t.Errorf("%d queries", after-before)
	}
}

func TestDurationsMayBeSeconds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"": 0, "5": 5 * time.Second, "250ms": 250 * time.Millisecond, "1m": time.Minute} {
		if got, err := duration(text, time.Minute); err != nil || got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"-1", "-1ns", "61", "1h", "soon", "18446744074"} {
		if got, err := duration(text, time.Minute); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestALineOfALogBecomesReadable(t *testing.T) {
	t.Parallel()
	e := parseEntry([]byte(`{"level":"warn","logger":"pgstore","msg":"leader: lost","table":"a.b","term":2,"error":"no \"answer\""}`))
	if e.level != "warn" || e.message != "leader: lost" || e.fields["term"] != "2" || e.text != `leader: lost  error="no \"answer\""  term=2` {
		t.Errorf("%+v", e)
	}
	e = parseEntry([]byte(`{"level":"info","msg":"receiving","server":{"timeline":"1","database":"a b"}}`))
	if e.fields["server"] != `{"database":"a b","timeline":"1"}` {
		t.Errorf("%+v", e)
	}
	if e := parseEntry([]byte("panic: x")); e.text != "panic: x" || e.level != "" {
		t.Errorf("%+v", e)
	}
}
