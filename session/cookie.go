package session

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Cookie says what the cookie is like. The zero Cookie is the safest: its name
// is __Host-session. So browsers accept it from this very host only, over HTTPS
// only, and for all paths (RFC 6265bis, section "Cookie Name Prefixes"). The
// cookie always is HttpOnly.
type Cookie struct {
	// Name of the cookie. Empty is "session", or Options.Name followed by
	// "-session", after the prefix that the other fields allow: __Host-,
	// __Secure- or none. A name without __Host- lets other hosts of the domain
	// plant cookies.
	Name string
	// Domain shares the cookie with all subdomains of a domain. Each of them
	// can then read it and set another one. Empty is this host only. A new
	// session for another host is ErrMisplaced, as no browser would take it.
	Domain string
	// Path confines the cookie to a path. That is no protection: pages of the
	// same host can get at it all the same. Empty is "/". A new session at
	// another path is ErrMisplaced, as no browser would send it back there.
	Path string
	// Insecure lets browsers send the cookie over plain HTTP, where anybody on
	// the way can read it. It is for development without TLS, which works with
	// Secure cookies on localhost in most browsers, though not in Safari.
	Insecure bool
	// Partitioned keeps a cookie of embedded pages apart for each site that
	// embeds them (CHIPS). It needs SameSite None in each Policy.
	Partitioned bool
	// SigningKeys makes the cookie carry an HMAC-SHA-256 of the ID, so that
	// forgeries are refused before any lookup. The first key signs, all of
	// them verify. To rotate, put a new key in front and remove the old one
	// when its sessions have ended. Each has 32 bytes or more: see Secrets. IDs
	// are safe without: they have 256 random bits.
	SigningKeys []Secret
}

const (
	hostPrefix   = "__Host-"
	securePrefix = "__Secure-"
	minKeyLen    = 32
)

// macText is how the signature is written.
var macText = base64.RawURLEncoding.Strict()

// withDefaults fills in what is empty.
func (c Cookie) withDefaults(name string) Cookie {
	c.Path = cmp.Or(c.Path, "/")
	if c.Name != "" {
		return c
	}
	c.Name = "session"
	if name != "" {
		c.Name = name + "-session"
	}
	switch {
	case c.Insecure:
	case c.Domain == "" && c.Path == "/":
		c.Name = hostPrefix + c.Name
	default:
		c.Name = securePrefix + c.Name
	}
	return c
}

// check returns what is wrong with a Cookie that has its defaults.
func (c Cookie) check() error {
	bad := func(field, format string, args ...any) error {
		return fmt.Errorf("%w: Options.Cookie.%s %s", ErrInvalid, field, fmt.Sprintf(format, args...))
	}
	switch {
	case c.prefixed(hostPrefix) && (c.Domain != "" || c.Path != "/" || c.Insecure):
		return bad("Name", "begins with %s, which allows neither Domain nor Path nor Insecure", hostPrefix)
	case c.prefixed(securePrefix) && c.Insecure:
		return bad("Name", "begins with %s, which does not allow Insecure", securePrefix)
	case c.Partitioned && c.Insecure:
		return bad("Partitioned", "does not go with Insecure")
	}
	if err := (&http.Cookie{Name: c.Name}).Valid(); err != nil {
		return bad("Name", "is %q: %v", c.Name, err)
	}
	if err := (&http.Cookie{Name: "c", Domain: c.Domain}).Valid(); err != nil {
		return bad("Domain", "is %q: %v", c.Domain, err)
	}
	if err := (&http.Cookie{Name: "c", Path: c.Path}).Valid(); err != nil || c.Path[0] != '/' {
		return bad("Path", "is %q; it must begin with a slash and have no semicolon", c.Path)
	}
	for i, key := range c.SigningKeys {
		if n := len(key.Text()); n < minKeyLen {
			return bad("SigningKeys", "[%d] has %d bytes; it must have %d or more", i, n, minKeyLen)
		}
	}
	return nil
}

// signed reports whether an ID in a cookie proves that the server has made it.
func (c Cookie) signed() bool { return len(c.SigningKeys) > 0 }

// prefixed ignores the case, as browsers do.
func (c Cookie) prefixed(prefix string) bool {
	return len(c.Name) >= len(prefix) && strings.EqualFold(c.Name[:len(prefix)], prefix)
}

// mostTried is how many cookies of one name are looked up for a request.
const mostTried = 4

// read returns the keys of the IDs that a request came with and whose signature
// is right, those with the longest path first (RFC 6265, section 5.4). given is
// how many cookies of that name there are: another host of the domain, or another
// path, may have set some of them.
func (c Cookie) read(r *http.Request) (keys []Key, given int) {
	cookies := r.CookiesNamed(c.Name)
	for _, cookie := range cookies[:min(len(cookies), 4*mostTried)] {
		if cookie.Quoted { // ours never is
			continue
		}
		if key, ok := c.keyOf(cookie.Value); ok && len(keys) < mostTried {
			keys = append(keys, key)
		}
	}
	return keys, len(cookies)
}

// keyOf returns the key of the ID in a cookie's value, if its signature is right.
func (c Cookie) keyOf(value string) (key Key, ok bool) {
	text, genuine := c.verify(value)
	if !genuine {
		return Key{}, false
	}
	key, err := ParseKey(text)
	return key, err == nil
}

// raw returns the ID of that key which a request came with; nil if there is none.
func (c Cookie) raw(r *http.Request, key Key) []byte {
	for _, cookie := range r.CookiesNamed(c.Name) {
		if id := c.rawOf(cookie.Value); id != nil && keyOf(id) == key {
			return id
		}
	}
	return nil
}

// rawOf returns the ID in a cookie's value; nil if there is none, or its signature
// is wrong.
func (c Cookie) rawOf(value string) []byte {
	text, genuine := c.verify(value)
	if !genuine {
		return nil
	}
	raw, err := parse(text)
	if err != nil {
		return nil
	}
	return raw[:]
}

// verify returns what may be an ID.
func (c Cookie) verify(value string) (text string, genuine bool) {
	if !c.signed() {
		return value, true
	}
	text, sum, ok := strings.Cut(value, ".")
	if !ok || len(text) != IDTextLen || len(sum) != macText.EncodedLen(sha256.Size) {
		return "", false
	}
	mac, err := macText.DecodeString(sum)
	if err != nil {
		return "", false
	}
	for _, key := range c.SigningKeys {
		if hmac.Equal(mac, c.sign(key, text)) {
			return text, true
		}
	}
	return "", false
}

// sign covers the name too: a cookie is not valid under another name.
func (c Cookie) sign(key Secret, text string) []byte {
	h := hmac.New(sha256.New, []byte(key.Text()))
	h.Write([]byte(c.Name + "=" + text))
	return h.Sum(nil)
}

// value is the value of the cookie that has an ID.
func (c Cookie) value(id ID) string {
	text := id.Secret()
	if c.signed() {
		text += "." + macText.EncodeToString(c.sign(c.SigningKeys[0], text))
	}
	return text
}

// set is the line of the header that gives the browser an ID. remaining is the
// time to the deadline.
func (c Cookie) set(value string, p Policy, remaining time.Duration) string {
	cookie := c.attributes(p)
	cookie.Value = value
	if p.Persistent {
		cookie.MaxAge = max(int(remaining/time.Second), 1)
	}
	return cookie.String()
}

// clear is the line of the header that takes the cookie from the browser.
func (c Cookie) clear(p Policy) string {
	cookie := c.attributes(p)
	cookie.MaxAge = -1
	return cookie.String()
}

func (c Cookie) attributes(p Policy) *http.Cookie {
	return &http.Cookie{
		Name: c.Name, Domain: c.Domain, Path: c.Path,
		Secure: !c.Insecure, HttpOnly: true, SameSite: p.SameSite, Partitioned: c.Partitioned,
	}
}
