package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/session"
)

//go:embed page
var page embed.FS

const (
	requestLimit = 30 * time.Second // the slow one excepted
	slowLimit    = time.Minute
	bodyLimit    = 4 << 10
)

// server is the HTTP side of a node.
type server struct {
	*opened
	conf    nodeConfig
	memory  memory // the store, if it answers from memory, else nil
	manager *session.Manager
	page    *template.Template // of devices
	log     *zap.Logger
}

func newServer(conf nodeConfig, o *opened, log *zap.Logger) (*server, error) {
	s := &server{opened: o, conf: conf, log: log}
	s.memory, _ = o.store.(memory)
	var err error
	if s.page, err = parseDevices(); err != nil {
		return nil, err
	}
	s.manager, err = newManager(noted(o.store), s)
	return s, err
}

// route is a request that needs its session.
type route struct {
	pattern string
	handler handler
	limit   time.Duration
	anyone  bool // nobody has to be logged in
}

// handler returns what to answer as JSON.
type handler func(w http.ResponseWriter, r *http.Request, sess *session.Session) (any, error)

func (s *server) handler() http.Handler {
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the name is a constant
	}
	mux := http.NewServeMux()
	for _, file := range []string{"/{$}", "/page.css", "/page.js"} {
		mux.Handle("GET "+file, http.FileServerFS(files))
	}
	mux.HandleFunc("GET /stats", s.stats)
	mux.HandleFunc("GET "+devicesPath, s.devices)
	for _, rt := range []route{
		{"GET /me", s.me, requestLimit, false},
		{"GET /sessions", s.list, requestLimit, false},
		{"POST /login", s.login, requestLimit, true},
		{"POST /set", s.set, requestLimit, false},
		{"POST /count", s.count, requestLimit, false},
		{"POST /touch", s.touch, requestLimit, false},
		{"POST /renew", s.renew, requestLimit, false},
		{"POST /slow", s.slow, slowLimit, false},
		{"POST /logout", s.logout, requestLimit, false},
		{"POST /logout-all", s.logoutAll, requestLimit, false},
		{"POST /revoke", s.revoke, requestLimit, false},
		{"POST /revoke-others", s.revokeOthers, requestLimit, false},
	} {
		mux.Handle(rt.pattern, s.answer(rt))
	}
	return http.NewCrossOriginProtection().Handler(secured(noting(s.manager.Handler(mux))))
}

// secured keeps answers out of caches and the page to what came with it.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

func (s *server) answer(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), rt.limit)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
		sess, err := session.FromContext(ctx)
		if err != nil {
			return // the Manager answers, through fail
		}
		if sess.User() == "" && !rt.anyone {
			s.fail(w, r, errNotLoggedIn)
			return
		}
		reply, err := rt.handler(w, r, sess)
		switch {
		case err != nil:
			s.fail(w, r, err)
		case fromPage(r) && r.Method == http.MethodPost:
			http.Redirect(w, r, devicesPath, http.StatusSeeOther)
		default:
			send(w, http.StatusOK, reply)
		}
	})
}

// fail answers with what went wrong.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, text := statusOf(err)
	if status >= http.StatusInternalServerError {
		s.log.Warn("request failed", zap.String("request", r.Method+" "+r.URL.Path), zap.Int("status", status), zap.Error(err))
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if fromPage(r) {
		s.show(w, status, devicesView{Trouble: text})
		return
	}
	send(w, status, map[string]string{"error": text})
}

func send(w http.ResponseWriter, status int, reply any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // it is not HTML, and people read it
	_ = enc.Encode(reply)    // the browser may be gone
}

var (
	// errNotLoggedIn says that a request has no live session of a user.
	errNotLoggedIn = errors.New("not logged in")
	// errNoDevice says that the user has no such session.
	errNoDevice = errors.New("no such device")
)

// badRequest is a mistake of the caller's.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// statusOf keeps to ourselves what the driver had to say.
func statusOf(err error) (int, string) {
	if bad, ok := errors.AsType[badRequest](err); ok {
		return http.StatusBadRequest, string(bad)
	}
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{errNotLoggedIn, http.StatusUnauthorized, "not logged in"},
		{errNoDevice, http.StatusNotFound, "there is no such session of yours"},
		{session.ErrUnknown, http.StatusServiceUnavailable, "it may or may not have been done: look before you repeat it"},
		{session.ErrConflict, http.StatusConflict, "the session was changed meanwhile: try again"},
		{session.ErrExists, http.StatusConflict, "there is such a session already: try again"},
		{session.ErrNotFound, http.StatusUnauthorized, "not logged in any more"},
		{session.ErrTooLarge, http.StatusRequestEntityTooLarge, "too much for a session"},
		{session.ErrInvalid, http.StatusBadRequest, "not possible in a session"},
	} {
		if errors.Is(err, c.err) {
			return c.status, c.text
		}
	}
	if errors.Is(err, context.Canceled) {
		return 499, "the caller has gone" // nobody will read it
	}
	return http.StatusServiceUnavailable, "the database does not answer: try again"
}
