package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/pgstore"
	"github.com/sojourn-go/sojourn/session"
)

//go:embed page
var page embed.FS

const (
	requestLimit = 10 * time.Second // the slow one excepted
	slowLimit    = time.Minute
	bodyLimit    = 4 << 10
)

// server is the HTTP side of a node.
type server struct {
	conf     nodeConfig
	store    *pgstore.Store
	sessions *sessions
	log      *zap.Logger
}

func newServer(conf nodeConfig, store *pgstore.Store, log *zap.Logger) *server {
	return &server{conf: conf, store: store, sessions: &sessions{store}, log: log}
}

func (s *server) handler() http.Handler {
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the name is a constant
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	for _, route := range []struct {
		pattern string
		handler handler
		limit   time.Duration
	}{
		{"GET /me", s.me, requestLimit},
		{"GET /sessions", s.list, requestLimit},
		{"GET /stats", s.stats, time.Second},
		{"POST /login", s.login, requestLimit},
		{"POST /set", s.set, requestLimit},
		{"POST /touch", s.touch, requestLimit},
		{"POST /renew", s.renew, requestLimit},
		{"POST /slow", s.slow, slowLimit},
		{"POST /logout", s.logout, requestLimit},
		{"POST /logout-all", s.logoutAll, requestLimit},
	} {
		mux.Handle(route.pattern, s.answer(route.handler, route.limit))
	}
	return http.NewCrossOriginProtection().Handler(secured(mux))
}

// secured keeps answers out of caches and the page to what came with it.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

// handler returns what to answer as JSON.
type handler func(w http.ResponseWriter, r *http.Request) (any, error)

func (s *server) answer(h handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
		status := http.StatusOK
		reply, err := h(w, r)
		if err != nil {
			var text string
			status, text = statusOf(err)
			reply = map[string]string{"error": text}
			if status >= http.StatusInternalServerError {
				s.log.Warn("request failed", zap.String("request", r.Method+" "+r.URL.Path), zap.Int("status", status), zap.Error(err))
			}
			if status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", "1")
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false) // it is not HTML, and people read it
		_ = enc.Encode(reply)    // the browser may be gone
	})
}

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
		{errNoSession, http.StatusUnauthorized, "not logged in"},
		{session.ErrUnknown, http.StatusServiceUnavailable, "it may or may not have been done: look before you repeat it"},
		{session.ErrConflict, http.StatusConflict, "the session was changed meanwhile: try again"},
		{session.ErrExists, http.StatusConflict, "there is such a session already: try again"},
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

// view is a session as callers see it. Its key is no secret.
type view struct {
	Node     string            `json:"node"`
	Key      string            `json:"key"`
	User     string            `json:"user"`
	Values   map[string]string `json:"values"`
	Version  int64             `json:"version"`
	Created  time.Time         `json:"created"`
	Expires  time.Time         `json:"expires"`
	Deadline time.Time         `json:"deadline"`
	// Conflicts is how often a change had to be repeated.
	Conflicts int `json:"conflicts,omitempty"`
}

func (s *server) view(rec session.Record) (view, error) {
	v, err := decode(rec)
	return view{
		Node: s.conf.Name, Key: rec.Key.String(), User: rec.User, Values: v, Version: rec.Version,
		Created: rec.Created, Expires: rec.Expires, Deadline: rec.Deadline,
	}, err
}

func (s *server) event(what string, rec session.Record, more ...zap.Field) {
	s.log.Info(what, append(more, zap.String("user", rec.User), zap.Stringer("session", rec.Key))...)
}

func (s *server) me(_ http.ResponseWriter, r *http.Request) (any, error) {
	rec, err := s.sessions.load(r)
	if err != nil {
		return nil, err
	}
	return s.view(rec)
}

func (s *server) login(w http.ResponseWriter, r *http.Request) (any, error) {
	user := r.FormValue("user")
	if user == "" {
		return nil, badRequest("who? /login?user=alice")
	}
	rec, err := s.sessions.logIn(w, r, user)
	if err != nil {
		return nil, err
	}
	s.event("logged in", rec)
	return s.view(rec)
}

func (s *server) set(_ http.ResponseWriter, r *http.Request) (any, error) {
	key, value := r.FormValue("key"), r.FormValue("value")
	if key == "" {
		return nil, badRequest("what? /set?key=colour&value=blue")
	}
	rec, err := s.sessions.load(r)
	if err != nil {
		return nil, err
	}
	return s.save(r.Context(), rec, key, value)
}

func (s *server) save(ctx context.Context, rec session.Record, key, value string) (any, error) {
	rec, conflicts, err := s.sessions.change(ctx, rec, func(v values) { v[key] = value })
	if err != nil {
		return nil, err
	}
	saved, err := s.view(rec)
	saved.Conflicts = conflicts
	return saved, err
}

func (s *server) touch(_ http.ResponseWriter, r *http.Request) (any, error) {
	rec, err := s.sessions.touch(r)
	if err != nil {
		return nil, err
	}
	return s.view(rec)
}

func (s *server) renew(w http.ResponseWriter, r *http.Request) (any, error) {
	grace, err := duration(r.FormValue("grace"), session.MaxGrace)
	if err != nil {
		return nil, badRequest("grace: " + err.Error())
	}
	rec, err := s.sessions.renew(w, r, grace)
	if err != nil {
		return nil, err
	}
	s.event("renewed", rec, zap.Stringer("grace", grace))
	return s.view(rec)
}

// slow reads the session, says so (102, as an upload takes long), waits for ms
// milliseconds and for the end of the request's body, and only then saves it.
func (s *server) slow(w http.ResponseWriter, r *http.Request) (any, error) {
	ms, err := strconv.Atoi("0" + r.URL.Query().Get("ms"))
	if err != nil || ms > int(slowLimit/time.Millisecond) {
		return nil, badRequest("ms is not a number of milliseconds up to " + strconv.Itoa(int(slowLimit/time.Millisecond)))
	}
	rec, err := s.sessions.load(r)
	if err != nil {
		return nil, err
	}
	if r.ProtoAtLeast(1, 1) {
		w.WriteHeader(http.StatusProcessing)
	}
	note, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, badRequest("the body is incomplete or longer than " + strconv.Itoa(bodyLimit) + " bytes")
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
	reply, err := s.save(r.Context(), rec, "slow", strings.ToValidUTF8(string(note), "?"))
	if errors.Is(err, errNoSession) {
		s.event("late save refused", rec)
	}
	return reply, err
}

func (s *server) logout(w http.ResponseWriter, r *http.Request) (any, error) {
	rec, err := s.sessions.logOut(w, r)
	if err != nil {
		return nil, err
	}
	s.event("logged out", rec)
	return map[string]int64{"ended": 1}, nil
}

func (s *server) logoutAll(w http.ResponseWriter, r *http.Request) (any, error) {
	rec, ended, err := s.sessions.logOutEverywhere(w, r)
	if err != nil {
		return nil, err
	}
	s.event("logged out everywhere", rec, zap.Int64("ended", ended))
	return map[string]int64{"ended": ended}, nil
}

// device is one of the sessions of a user.
type device struct {
	Key     string    `json:"key"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	This    bool      `json:"this"` // the one that asks
}

func (s *server) list(_ http.ResponseWriter, r *http.Request) (any, error) {
	rec, err := s.sessions.load(r)
	if err != nil {
		return nil, err
	}
	all, err := s.store.ListUser(r.Context(), rec.User)
	if err != nil {
		return nil, err
	}
	devices := []device{}
	for _, other := range all {
		devices = append(devices, device{other.Key.String(), other.Created, other.Expires, other.Key == rec.Key})
	}
	return devices, nil
}

// nodeStats is what a node knows of itself and of who leads.
type nodeStats struct {
	Node   string        `json:"node"`
	PID    int           `json:"pid"`
	Leader string        `json:"leader"` // empty: nobody; "unknown": the database does not say
	Stats  session.Stats `json:"stats"`
}

func (s *server) stats(_ http.ResponseWriter, r *http.Request) (any, error) {
	st := nodeStats{Node: s.conf.Name, PID: os.Getpid(), Stats: s.store.Stats()}
	st.Stats.MaintainedBy = s.shortName(st.Stats.MaintainedBy)
	name, err := s.store.Leader(r.Context())
	switch {
	case err == nil:
		st.Leader = s.shortName(name)
	case !errors.Is(err, leader.ErrNoLeader):
		st.Leader = "unknown"
	}
	return st, nil
}

// shortName leaves out what is the same for all nodes of the demo.
func (s *server) shortName(node string) string { return strings.TrimPrefix(node, s.conf.Run+" ") }

// duration reads a duration from 0 to most; without a unit, it is in seconds.
func duration(text string, most time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil {
		return 0, errors.New("not a duration such as 5s")
	}
	if d < 0 || d > most {
		return 0, errors.New("it must be from 0s to " + most.String())
	}
	return d, nil
}
