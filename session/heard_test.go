package session_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

func TestAnOutageIsHeardAtOnceAndNotWithEachRequest(t *testing.T) {
	t.Parallel()
	const requests, token = 1000, "Zm9yZ290dGVuLXBhc3N3b3Jk"
	for name, test := range map[string]struct {
		opts session.Options
		call spystore.Call
		do   func(http.ResponseWriter, *session.Session) error
	}{
		"reads": {session.Options{}, spystore.Get, nil},
		"saves": {session.Options{}, spystore.Save, func(_ http.ResponseWriter, s *session.Session) error { return s.Set("n", s.Keys()) }},
		"saves after the answer": {session.Options{}, spystore.Save, func(w http.ResponseWriter, s *session.Session) error {
			w.WriteHeader(http.StatusOK)
			return s.Set("n", s.Keys())
		}},
		"touches":                 {session.Options{TouchInterval: -1}, spystore.TouchLater, nil},
		"pages without a session": {session.Options{AnonymousOnOutage: true}, spystore.Get, nil},
	} {
		core, logs := observer.New(zapcore.WarnLevel)
		test.opts.Logger = zap.New(core)
		f := newFrail(t, test.opts)
		cookie := f.begin("alice")
		f.fail(breakdowns[0], test.call, spystore.Touch)
		mux := http.NewServeMux()
		mux.HandleFunc("GET /reset/{token}", func(w http.ResponseWriter, r *http.Request) {
			s, err := session.FromContext(r.Context())
			if err == nil && test.do != nil {
				f.must("the page", test.do(w, s))
			}
		})
		handler := f.m.Handler(mux)
		for range requests {
			r := get(cookie)
			r.Host, r.URL.Path, r.URL.RawQuery = "localhost", "/reset/"+token, "code="+token
			serveBy(handler, r)
		}
		entries := logs.All()
		if len(entries) == 0 || len(entries) > 10 {
			t.Errorf("%s: %d requests that failed made %d lines", name, requests, len(entries))
			continue
		}
		fields := entries[0].ContextMap()
		if fields["method"] != "GET" || fields["path"] != "GET /reset/{token}" || !strings.Contains(fields["error"].(string), errLost.Error()) {
			t.Errorf("%s: the first line is %q with %v", name, entries[0].Message, fields)
		}
		for _, e := range entries {
			for key, value := range e.ContextMap() {
				if text, _ := value.(string); strings.Contains(text, token) || strings.Contains(text, cookie[20:40]) {
					t.Errorf("%s: %s tells a secret: %s", name, key, text)
				}
			}
		}
	}
}

// It is not parallel: the default logger is everybody's.
func TestFailuresAreHeardWithoutALogger(t *testing.T) {
	var out bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	defer slog.SetDefault(before)
	f := newFrail(t, session.Options{})
	cookie := f.begin("alice")
	if out.Len() > 0 {
		t.Errorf("without a failure slog got %s", out.String())
	}
	f.fail(breakdowns[0], spystore.Get)
	f.ask(cookie, func(t turn) { f.is("Session", t.err, errLost) })
	if text := out.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "method=GET") || !strings.Contains(text, "path=/") || !strings.Contains(text, errLost.Error()) {
		t.Errorf("slog got %q", text)
	}
	out.Reset()
	f = newFrail(t, session.Options{Logger: zap.NewNop()})
	cookie = f.begin("alice")
	f.fail(breakdowns[0], spystore.Get)
	f.ask(cookie, func(t turn) {})
	if out.Len() > 0 {
		t.Errorf("silenced, slog got %s", out.String())
	}
}

// What the application logs of an error in its own handler is not told here.
func TestAnErrorHandlerLogsForItself(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	f := newFrail(t, session.Options{Logger: zap.New(core), ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(500) }})
	cookie := f.begin("alice")
	f.fail(breakdowns[0], spystore.Get)
	f.ask(cookie, func(t turn) {})
	if logs.Len() > 0 {
		t.Errorf("the log has %+v", logs.All())
	}
}
