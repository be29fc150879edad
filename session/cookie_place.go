package session

import (
	"fmt"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// reaches is an error if the browser will not take the cookie from r or not send
// it back to where r went. A browser on the same host takes a Secure one over
// plain HTTP too. The handler may drop the error, so the log is told.
func (m *Manager) reaches(r *http.Request) error {
	err := m.placed(r)
	if err == nil {
		return nil
	}
	m.log.Tell(zap.ErrorLevel, "session: the browser would not send the cookie back", kindOf(err), r, zap.Error(err))
	return err
}

func (m *Manager) placed(r *http.Request) error {
	host, remote := reqsession.Remote(r)
	switch {
	case !m.cookie.Insecure && remote && !m.https(r):
		return fmt.Errorf("%w: the request for host %q came over plain HTTP. Serve HTTPS; behind a proxy that does, have it set X-Forwarded-Proto, "+
			"or set Options.HTTPS; for development without TLS set Options.Cookie.Insecure; in a test give httptest.NewRequest an https:// address",
			ErrInsecure, host)
	case !reqsession.InDomain(r, m.cookie.Domain):
		return fmt.Errorf("%w: Options.Cookie.Domain is %q, and the request is for host %q. Behind a proxy that sets another host, have it set X-Forwarded-Host",
			ErrMisplaced, m.cookie.Domain, r.Host)
	case !reqsession.InPath(r, m.cookie.Path):
		return fmt.Errorf("%w: Options.Cookie.Path is %q, and the request is for path %q. Behind a proxy that strips a prefix, have it set X-Forwarded-Prefix",
			ErrMisplaced, m.cookie.Path, r.URL.Path)
	}
	return nil
}

func overHTTPS(r *http.Request) bool { return r.TLS != nil || reqsession.ForwardedHTTPS(r) }

// sweep has the browser forget dead cookies that stand before the live one, as
// a change of Domain or Path leaves them with everybody.
func (s *Session) sweep() { s.stale = s.m.cookie.clearOthers(s.r, s.policy) }

// buried reports whether a session that was not found has ended. What only this
// store does not know may be another service's.
func (s *Session) buried(key Key, notFound error) bool {
	return FateOf(notFound) != FateUnknown || key.Bucket < BucketOf(s.m.now())
}

const mostParts = 4 // of a host's and a path's that cookies are cleared for

// clearOthers are the lines that clear cookies of the name which a browser sends
// with r, except the one that set sets.
func (c Cookie) clearOthers(r *http.Request, p Policy) (lines []string) {
	if c.prefixed(hostPrefix) {
		return nil // which has one place only
	}
	host, domains, paths := reqsession.Places(r, mostParts)
	own := strings.ToLower(strings.Trim(c.Domain, "."))
	for _, domain := range domains {
		for _, path := range paths {
			// Some browsers keep a cookie for this very host and one for its
			// domain in one place.
			here := domain == own || domain == "" && own == host || domain == host && own == ""
			if here && path == c.Path {
				continue
			}
			other := c
			other.Domain, other.Path = domain, path
			cookie := other.attributes(p)
			if cookie.MaxAge = -1; cookie.Valid() == nil { // the request is anybody's
				lines = append(lines, cookie.String())
			}
		}
	}
	return lines
}
