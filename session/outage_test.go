package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

// frail is a service whose store can be made to fail.
type frail struct {
	*testing.T
	store *spystore.Store
	m     *session.Manager

	mu   sync.Mutex
	told []session.Event
}

func newFrail(t *testing.T, opts session.Options) *frail {
	t.Helper()
	f := &frail{T: t, store: spystore.On(memory.Open(t, nil))}
	opts.OnEvent = func(_ context.Context, e session.Event) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = append(f.told, e)
	}
	var err error
	if f.m, err = session.NewManager(f.store, opts); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *frail) events(kind session.EventKind) []session.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.told), func(e session.Event) bool { return e.Kind != kind })
}

// breakdown is how a call fails.
type breakdown struct {
	name string
	err  error
	done bool // whether it has been done all the same
}

var errLost = errors.New("connection lost")

var breakdowns = []breakdown{
	{name: "an error", err: errLost},
	{name: "a timeout", err: fmt.Errorf("%w: %w", context.DeadlineExceeded, errLost)},
	{name: "a closed store", err: fmt.Errorf("%w: %w", session.ErrClosed, errLost)},
	{name: "an unknown outcome of what was not done", err: fmt.Errorf("%w: %w", session.ErrUnknown, errLost)},
	{name: "an unknown outcome of what was done", err: fmt.Errorf("%w: %w", session.ErrUnknown, errLost), done: true},
}

// fail has each of those calls fail.
func (f *frail) fail(b breakdown, calls ...spystore.Call) {
	f.store.Between(func(_ context.Context, c spystore.Call, do func() error) error {
		if !slices.Contains(calls, c) {
			return do()
		}
		if b.done {
			if err := do(); err != nil {
				return err
			}
		}
		return b.err
	})
}

// turn is a request in the hands of its handler.
type turn struct {
	w   http.ResponseWriter
	r   *http.Request
	s   *session.Session
	err error // of Session
}

func (f *frail) must(what string, err error) {
	f.Helper()
	if err != nil {
		f.Errorf("%s: %v", what, err)
	}
}

func (f *frail) is(what string, err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("%s: %v; want %v", what, err, want)
	}
}

// ask sends a request with a cookie, if that is not empty, and returns the
// answer and the cookie that the browser then has.
func (f *frail) ask(cookie string, handle func(turn)) (*http.Response, string) {
	r := httptest.NewRequest(http.MethodGet, "https://localhost/", nil)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	answer := httptest.NewRecorder()
	f.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := f.m.Session(r.Context())
		handle(turn{w, r, s, err})
	})).ServeHTTP(answer, r)
	resp := answer.Result()
	for _, c := range resp.Cookies() {
		if cookie = ""; c.MaxAge >= 0 {
			cookie = c.Name + "=" + c.Value
		}
	}
	return resp, cookie
}

// onAnotherNode sends a request to a Manager of its own, which shares no write with
// that of f.
func (f *frail) onAnotherNode(cookie string, handle func(*session.Session)) {
	f.Helper()
	m, err := session.NewManager(f.store, session.Options{})
	f.must("NewManager", err)
	r := httptest.NewRequest(http.MethodGet, "https://localhost/", nil)
	r.Header.Set("Cookie", cookie)
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s, err := m.Session(r.Context())
		f.must("Session", err)
		handle(s)
	})).ServeHTTP(httptest.NewRecorder(), r)
}

// begin returns the cookie of a session that holds a value; user may be empty.
func (f *frail) begin(user string) string {
	f.Helper()
	_, cookie := f.ask("", func(t turn) {
		f.must("Set", t.s.Set("before", true))
		if user != "" {
			f.must("Login", t.s.Login(t.r.Context(), user, session.Login{}))
		}
	})
	if cookie == "" {
		f.Fatal("the session did not begin")
	}
	return cookie
}

// has checks what the store has for a cookie.
func (f *frail) has(cookie, user string, keys ...string) {
	f.Helper()
	f.store.Between(nil)
	f.ask(cookie, func(t turn) {
		f.must("Session", t.err)
		if got := t.s.Keys(); t.s.User() != user || !slices.Equal(got, keys) {
			f.Errorf("the session is of %q with %q; want %q with %q", t.s.User(), got, user, keys)
		}
	})
}

// waysToAnswer all try to send something of the handler's.
var waysToAnswer = map[string]func(f *frail, t turn){
	"nothing": func(*frail, turn) {},
	"a status": func(_ *frail, t turn) {
		t.w.WriteHeader(http.StatusCreated)
	},
	"text": func(f *frail, t turn) {
		for range 3 {
			n, err := t.w.Write([]byte("from the handler"))
			f.is("Write", err, errLost)
			if n != 0 {
				f.Errorf("Write = %d; want 0", n)
			}
		}
	},
	"a status and a string": func(f *frail, t turn) {
		t.w.WriteHeader(http.StatusCreated)
		_, err := io.WriteString(t.w, "from the handler")
		f.is("WriteString", err, errLost)
	},
	"a copy": func(f *frail, t turn) {
		_, err := io.Copy(t.w, strings.NewReader("from the handler"))
		f.is("Copy", err, errLost)
	},
	"a flush": func(_ *frail, t turn) {
		t.w.(http.Flusher).Flush()
		t.w.WriteHeader(http.StatusEarlyHints)
	},
	"a redirect": func(_ *frail, t turn) {
		http.Redirect(t.w, t.r, "/welcome", http.StatusSeeOther)
	},
}

func TestEachCallThatACommitNeedsAndThatFailsIsAnsweredByTheErrorHandler(t *testing.T) {
	t.Parallel()
	set := func(f *frail, t turn) { f.must("Set", t.s.Set("after", true)) }
	for _, c := range []struct {
		call    spystore.Call
		fresh   bool // no session before
		change  func(f *frail, t turn)
		meeting bool // with a request on another node
	}{
		{call: spystore.Get, change: func(f *frail, t turn) { f.is("Session", t.err, errLost) }},
		{call: spystore.Create, fresh: true, change: set},
		{call: spystore.Save, change: set},
		{call: spystore.GetFresh, change: set, meeting: true},
	} {
		for _, b := range breakdowns {
			for way, answer := range waysToAnswer {
				t.Run(fmt.Sprintf("%s, %s, %s", c.call, b.name, way), func(t *testing.T) {
					t.Parallel()
					f := newFrail(t, session.Options{})
					cookie := ""
					if !c.fresh {
						cookie = f.begin("alice")
					}
					if !c.meeting {
						f.fail(b, c.call)
					}
					resp, after := f.ask(cookie, func(t turn) {
						c.change(f, t)
						if c.meeting {
							f.onAnotherNode(cookie, func(s *session.Session) { f.must("Set", s.Set("meanwhile", true)) })
							f.fail(b, c.call)
						}
						t.w.Header().Set("X-Handler", "was here")
						t.w.Header().Set("Content-Length", "3")
						answer(f, t)
					})
					body, _ := io.ReadAll(resp.Body)
					if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "1" || string(body) != "Service Unavailable\n" {
						f.Errorf("the answer is %d %q, Retry-After %q; want 503 and 1", resp.StatusCode, body, resp.Header.Get("Retry-After"))
					}
					if resp.Header.Get("X-Handler") != "" || resp.Header.Get("Content-Length") != "" || resp.Header.Get("Location") != "" {
						f.Errorf("the header is %v; want nothing of the handler's", resp.Header)
					}
					if after != cookie || len(resp.Cookies()) > 0 {
						f.Errorf("%d cookies were set; want none", len(resp.Cookies()))
					}
					switch {
					case c.fresh:
					case c.meeting:
						f.has(cookie, "alice", "before", "meanwhile")
					case c.call == spystore.Save && b.done:
						f.has(cookie, "alice", "after", "before")
					default:
						f.has(cookie, "alice", "before")
					}
				})
			}
		}
	}
}
