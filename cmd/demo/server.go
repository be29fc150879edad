package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/pgstore"
	"github.com/sojourn-go/sojourn/session"
)

//go:embed page
var page embed.FS

const (
	requestLimit = 10 * time.Second // the slow one excepted
	slowLimit    = time.Minute
	bodyLimit    = 4 << 10
	listLimit    = 64 << 10 // of a body that lists sessions
)

// server is the HTTP side of a node.
type server struct {
	conf     nodeConfig
	store    *pgstore.Store
	queries  *queryCounter
	sessions *sessions
	log      *zap.Logger
}

func newServer(conf nodeConfig, store *pgstore.Store, queries *queryCounter, log *zap.Logger) *server {
	return &server{conf: conf, store: store, queries: queries, sessions: &sessions{store}, log: log}
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
		body    int64
	}{
		{"GET /me", s.me, requestLimit, bodyLimit},
		{"GET /sessions", s.list, requestLimit, bodyLimit},
		{"GET /stats", s.stats, time.Second, bodyLimit},
		{"POST /login", s.login, requestLimit, bodyLimit},
		{"POST /set", s.set, requestLimit, bodyLimit},
		{"POST /touch", s.touch, requestLimit, bodyLimit},
		{"POST /renew", s.renew, requestLimit, bodyLimit},
		{"POST /slow", s.slow, slowLimit, bodyLimit},
		{"POST /logout", s.logout, requestLimit, bodyLimit},
		{"POST /logout-all", s.logoutAll, requestLimit, bodyLimit},
		{"POST /revoke", s.revoke, requestLimit, listLimit},
	} {
		mux.Handle(route.pattern, s.answer(route.handler, route.limit, route.body))
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

func (s *server) answer(h handler, limit time.Duration, body int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, body)
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
