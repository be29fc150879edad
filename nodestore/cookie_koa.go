package nodestore

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// koaCookie is how koa-generic-session reads and writes the sid: as it is,
// beside a second cookie with the signature.
type koaCookie struct {
	name     string
	keys     []session.Secret
	unsigned bool
}

const sigSuffix = ".sig"

// presented is what a Cookie header says.
type presented struct {
	sid   string // empty if there is none with a right signature
	given bool   // whether there is a cookie at all
	wrong bool   // whether the signature is wrong
	old   bool   // whether it was made by a key that is not the newest
}

func (c koaCookie) read(header string) presented {
	value, given := findKoa(header, c.name)
	switch {
	case !given || len(value) > longestCookie:
		return presented{given: given}
	case c.unsigned:
		return presented{sid: latin1(value), given: true}
	}
	sum, _ := findKoa(header, c.name+sigSuffix)
	if sum == "" {
		return presented{given: true}
	}
	sid := latin1(value)
	for i, key := range c.keys {
		if subtle.ConstantTimeCompare([]byte(latin1(sum)), []byte(signKoa(key.Text(), c.name, sid))) == 1 {
			return presented{sid: sid, given: true, old: i > 0}
		}
	}
	return presented{given: true, wrong: true}
}

// correct takes a wrong signature from the browser, and renews one of an old
// key.
func (c koaCookie) correct(f presented, https bool) []cookieLine {
	a := attributes{Cookie: Cookie{Path: "/"}, secure: https}
	switch {
	case f.wrong:
		a.expires = httpTime(time.Unix(0, 0).UTC())
		return []cookieLine{koaLine(c.name+sigSuffix, "", a)}
	case f.old:
		return []cookieLine{c.sigLine(f.sid, a)}
	}
	return nil
}

// findKoa returns the first cookie of the name, as the package cookies does:
// blanks before the name do not count, all else does. A value that begins with
// a quote loses its first and last character.
func findKoa(header, name string) (string, bool) {
	for pair := range strings.SplitSeq(header, ";") {
		value, ok := strings.CutPrefix(strings.TrimLeft(pair, " "), name+"=")
		if !ok {
			continue
		}
		if strings.HasPrefix(value, `"`) {
			value = value[1:max(1, len(value)-1)]
		}
		return value, true
	}
	return "", false
}

func signKoa(key, name, value string) string {
	h := hmac.New(sha1.New, []byte(key)) // as keygrip does; HMAC does not need what SHA-1 lacks
	h.Write([]byte(name + "=" + value))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// lines are the Set-Cookie headers: the sid, and the signature if there is one.
func (c koaCookie) lines(sid string, signed bool, a attributes) []cookieLine {
	lines := []cookieLine{koaLine(c.name, sid, a)}
	if signed {
		lines = append(lines, c.sigLine(sid, a))
	}
	return lines
}

func (c koaCookie) sigLine(sid string, a attributes) cookieLine {
	return koaLine(c.name+sigSuffix, signKoa(c.keys[0].Text(), c.name, sid), a)
}

func koaLine(name, value string, a attributes) cookieLine {
	var b strings.Builder
	b.WriteString(name + "=" + value)
	attribute := func(on bool, text string) {
		if on {
			b.WriteString("; " + text)
		}
	}
	attribute(a.Path != "", "path="+a.Path)
	attribute(a.expires != "", "expires="+a.expires)
	attribute(a.Domain != "", "domain="+a.Domain)
	attribute(a.Priority != "", "priority="+a.Priority)
	attribute(a.SameSite != "", "samesite="+a.SameSite)
	attribute(a.secure, "secure")
	attribute(!a.NotHTTPOnly, "httponly")
	attribute(a.Partitioned, "partitioned")
	return cookieLine{name, b.String()}
}
