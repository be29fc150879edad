package nodestore

import (
	"net/http"

	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// part is the session's part in its request.
type part struct{ s *Session }

// Commit implements reqsession.Part.
func (p part) Commit(reach reqsession.Reach) error {
	s := p.s
	return s.do(s.r.Context(), func() error {
		return s.state.Commit(func() error { return s.writeRest(reach) })
	})
}

// Replaces implements reqsession.Part.
func (p part) Replaces() bool {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.s.replaces()
}

// Header implements reqsession.Part.
func (p part) Header(header http.Header) (lines []string) {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.Is(reqsession.Unread) {
		reqsession.Personal(header)
	}
	for _, line := range s.lines {
		if s.m.send != nil && line.name == "" {
			s.m.send(header, line.text)
			continue
		}
		lines = append(lines, line.text)
	}
	return lines
}

// Fail implements reqsession.Part.
func (p part) Fail(w http.ResponseWriter, err error) { p.s.m.fail(w, p.s.r, err) }

// Close implements reqsession.Part.
func (p part) Close() {
	p.s.close()
	p.s.m.log.Count()
}
