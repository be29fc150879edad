package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/session"
)

//go:embed page.html
var pageText string

// Cookies do not know ports: a browser that logs in on one node is logged in on
// all. Over HTTPS Name and Insecure would be left out. This is plain HTTP on the
// loopback interface, where Safari takes no Secure cookie (WebKit bug 281149).
const cookieName = "demo_session"

const (
	requestLimit = 30 * time.Second
	statsLimit   = time.Second
	bodyLimit    = 4 << 10
)

// server is the HTTP side of a node.
type server struct {
	*opened
	conf    nodeConfig
	peers   *atomic.Pointer[[]peer]
	manager *session.Manager
	page    *template.Template
	log     *zap.Logger
}

func newServer(conf nodeConfig, o *opened, peers *atomic.Pointer[[]peer], log *zap.Logger) (*server, error) {
	s := &server{opened: o, conf: conf, peers: peers, log: log}
	var err error
	if s.page, err = template.New("page").Parse(pageText); err != nil {
		return nil, err
	}
	s.manager, err = session.NewManager(o.store, session.Options{
		Policy:       session.Policy{IdleTimeout: 30 * time.Minute, AbsoluteTimeout: 12 * time.Hour},
		Cookie:       session.Cookie{Name: cookieName, Insecure: true},
		ErrorHandler: s.fail,
		OnEvent:      s.happened,
		Logger:       log,
	})
	return s, err
}

// handler returns what to answer as JSON.
type handler func(r *http.Request, sess *session.Session) (any, error)

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /stats", s.stats)
	mux.Handle("POST /login", s.answer(s.login))
	for pattern, do := range map[string]handler{
		"GET /me":          s.me,
		"GET /sessions":    s.list,
		"POST /count":      s.count,
		"POST /logout":     s.logout,
		"POST /logout-all": s.logoutAll,
		"POST /revoke":     s.revoke,
	} {
		mux.Handle(pattern, s.answer(loggedIn(do)))
	}
	return http.NewCrossOriginProtection().Handler(secured(s.manager.Handler(mux)))
}

// secured limits requests in time and size, and keeps answers out of caches and
// the page to what came with it.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// loggedIn refuses requests of nobody.
func loggedIn(next handler) handler {
	return func(r *http.Request, sess *session.Session) (any, error) {
		if sess.User() == "" {
			return nil, &refusal{http.StatusUnauthorized, "not logged in"}
		}
		return next(r, sess)
	}
}

// answer has a handler answer a request with its session.
func (s *server) answer(do handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess, err := session.FromContext(r.Context())
		if err != nil {
			return // the Manager answers, through fail
		}
		reply, err := do(r, sess)
		switch {
		case err != nil:
			s.fail(w, r, err)
		case fromPage(r):
			http.Redirect(w, r, "/", http.StatusSeeOther)
		default:
			send(w, http.StatusOK, reply)
		}
	})
}

// fromPage reports whether a browser wants a page, and not curl.
func fromPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

func send(w http.ResponseWriter, status int, reply any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // it is not HTML, and people read it
	_ = enc.Encode(reply)    // the browser may be gone
}

// home shows the page.
func (s *server) home(w http.ResponseWriter, r *http.Request) {
	sess, err := session.FromContext(r.Context())
	if err != nil {
		return // the Manager answers, through fail
	}
	me, err := s.view(sess)
	v := pageView{Me: &me}
	if err == nil && me.User != "" {
		v.Sessions, err = collect(s.manager.Sessions(r.Context(), me.User))
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, v)
}

// pageView is what the page shows.
type pageView struct {
	nodeStats
	Lacks    []string
	Peers    []peer
	Trouble  string // why what was asked for was not done
	Me       *view  // of nobody if there is no user; nil: it is not known
	Sessions []session.Info
}

func (s *server) show(w http.ResponseWriter, r *http.Request, status int, v pageView) {
	v.nodeStats, v.Peers = s.look(r.Context()), *s.peers.Load()
	if kind, err := backendOf(s.conf.Store); err == nil {
		v.Lacks = kind.lacks
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if err := s.page.Execute(w, v); err != nil { // perhaps the browser is gone
		s.log.Warn("the page", zap.Error(err))
	}
}

// nodeStats is what a node knows of itself and of who leads.
type nodeStats struct {
	Node   string        `json:"node"`
	PID    int           `json:"pid"`
	Store  string        `json:"store"`  // as for -store
	Leader string        `json:"leader"` // empty: nobody, or it is not known
	Stats  session.Stats `json:"stats"`
}

func (s *server) stats(w http.ResponseWriter, r *http.Request) {
	send(w, http.StatusOK, s.look(r.Context())) // no session is asked for, and so none is read
}

func (s *server) look(ctx context.Context) nodeStats {
	st := nodeStats{Node: s.conf.Name, PID: os.Getpid(), Store: s.conf.Store, Stats: s.store.Stats()}
	st.Stats.MaintainedBy = s.shortName(st.Stats.MaintainedBy)
	if st.Stats.Leading {
		st.Leader = s.conf.Name
	}
	if s.leader != nil {
		ctx, cancel := context.WithTimeout(ctx, statsLimit)
		defer cancel()
		name, _ := s.leader(ctx)
		st.Leader = s.shortName(name)
	}
	return st
}

// shortName leaves out what is the same for all nodes of the demo.
func (s *server) shortName(node string) string { return strings.TrimPrefix(node, s.conf.Run+" ") }

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
		s.show(w, r, status, pageView{Trouble: text})
		return
	}
	send(w, status, map[string]string{"error": text})
}

// refusal is the answer to a request that cannot be met.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

// statusOf keeps to ourselves what the driver had to say.
func statusOf(err error) (int, string) {
	if no, ok := errors.AsType[*refusal](err); ok {
		return no.status, no.text
	}
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{session.ErrUnknown, http.StatusServiceUnavailable, "it may or may not have been done: look before you repeat it"},
		{session.ErrConflict, http.StatusConflict, "the session was changed meanwhile: try again"},
		{session.ErrNotFound, http.StatusUnauthorized, "not logged in any more"},
		{session.ErrInvalid, http.StatusBadRequest, "not possible in a session"},
	} {
		if errors.Is(err, c.err) {
			return c.status, c.text
		}
	}
	return http.StatusServiceUnavailable, "the database does not answer: try again"
}

// happened logs what becomes of sessions. Keys are no secret.
func (s *server) happened(_ context.Context, e session.Event) {
	s.log.Info("session "+e.Kind.String(), zap.Stringer("session", e.Key), zap.String("user", e.User), zap.Error(e.Err))
}
