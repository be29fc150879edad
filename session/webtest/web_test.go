package webtest

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

// web is what a case works with: the nodes of a service, and browsers.
type web struct {
	*env
	protocol protocol
}

// server runs the handlers that its browsers bring along.
type server struct {
	*web
	*httptest.Server
	pages sync.Map // of http.HandlerFunc, by path
}

// listen starts a server; around gets the handler that finds the pages.
func (w *web) listen(around func(http.Handler) http.Handler) *server {
	s := &server{web: w}
	s.Server = httptest.NewUnstartedServer(around(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if page, ok := s.pages.Load(r.URL.Path); ok {
			page.(http.HandlerFunc)(rw, r)
			return
		}
		http.NotFound(rw, r)
	})))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // panics and aborted requests are part of the tests
	s.EnableHTTP2 = w.protocol == http2
	s.StartTLS()
	w.Cleanup(s.Close)
	return s
}

// add has the server run page at the path that it returns.
func (s *server) add(page http.HandlerFunc) string {
	path := fmt.Sprint("/", s.count.Add(1))
	s.pages.Store(path, page)
	return path
}

// managed is a manager with a spy before its store.
type managed struct {
	*web
	m      *session.Manager
	spy    *spystore.Store
	cookie string

	mu   sync.Mutex
	told []session.Event
}

// manage makes a manager on the i-th node of the store. The cookie has the
// name that is safest.
func (w *web) manage(i int, opts session.Options) *managed {
	w.Helper()
	n := &managed{web: w, spy: spystore.On(w.env.node(i)), cookie: "__Host-session"}
	if opts.Name != "" {
		n.cookie = "__Host-" + opts.Name + "-session"
	}
	w.configure(n, opts)
	return n
}

func (w *web) configure(n *managed, opts session.Options) {
	w.Helper()
	opts.OnEvent = n.tell
	m, err := session.NewManager(n.spy, opts)
	if err != nil {
		w.Fatalf("NewManager: %v", err)
	}
	n.m = m
}

func (n *managed) tell(_ context.Context, e session.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = append(n.told, e)
}

// events returns what of a kind has happened so far.
func (n *managed) events(kind session.EventKind) []session.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.told), func(e session.Event) bool { return e.Kind != kind })
}

// happened checks how often something of a kind has happened so far.
func (n *managed) happened(want int, kind session.EventKind) {
	n.Helper()
	if got := n.events(kind); len(got) != want {
		n.Errorf("%d events %q; want %d: %+v", len(got), kind, want, got)
	}
}

// node is a server with a manager.
type node struct {
	*managed
	server *server
}

// serve starts the i-th node of a service.
func (w *web) serve(i int, opts session.Options) *node {
	w.Helper()
	n := w.manage(i, opts)
	return &node{n, w.listen(n.m.Handler)}
}

// visit is a request in the hands of its handler.
type visit struct {
	*managed
	rw http.ResponseWriter
	r  *http.Request
	s  *session.Session
}

// page opens the session for f.
func (n *managed) page(f func(v *visit)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		s, err := n.m.Session(r.Context())
		if err != nil {
			n.Errorf("Session: %v", err)
			return
		}
		f(&visit{n, rw, r, s})
	}
}

// must is for handlers, which cannot end the test.
func (v *visit) must(what string, err error) {
	v.Helper()
	if err != nil {
		v.Errorf("%s: %v", what, err)
	}
}

func (v *visit) set(key string, value any) {
	v.Helper()
	v.must("Set", v.s.Set(key, value))
}

// login logs a user in at once, without waiting for the answer.
func (v *visit) login(user string) {
	v.Helper()
	v.must("Login", v.loginAs(user, session.Login{}))
}

func (v *visit) loginAs(user string, login session.Login) error {
	if err := v.s.Login(v.r.Context(), user, login); err != nil {
		return err
	}
	return v.s.Save(v.r.Context())
}

// want checks a value of the session; the zero T stands for none.
func want[T comparable](v *visit, key string, value T) {
	v.Helper()
	got, err := session.Get[T](v.s, key)
	if err != nil || got != value {
		v.Errorf("the value %q is %v, %v; want %v", key, got, err, value)
	}
}

// say writes the body that replies are checked for.
func (v *visit) say(text string) {
	v.Helper()
	if _, err := io.WriteString(v.rw, text); err != nil {
		v.Errorf("write: %v", err)
	}
}

func logout(v *visit) { v.must("Logout", v.s.Logout(v.r.Context())) }

func nothing(*visit) {}
