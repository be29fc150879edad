package session

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A version cookie has the browser tell the next node which version of the
// session an earlier answer has saved: that node may hold an older one in its
// memory. It is no secret, and nobody trusts it: a wrong one costs a read of the
// database.
//
// Answers to requests at the same time may reach the browser in any order. So
// each version has one of several cookies, in turn: an older one does not
// replace a newer one.

// versionCookies is how many version cookies there are.
const versionCookies = 8

// versionBase is the base of the number in a version cookie.
const versionBase = 36

// setVersion is the line of the header that tells the browser of a version.
func (c Cookie) setVersion(version int64, turn int, p Policy, lag time.Duration) string {
	cookie := c.attributes(p)
	cookie.Name += versionSuffix + strconv.Itoa(turn)
	cookie.Value = strconv.FormatInt(version, versionBase)
	cookie.MaxAge = int(lag/time.Second) + 2 // at least a second longer
	return cookie.String()
}

// versionSuffix stands between the name of the session's cookie and the turn.
const versionSuffix = "-v"

// version returns the newest version that the browser was told of; 0 is none.
func (c Cookie) version(r *http.Request) (newest int64) {
	prefix := c.Name + versionSuffix
	for _, line := range r.Header["Cookie"] {
		for strings.Contains(line, prefix) {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if strings.HasPrefix(name, prefix) {
				if v, err := strconv.ParseInt(value, versionBase, 64); err == nil {
					newest = max(newest, v)
				}
			}
		}
	}
	return newest
}
