package nodestore

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Secure says whether browsers send a cookie over HTTPS only.
type Secure int

// The values of Secure.
const (
	// SecureDefault is what the middleware does if it is not told: a cookie of
	// express-session is not secure, one of koa-generic-session is if the
	// request came over HTTPS.
	SecureDefault Secure = iota
	// SecureNever is secure: false.
	SecureNever
	// SecureAlways is secure: true.
	SecureAlways
	// SecureAuto is secure: 'auto' of express-session: as the request that
	// begins the session. For koa-generic-session it is SecureDefault.
	SecureAuto
)

// Cookie is what a session's cookie is like: the options "cookie" of the
// middlewares, with their defaults, and what the session says of it itself.
type Cookie struct {
	// Domain shares the cookie with all subdomains of a domain. Empty is the
	// host that sets it.
	Domain string
	// Path confines the cookie, and the sessions, to paths that begin with it.
	// Empty is "/".
	Path string
	// MaxAge is for how long the browser keeps the cookie, to the millisecond,
	// and the store the session. 0 is the middleware's default: none in
	// express-session, a day in koa-generic-session. Negative is none: the
	// cookie goes when the browser is closed, and the store knows for how long
	// it keeps such a session.
	MaxAge time.Duration
	// NotHTTPOnly lets scripts read the cookie: httpOnly: false.
	NotHTTPOnly bool
	Secure      Secure
	// SameSite is "strict", "lax", "none" or empty for none of them; in
	// express-session also "auto": "none" if the request that begins the
	// session came over HTTPS, else "lax".
	SameSite string
	// Priority is "low", "medium", "high" or empty.
	Priority    string
	Partitioned bool
}

// none is MaxAge where there is none.
const none = -1

// withDefaults fills in what is empty.
func (c Cookie) withDefaults(maxAge time.Duration) Cookie {
	c.Path = cmp.Or(c.Path, "/")
	c.MaxAge = max(cmp.Or(c.MaxAge, maxAge), none)
	return c
}

// domain is what both packages take for one.
var domain = regexp.MustCompile(`(?i)^\.?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// check is about a Cookie with its defaults.
func (c Cookie) check() error {
	switch {
	case c.Domain != "" && !domain.MatchString(c.Domain):
		return fmt.Errorf("Cookie.Domain is %q; it must be a domain", c.Domain)
	case strings.ContainsFunc(c.Path, func(r rune) bool { return r < ' ' || r == ';' || r == '<' || r > '~' }):
		return fmt.Errorf("Cookie.Path is %q; it must be printable ASCII without ; and <", c.Path)
	case c.MaxAge > 0 && c.MaxAge < time.Millisecond:
		return fmt.Errorf("Cookie.MaxAge is %v; it must be a millisecond or more", c.MaxAge)
	case c.Secure < SecureDefault || c.Secure > SecureAuto:
		return fmt.Errorf("Cookie.Secure is %d; it must be one of the constants", c.Secure)
	}
	switch c.SameSite {
	case "", "strict", "lax", "none", "auto":
	default:
		return fmt.Errorf(`Cookie.SameSite is %q; it must be "strict", "lax", "none" or empty`, c.SameSite)
	}
	switch c.Priority {
	case "", "low", "medium", "high":
	default:
		return fmt.Errorf(`Cookie.Priority is %q; it must be "low", "medium", "high" or empty`, c.Priority)
	}
	return nil
}

// attributes returns the attributes of a Set-Cookie header.
type attributes struct {
	Cookie
	secure  bool
	expires string
}

// cookieLine is a Set-Cookie header.
type cookieLine struct{ name, text string }

// field of a session's cookie object; without a value it is undefined.
type field struct {
	name  string
	value json.RawMessage
}

// text is a JSON string, or undefined.
func text(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	value, _ := encode(s) // of a string it does not fail
	return value
}

func boolean(b bool) json.RawMessage { return strconv.AppendBool(nil, b) }

// secureField is the field of a cookie of which the middleware has been told.
func secureField(s Secure) json.RawMessage {
	if s == SecureNever || s == SecureAlways {
		return boolean(s == SecureAlways)
	}
	return nil
}

func flag(on bool) json.RawMessage {
	if on {
		return boolean(true)
	}
	return nil
}

// object makes an object of those fields that are defined.
func object(fields []field) json.RawMessage {
	d := &Document{tail: []byte{'}'}}
	for _, f := range fields {
		place(d, f, nil)
	}
	return d.Bytes()
}

// place writes a field: where it is, or before the first of the later ones.
func place(d *Document, f field, later []field) {
	if f.value == nil || d.find(f.name) >= 0 {
		_ = d.put(f.value, []string{f.name}) // a path of one is always there
		return
	}
	at := len(d.members)
	for _, other := range later {
		if next := d.find(other.name); next >= 0 {
			at = next
			break
		}
	}
	_ = d.insert(at, f.name, f.value) // the name can be encoded
}

// readCookie reads what both packages keep of a cookie, as they do: whatever is
// there is taken. Only a line of it can fail; see checkLine.
func readCookie(d *Document) Cookie {
	c := Cookie{Path: "/", MaxAge: none}
	str := func(name, value string) string {
		raw := d.Raw(name)
		switch {
		case raw == nil:
			return value
		case !truthy(raw):
			return ""
		case json.Unmarshal(raw, &value) != nil:
			return string(raw)
		}
		return value
	}
	c.Domain, c.Path, c.Priority = str("domain", ""), str("path", "/"), strings.ToLower(str("priority", ""))
	if raw := d.Raw("sameSite"); string(raw) == "true" {
		c.SameSite = "strict"
	} else {
		c.SameSite = strings.ToLower(str("sameSite", ""))
	}
	if raw := d.Raw("httpOnly"); raw != nil {
		c.NotHTTPOnly = !truthy(raw)
	}
	if raw := d.Raw("secure"); raw != nil {
		c.Secure = SecureNever
		if truthy(raw) {
			c.Secure = SecureAlways
		}
	}
	c.Partitioned = truthy(d.Raw("partitioned"))
	return c
}

// expiresOf is the date that a cookie tells.
func expiresOf(cookie *Document) (time.Time, bool) {
	if raw := cookie.Raw("expires"); truthy(raw) {
		return dateOf(raw, time.Local)
	}
	return time.Time{}, false
}

// checkLine says why a cookie that a row has told cannot be sent, if so.
func (c Cookie) checkLine() error {
	err := c.check()
	if err == nil && c.SameSite == "auto" {
		err = errors.New(`Cookie.SameSite is "auto"`)
	}
	if err != nil {
		return fmt.Errorf("nodestore: %w: the session's cookie cannot be sent: %w", session.ErrInvalid, err)
	}
	return nil
}

// errEndless is about a cookie whose end is no date.
var errEndless = fmt.Errorf("nodestore: %w: the session's cookie cannot be sent: its end is no date", session.ErrInvalid)

// duration is a MaxAge of so many milliseconds, one that has passed the
// shortest.
func duration(ms float64) time.Duration {
	switch {
	case ms < 1:
		return time.Millisecond
	case ms > math.MaxInt64/float64(time.Millisecond):
		return math.MaxInt64
	}
	return time.Duration(ms) * time.Millisecond
}

// isoTime is Date.toISOString.
func isoTime(t time.Time) string {
	if year := t.Year(); year < 0 || year > 9999 {
		return fmt.Sprintf("%+07d%s", year, t.Format("-01-02T15:04:05.000Z"))
	}
	return t.Format("2006-01-02T15:04:05.000Z")
}

// httpTime is Date.toUTCString.
func httpTime(t time.Time) string { return t.Format(http.TimeFormat) }
