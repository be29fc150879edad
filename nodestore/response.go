package nodestore

import (
	"net/http"

	"github.com/sojourn-go/sojourn/internal/respond"
)

// serving is the session's part in its request's answer.
type serving struct{ s *Session }

// Commit implements respond.Request.
func (a serving) Commit(header http.Header) error { return a.s.commit(header) }

// Reject sends the error handler's answer. Cookies of handlers inside stay:
// they tell what has become of their sessions.
func (a serving) Reject(w http.ResponseWriter, err error) {
	header := w.Header()
	a.s.writeHeader(header)
	for _, line := range a.s.kept {
		header.Add("Set-Cookie", line.text)
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
		if err := s.writeRest(); err != nil && !s.dead {
			s.failure = err
		}
		return s.failure // if it ended meanwhile the events tell; the answer may well be right
	})
	if err == nil {
		s.writeHeader(header)
	}
	return err
}

// writeHeader puts the cookies into a header, and what caches must know.
func (s *Session) writeHeader(header http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded {
		respond.VaryByCookie(header)
	}
	if len(s.lines) == 0 {
		return
	}
	header.Set("Cache-Control", "no-store")
	for _, line := range s.lines {
		header.Add("Set-Cookie", line.text)
		for outer := s.outer; outer != nil; outer = outer.outer {
			outer.kept = append(outer.kept, line)
		}
	}
}
