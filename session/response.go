package session

import (
	"net/http"

	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// part is the session's part in its request.
type part struct{ s *Session }

// Commit implements reqsession.Part.
func (p part) Commit(reach reqsession.Reach) error {
	s := p.s
	return s.do(s.ctx, func() error {
		return s.state.Commit(func() error { return s.store(s.lasting(), reach) })
	})
}

// Replaces implements reqsession.Part.
func (p part) Replaces() bool {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.s.next != nil
}

// Header implements reqsession.Part.
func (p part) Header(header http.Header) (lines []string) {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.Is(reqsession.Unread) {
		reqsession.Personal(header)
	}
	if s.clearSite && header.Get("Clear-Site-Data") == "" {
		header.Set("Clear-Site-Data", `"cookies", "storage"`)
	}
	lines = append(lines, s.stale...)
	if s.visitorLine != "" {
		lines = append(lines, s.visitorLine)
	}
	if s.line != "" {
		return append(lines, s.line) // no node knows a new ID yet
	}
	if s.saved && s.m.versions != nil && !s.rec.Key.IsZero() {
		if lag := s.m.versions.Lag(); lag > 0 {
			lines = append(lines, s.m.cookie.setVersion(s.rec.Version, s.head.turn, s.policy, lag))
		}
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
