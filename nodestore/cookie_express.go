package nodestore

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"

	"github.com/sojourn-go/sojourn/session"
)

// expressCookie is how express-session reads and writes the sid: the text
// "s:", the sid, a dot and the signature, escaped.
type expressCookie struct {
	name    string
	secrets []session.Secret
}

const signedPrefix = "s:"

// read returns the sid of a Cookie header, empty if there is none that is
// signed by one of the secrets. given is whether there is a cookie at all.
func (c expressCookie) read(header string) (sid string, given bool) {
	value, given := c.find(header)
	if !given || len(value) > longestCookie {
		return "", given
	}
	value = latin1(value)
	if plain, ok := decodeComponent(value); ok {
		value = plain
	}
	value, ok := strings.CutPrefix(value, signedPrefix)
	dot := strings.LastIndexByte(value, '.')
	if !ok || dot < 0 {
		return "", true
	}
	sid, sum := value[:dot], value[dot+1:]
	for _, secret := range c.secrets {
		if subtle.ConstantTimeCompare([]byte(sum), []byte(signExpress(secret.Text(), sid))) == 1 {
			return sid, true
		}
	}
	return "", true
}

// find returns the first cookie of the name, as the package cookie does: blanks
// and tabs around names and values do not count, nor does one pair of quotes.
func (c expressCookie) find(header string) (string, bool) {
	for pair := range strings.SplitSeq(header, ";") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || strings.Trim(name, " \t") != c.name {
			continue
		}
		value = strings.Trim(value, " \t")
		if strings.HasPrefix(value, `"`) && strings.HasSuffix(value, `"`) {
			value = value[1:max(1, len(value)-1)]
		}
		return value, true
	}
	return "", false
}

// value is what the browser is given.
func (c expressCookie) value(sid string) string {
	return encodeComponent(signedPrefix + sid + "." + signExpress(c.secrets[0].Text(), sid))
}

// signExpress does not sign the cookie's name: the value is as valid under any
// other.
func signExpress(secret, sid string) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(sid))
	return base64.RawStdEncoding.EncodeToString(h.Sum(nil))
}

// line is the Set-Cookie header.
func (c expressCookie) line(value string, a attributes) string {
	var b strings.Builder
	b.WriteString(c.name + "=" + value)
	attribute := func(on bool, text string) {
		if on {
			b.WriteString("; " + text)
		}
	}
	attribute(a.Domain != "", "Domain="+a.Domain)
	attribute(a.Path != "", "Path="+a.Path)
	attribute(a.expires != "", "Expires="+a.expires)
	attribute(!a.NotHTTPOnly, "HttpOnly")
	attribute(a.secure, "Secure")
	attribute(a.Partitioned, "Partitioned")
	attribute(a.Priority != "", "Priority="+capital(a.Priority))
	attribute(a.SameSite != "", "SameSite="+capital(a.SameSite))
	return b.String()
}

func capital(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] }
