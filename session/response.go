package session

import (
	"net/http"

	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// part is the session's part in its request.
type part struct{ s *Session }

// Commit implements reqsession.Part.
func (p part) Commit() error {
	s := p.s
	return s.do(s.r.Context(), func() error {
		return s.state.Commit(func() error { return s.store(s.lasting()) })
	})
}

// Header implements reqsession.Part.
func (p part) Header(header http.Header) (lines []string) {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.Is(reqsession.Unread) {
		reqsession.VaryByCookie(header)
	}
	if s.clearSite {
		header.Set("Clear-Site-Data", `"cache", "cookies", "storage"`)
	}
	if s.line != "" {
		lines = []string{s.line}
	}
	return lines
}

// Fail implements reqsession.Part.
func (p part) Fail(w http.ResponseWriter, err error) { p.s.m.fail(w, p.s.r, err) }

// Close implements reqsession.Part.
func (p part) Close() { p.s.close() }
