package session

import (
	"net/http"

	"github.com/sojourn-go/sojourn/internal/respond"
)

// serving is the session's part in its request's answer.
type serving struct{ s *Session }

// Commit implements respond.Request.
func (a serving) Commit(header http.Header) error { return a.s.commit(header) }

// Reject sends the error handler's answer. Cookies stay: they tell what has
// become of sessions.
func (a serving) Reject(w http.ResponseWriter, err error) {
	header := w.Header()
	a.s.writeHeader(header)
	for _, line := range a.s.kept {
		header.Add("Set-Cookie", line)
	}
	a.s.m.fail(w, a.s.r, err)
}

// Close implements respond.Request.
func (a serving) Close() { a.s.close() }

// commit ends the time in which the browser can be given a cookie.
func (s *Session) commit(header http.Header) error {
	err := s.do(s.r.Context(), func() error {
		defer func() { s.sealed = true }()
		if !s.loaded || s.refused || s.failure != nil {
			return s.failure
		}
		if err := s.store(s.lasting); err != nil && !s.dead {
			s.failure = err
		}
		return s.failure // if it ended meanwhile the events tell; the answer may well be right
	})
	if err == nil {
		s.writeHeader(header)
	}
	return err
}

// writeHeader puts the cookie into a header, and what caches must know.
func (s *Session) writeHeader(header http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded {
		respond.VaryByCookie(header)
	}
	if s.line != "" {
		header.Add("Set-Cookie", s.line)
		header.Set("Cache-Control", "no-store")
		for outer := s.outer; outer != nil; outer = outer.outer {
			outer.kept = append(outer.kept, s.line)
		}
	}
	if s.clearSite {
		header.Set("Clear-Site-Data", `"cache", "cookies", "storage"`)
	}
}
