package nodestore

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Expiry is what the package would write for this document now: the time that
// its cookie tells, or else the default lifetime, rounded. It may have passed.
//
// A cookie.expires that is a text is taken for the Date that express-session
// makes of it before it calls its store. The error is session.ErrInvalid where
// the package would fail or write nonsense: the document is not a JSON object,
// or its cookie tells something that is no time.
func (s *Store) Expiry(data []byte) (time.Time, error) {
	t, err := s.expiry(data, s.clock())
	return t, wrap("expiry", err)
}

func (s *Store) expiry(data []byte, now time.Time) (time.Time, error) {
	t, err := s.lifetime(data, now)
	if err != nil {
		return time.Time{}, err
	}
	return s.storable(t, now)
}

// lifetime is where a session ends, by its document.
func (s *Store) lifetime(data []byte, now time.Time) (time.Time, error) {
	// A map, since a struct would take "Cookie" for the cookie.
	var doc, cookie map[string]json.RawMessage
	if err := json.Unmarshal(data, &doc); err != nil || doc == nil {
		return time.Time{}, invalid("the document is not a JSON object")
	}
	if json.Unmarshal(doc["cookie"], &cookie) != nil {
		cookie = nil // none, or not an object: it tells nothing
	}
	for _, source := range s.layout.TTL {
		t, err := source.in(cookie, now)
		if err != nil || !t.IsZero() {
			return t, err
		}
	}
	return now.Add(s.opts.DefaultTTL), nil
}

// in looks for the expiry in a cookie. Zero: it does not say.
func (source TTLSource) in(cookie map[string]json.RawMessage, now time.Time) (time.Time, error) {
	name := "expires"
	if source == CookieMaxAge {
		name = "maxAge"
	}
	raw := cookie[name]
	var number float64
	var text string
	switch {
	case len(raw) == 0, string(raw) == "null", string(raw) == "false":
		return time.Time{}, nil
	case json.Unmarshal(raw, &number) == nil:
		if source == CookieMaxAge {
			if number == 0 {
				return time.Time{}, nil
			}
			number += float64(now.UnixMilli())
		}
		// Where no date of JavaScript is either.
		if number = math.Trunc(number); math.Abs(number) > 8.64e15 {
			return time.Time{}, invalid("cookie.%s is out of range", name)
		}
		return time.UnixMilli(int64(number)).UTC(), nil
	case source == CookieExpires && json.Unmarshal(raw, &text) == nil:
		// time.RFC3339 takes milliseconds too.
		for _, form := range []string{time.RFC3339, http.TimeFormat} {
			if t, err := time.Parse(form, text); err == nil {
				return t.UTC(), nil
			}
		}
	}
	return time.Time{}, invalid("cookie.%s is not a time", name)
}

// storable rounds an expiry the way the package does, and fails if the column
// cannot hold it.
func (s *Store) storable(t, now time.Time) (time.Time, error) {
	t = s.layout.Write.round(t, now)
	if t.Before(time.UnixMilli(0)) { // as dead as any, and unsigned columns hold it
		t = time.UnixMilli(0).UTC()
	}
	if t.After(s.table.latest) {
		return time.Time{}, fmt.Errorf("%w: the column holds expiries up to %s", session.ErrDeadline, s.table.latest.Format(time.RFC3339))
	}
	return t, nil
}

// time reads a number as the column, or the query for a date, has it.
func (k ExpiryKind) time(n int64) time.Time {
	const latest = 253402300799 // the end of the year 9999
	per := map[ExpiryKind]int64{ExpiryDate: 1e6, ExpirySeconds: 1, ExpiryMillis: 1e3}[k]
	seconds := min(max(n/per, 0), latest)
	var rest int64
	if seconds == n/per && n > 0 {
		rest = n % per * (1e9 / per)
	}
	return time.Unix(seconds, rest).UTC()
}

// bindExpiry is the parameter for an instant that is rounded.
func (s *Store) bindExpiry(t time.Time) any {
	switch s.layout.Expires {
	case ExpirySeconds:
		return t.Unix()
	case ExpiryMillis:
		return t.UnixMilli()
	}
	return s.dialect.bindDate(t)
}

// bindNow is the clock as it is compared with the column.
func (s *Store) bindNow(now time.Time) any { return s.bindExpiry(s.layout.Clock.round(now, now)) }

// bindStamp is the clock for CreatedAt and UpdatedAt.
func (s *Store) bindStamp(now time.Time) any {
	if s.layout.Dialect == MySQL {
		now = now.Truncate(time.Second)
	}
	return s.dialect.bindDate(now)
}
