package nodestore

import (
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// differences notices settings of a middleware that are not the Node
// application's, by what the two then cannot share. It warns once of each.
type differences struct {
	log *zap.Logger

	secret, name, table, maxAge, ttl atomic.Bool // warned of

	verified atomic.Int64 // cookies with a right signature
	met      atomic.Bool  // one of those had a row
	compared atomic.Int64 // sessions
}

// mostCompared is how many sessions are compared with the settings.
const mostCompared = 1000

// strangersBeforeWarning is how many genuine cookies may have no row, as those of
// visitors have who come back late.
const strangersBeforeWarning = 20

func (d *differences) warn(once *atomic.Bool, what string, fields ...zap.Field) {
	if once.CompareAndSwap(false, true) {
		d.log.Warn("nodestore: is a setting not the Node application's? "+what, fields...)
	}
}

// cookie looks at what a browser has presented.
func (d *differences) cookie(m *site, f presented, header string) {
	switch {
	case f.sid != "":
		d.verified.Add(1)
	case f.wrong && d.verified.Load() == 0:
		d.warn(&d.secret, "No secret verifies the first cookie that came: a session of Node is none here, and one of Go none there", zap.String("cookie", m.opts.name))
	case !f.given && !d.name.Load():
		if other := m.rules.otherName(header); other != "" {
			d.warn(&d.name, "The name of the cookie: another one is signed by the same secret and looks like a session ID. Sessions of Node are none here",
				zap.String("cookie", m.opts.name), zap.String("other", other))
		}
	}
}

// lookedUp tells whether a genuine cookie had a row.
func (d *differences) lookedUp(found bool) {
	if found {
		d.met.Store(true)
	} else if !d.met.Load() && d.verified.Load() >= strangersBeforeWarning {
		d.warn(&d.table, "The table or the prefix: genuine cookies have no row. Sessions of Node are none here", zap.Int64("cookies", d.verified.Load()))
	}
}

// session looks at one that was read. now is the middleware's clock, ends what Go
// would write as its expiry.
func (d *differences) session(c Cookie, own Cookie, expires, ends time.Time) {
	if c.MaxAge != own.MaxAge {
		d.warn(&d.maxAge, "cookie.maxAge: a session was given another one than those have that Go makes. They end at different times, unless it was set for that session alone",
			zap.Duration("session", max(c.MaxAge, 0)), zap.Duration("Cookie.MaxAge", max(own.MaxAge, 0)))
	}
	if expires.Sub(ends) > time.Minute {
		d.warn(&d.ttl, "ttl, expiration or browserSessionLifetime: a row lasts longer than Go writes it. A session that Go saves or touches ends earlier",
			zap.Time("row", expires), zap.Time("Options.DefaultTTL", ends))
	}
}

// looksLikeID reports whether both packages make such IDs.
func looksLikeID(sid string) bool {
	return len(sid) == 32 && !strings.ContainsFunc(sid, func(r rune) bool {
		return r > '~' || !isLetter(byte(r)) && !isDigit(byte(r)) && r != '-' && r != '_'
	})
}

// cookieNames are the names in a Cookie header.
func cookieNames(header string) (names []string) {
	for pair := range strings.SplitSeq(header, ";") {
		if name, _, ok := strings.Cut(pair, "="); ok {
			names = append(names, strings.Trim(name, " \t"))
		}
	}
	return names
}

func (x expressRules) otherName(header string) string {
	for _, name := range cookieNames(header) {
		other := expressCookie{name, x.e.opts.Secrets}
		if sid, _ := other.read(header); looksLikeID(sid) {
			return name
		}
	}
	return ""
}

func (x koaRules) otherName(header string) string { return x.k.cookies.otherName(header, looksLikeID) }

// looksLikeUUID reports whether koa-session makes such IDs, behind a prefix.
func looksLikeUUID(sid string) bool {
	return len(sid) >= 36 && strings.Count(sid[len(sid)-36:], "-") == 4
}

func (x koaSessionRules) otherName(header string) string {
	return x.k.cookies.otherName(header, looksLikeUUID)
}

func (c koaCookie) otherName(header string, looks func(sid string) bool) string {
	if c.unsigned {
		return ""
	}
	for _, name := range cookieNames(header) {
		other := koaCookie{name: name, keys: c.keys}
		if looks(other.read(header).sid) {
			return name
		}
	}
	return ""
}
