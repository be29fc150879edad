package nodestore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Expiry is what the package would write for this document now: the time that
// its cookie tells, or else the default lifetime, rounded. It may have passed. An
// expiry beyond what the column holds is the last that it holds.
//
// What JavaScript takes for false tells nothing: null, false, 0 and the empty text.
// A cookie.expires that is a text is taken for the Date that express-session
// makes of it before it calls its store; docs/node.md says which texts are read.
// The error is session.ErrInvalid where the package would fail or write nonsense:
// the document is not a JSON object, or its cookie tells something that is no time.
func (s *Store) Expiry(data []byte) (time.Time, error) {
	t, err := s.expiry(data, s.clock())
	return t, wrap("expiry", err)
}

func (s *Store) expiry(data []byte, now time.Time) (time.Time, error) {
	// A map, since a struct would take "Cookie" for the cookie.
	var doc, cookie map[string]json.RawMessage
	if err := json.Unmarshal(data, &doc); err != nil || doc == nil {
		return time.Time{}, invalid("the document is not a JSON object")
	}
	if json.Unmarshal(doc["cookie"], &cookie) != nil {
		cookie = nil // none, or not an object: it tells nothing
	}
	for _, source := range s.layout.TTL {
		object := cookie
		if source == MemberExpire {
			object = doc
		}
		t, told, err := source.in(object, now)
		if err != nil || told {
			return s.capped(t, now), err
		}
	}
	return s.byDefault(now), nil
}

// byDefault is the end of a session that begins now and does not say.
func (s *Store) byDefault(now time.Time) time.Time {
	return s.capped(now.Add(s.opts.DefaultTTL), now)
}

// beyond is how much longer than a browser koa-session has its store keep a session.
const beyond = 10 * time.Second

// in looks for the expiry in a cookie, or in a document.
func (source TTLSource) in(object map[string]json.RawMessage, now time.Time) (t time.Time, told bool, err error) {
	if source == MemberExpire {
		number, told := numberOf(object["_expire"])
		if t, ok := dateOfNumber(number + float64(beyond.Milliseconds())); ok {
			return t, told, nil
		}
		return lastDate, told, nil
	}
	name := "expires"
	if source == CookieMaxAge {
		name = "maxAge"
	}
	raw := object[name]
	if !truthy(raw) {
		return time.Time{}, false, nil
	}
	if number, is := numberOf(raw); is && source == CookieMaxAge {
		if t, ok := laterBy(now, number); ok || number < 0 {
			return t, true, nil
		}
		return lastDate, true, nil
	}
	t, ok := dateOf(raw, time.Local)
	if !ok || source == CookieMaxAge {
		return time.Time{}, false, invalid("cookie.%s is not a time", name)
	}
	return t, true, nil
}

// capped rounds an expiry the way the package does, to one that the column can
// hold. What is before 1970 is as dead as any.
func (s *Store) capped(t, now time.Time) time.Time {
	t = s.layout.Write.round(t, now)
	if t.After(s.table.latest) {
		return s.table.latest
	}
	if t.Before(time.UnixMilli(0)) {
		return time.UnixMilli(0).UTC()
	}
	return t
}

// storable is capped, but fails if the column cannot hold the expiry.
func (s *Store) storable(t, now time.Time) (time.Time, error) {
	if t.After(s.table.latest) {
		return time.Time{}, fmt.Errorf("%w: the column holds expiries up to %s", session.ErrDeadline, s.table.latest.Format(time.RFC3339))
	}
	return s.capped(t, now), nil
}

// time reads a number as the column, or the query for a date, has it.
func (k ExpiryKind) time(n int64) time.Time {
	per := map[ExpiryKind]int64{ExpiryDate: 1e6, ExpirySeconds: 1, ExpiryMillis: 1e3, ExpiryISO: 1e6}[k]
	seconds := min(max(n/per, 0), lastDate.Unix())
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
	case ExpiryISO:
		return isoTime(t.UTC())
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
