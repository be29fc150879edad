package session

import (
	"cmp"
	"fmt"
	"net/http"
	"time"
)

// Policy says how long sessions last and what their cookie is like. The zero
// Policy is PolicyLowRisk.
//
// All timeouts are enforced by the store and its clock. A timeout in the cookie
// is housekeeping (NIST SP 800-63B-4, section 5.1.1).
type Policy struct {
	// IdleTimeout ends a session that was not used for so long. 0 is 30
	// minutes; negative is none.
	IdleTimeout time.Duration `json:"idle,omitzero"`
	// AbsoluteTimeout ends a session so long after its login, however much it
	// is used. 0 is 12 hours. Negative is none: the session gets a new ID and
	// a new deadline from time to time, and ends when it is idle.
	AbsoluteTimeout time.Duration `json:"abs,omitzero"`
	// AnonymousTimeout is the absolute timeout of sessions without a user,
	// until Login or Renew. 0 is 4 hours, or AbsoluteTimeout if that is
	// shorter; negative is AbsoluteTimeout, for applications that keep their
	// users in values.
	AnonymousTimeout time.Duration `json:"anon,omitzero"`
	// RenewAfter gives a session a new ID, with the next request that uses it,
	// when it has had one for so long. It does not move the deadline, unless
	// there is no AbsoluteTimeout. 0 is never, or a day if there is no
	// AbsoluteTimeout; negative is never.
	RenewAfter time.Duration `json:"renew,omitzero"`
	// RenewGrace is for how long the ID before that still works, for requests
	// that are under way. 0 is a minute,
	// negative is none; at most MaxGrace. A browser that does not get the
	// answer with the new ID is logged out when it ends.
	RenewGrace time.Duration `json:"grace,omitzero"`
	// Persistent keeps the cookie when the browser is closed, until the
	// deadline.
	Persistent bool `json:"keep,omitzero"`
	// SameSite of the cookie. 0 is http.SameSiteLaxMode.
	SameSite http.SameSite `json:"site,omitzero"`
}

// PolicyLowRisk is for most applications: 30 minutes idle, 12 hours in all.
// OWASP (Session Management Cheat Sheet, "Session Expiration") has 15 to 30
// minutes idle for low risk. It has 4 to 8 hours in all for an office day, here
// with room for a long one.
func PolicyLowRisk() Policy {
	return Policy{IdleTimeout: 30 * time.Minute, AbsoluteTimeout: 12 * time.Hour}
}

// PolicyHigh is for applications of high value: 5 minutes idle, 8 hours in all,
// and a cookie that other sites' links do not send. OWASP, as above, has 2 to 5
// minutes idle for high value.
func PolicyHigh() Policy {
	return Policy{IdleTimeout: 5 * time.Minute, AbsoluteTimeout: 8 * time.Hour, SameSite: http.SameSiteStrictMode}
}

// PolicyAAL1 has the timeout of NIST SP 800-63B-4 for authentication assurance
// level 1: 30 days in all (section 2.1.3). The idle timeout of a day is ours.
func PolicyAAL1() Policy {
	return Policy{IdleTimeout: 24 * time.Hour, AbsoluteTimeout: 30 * 24 * time.Hour}
}

// PolicyAAL2 has the timeouts of NIST SP 800-63B-4 for authentication assurance
// level 2: an hour idle, 24 hours in all (section 2.2.3).
func PolicyAAL2() Policy {
	return Policy{IdleTimeout: time.Hour, AbsoluteTimeout: 24 * time.Hour}
}

// PolicyAAL3 has the timeouts of NIST SP 800-63B-4 for authentication assurance
// level 3: 15 minutes idle, 12 hours in all (section 2.3.3). Its cookie is one
// that other sites' links do not send.
func PolicyAAL3() Policy {
	return Policy{IdleTimeout: 15 * time.Minute, AbsoluteTimeout: 12 * time.Hour, SameSite: http.SameSiteStrictMode}
}

// PolicyRememberMe keeps a user logged in for 30 days, also when the browser is
// closed, with a new ID each day. It is the weaker policy for users who ask for
// it (see Login.Policy), and none for AAL2 or AAL3. Let users authenticate
// again before what matters, by Session.AuthenticatedAt.
func PolicyRememberMe() Policy {
	return Policy{IdleTimeout: -1, AbsoluteTimeout: 30 * 24 * time.Hour, RenewAfter: 24 * time.Hour, Persistent: true}
}

const (
	defaultIdle      = 30 * time.Minute
	defaultAbsolute  = 12 * time.Hour
	defaultAnonymous = 4 * time.Hour
	defaultRenew     = 24 * time.Hour
	defaultGrace     = time.Minute
)

// withDefaults replaces the zeroes. A timeout that is off becomes 0, also an
// AbsoluteTimeout.
func (p Policy) withDefaults() Policy {
	off := func(d time.Duration) time.Duration { return max(d, 0) }
	p.IdleTimeout = off(cmp.Or(p.IdleTimeout, defaultIdle))
	p.AbsoluteTimeout = off(cmp.Or(p.AbsoluteTimeout, defaultAbsolute))
	p.AnonymousTimeout = off(cmp.Or(p.AnonymousTimeout, defaultAnonymous))
	if p.AbsoluteTimeout > 0 && (p.AnonymousTimeout == 0 || p.AnonymousTimeout > p.AbsoluteTimeout) {
		p.AnonymousTimeout = p.AbsoluteTimeout
	}
	if p.AbsoluteTimeout == 0 {
		p.RenewAfter = cmp.Or(p.RenewAfter, defaultRenew)
	}
	p.RenewAfter = off(p.RenewAfter)
	p.RenewGrace = off(cmp.Or(p.RenewGrace, defaultGrace))
	p.SameSite = cmp.Or(p.SameSite, http.SameSiteLaxMode)
	return p
}

// check returns what is wrong with a policy that has its defaults, on a store
// that keeps sessions for longest, and with a cookie that has its defaults.
func (p Policy) check(name string, longest time.Duration, c Cookie) error {
	bad := func(field, format string, args ...any) error {
		return fmt.Errorf("%w: %s.%s %s", ErrInvalid, name, field, fmt.Sprintf(format, args...))
	}
	switch {
	case p.AbsoluteTimeout > longest:
		return bad("AbsoluteTimeout", "is %v; the store keeps sessions for %v at most", p.AbsoluteTimeout, longest)
	case p.AnonymousTimeout > longest:
		return bad("AnonymousTimeout", "is %v; the store keeps sessions for %v at most", p.AnonymousTimeout, longest)
	case p.IdleTimeout > longest:
		return bad("IdleTimeout", "is %v; the store keeps sessions for %v at most", p.IdleTimeout, longest)
	case p.AbsoluteTimeout == 0 && p.IdleTimeout == 0:
		return bad("IdleTimeout", "and AbsoluteTimeout are both off: sessions would never end")
	case p.AbsoluteTimeout == 0 && p.RenewAfter == 0:
		return bad("RenewAfter", "is off; sessions without an AbsoluteTimeout need it")
	case p.AbsoluteTimeout == 0 && p.RenewAfter > longest/2:
		return bad("RenewAfter", "is %v; without an AbsoluteTimeout it must not be longer than half of the %v that the store keeps sessions", p.RenewAfter, longest)
	case p.RenewGrace > MaxGrace:
		return bad("RenewGrace", "is %v; it must not be longer than %v", p.RenewGrace, MaxGrace)
	case p.SameSite < http.SameSiteLaxMode || p.SameSite > http.SameSiteNoneMode:
		return bad("SameSite", "is %d; it must be Lax, Strict or None of net/http", p.SameSite)
	case p.SameSite == http.SameSiteNoneMode && c.Insecure:
		return bad("SameSite", "is None, which browsers take in Secure cookies only")
	case p.SameSite != http.SameSiteNoneMode && c.Partitioned:
		return bad("SameSite", "is not None; embedded pages, for which Cookie.Partitioned is, are sent no other cookies")
	}
	return nil
}

// lifetime is the time from a login, or from the first use of an anonymous
// session, to the deadline. The longest may have become shorter since the policy
// was checked.
func (p Policy) lifetime(anonymous bool, longest time.Duration) time.Duration {
	switch {
	case anonymous && p.AnonymousTimeout > 0:
		return min(p.AnonymousTimeout, longest)
	case p.AbsoluteTimeout > 0:
		return min(p.AbsoluteTimeout, longest)
	}
	return longest
}

// endless reports whether a renewal moves the deadline.
func (p Policy) endless(anonymous bool) bool {
	return p.AbsoluteTimeout == 0 && !(anonymous && p.AnonymousTimeout > 0)
}
