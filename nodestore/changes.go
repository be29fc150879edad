package nodestore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/internal/reqsession"
	"github.com/sojourn-go/sojourn/session"
)

// change is what a request does to a session, so that it can be done again to
// what another one has saved meanwhile.
type change struct {
	path   []string
	value  json.RawMessage // nil deletes
	update update          // instead of value
}

// update makes a new value of the present one. Both are nil if there is no
// value.
type update func(json.RawMessage) (json.RawMessage, error)

func (c change) apply(d *Document) error {
	value := c.value
	if c.update != nil {
		var err error
		if value, err = c.update(d.Raw(c.path...)); err != nil {
			return err
		}
	}
	return d.put(value, c.path)
}

// Raw returns the JSON text of the value that path leads to, which must not be
// modified. It is nil if there is none.
func (s *Session) Raw(path ...string) json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doc == nil {
		return nil
	}
	return s.doc.Raw(path...)
}

// Keys returns the keys of the session in their order, except its cookie.
func (s *Session) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doc == nil {
		return nil
	}
	return s.doc.keys(s.m.isCookie)
}

// Set gives the session a value, encoded by encoding/json at once, as
// JSON.stringify would write it: what cannot be encoded is an error here. A
// time.Time is not what JSON.stringify makes of a Date: give it the text. A
// number that JavaScript cannot hold, beyond 2^53, is rounded by the next Node
// request.
//
// It is ErrInvalid of package session for a key that is empty, not UTF-8 or
// "cookie", or that express-session would not read, as "id" or "save". It is the
// same if v cannot be encoded, has a text that is not UTF-8 or is nested deeper
// than session.MaxDepth or than the database takes. It is ErrTooLarge, with the
// limit, if the document would be larger than the store takes. It is ErrTooLate if
// the answer has begun and the session is not stored yet, and ErrNotFound if the
// session has ended. After a Save that failed it has the error of that, until
// another Save succeeds.
func (s *Session) Set(key string, v any) error { return s.SetPath([]string{key}, v) }

// SetPath is Set for a value in nested objects, which are made where there are
// none: "passport", "user". It is ErrInvalid too if something else is there.
func (s *Session) SetPath(path []string, v any) error {
	if err := s.checkPath(path); err != nil {
		return err
	}
	value, err := encode(v)
	if err != nil {
		return notEncoded(path, err)
	}
	return s.do(s.r.Context(), func() error { return s.change(change{path: slices.Clone(path), value: value}) })
}

// Delete removes the value that path leads to. It is no error if there is
// none, and else fails as SetPath.
func (s *Session) Delete(path ...string) error {
	if err := s.checkPath(path); err != nil {
		return err
	}
	return s.do(s.r.Context(), func() error { return s.change(change{path: slices.Clone(path)}) })
}

// Update changes a value by a function of what is there, the zero T if nothing
// is. When another request has saved meanwhile, the function is called again
// with what that has saved. So of two Go requests that count, both do. It must
// do nothing else. If it uses the session, that and the Update are ErrInvalid of
// package session. Update fails as Session.Set.
func Update[T any](s *Session, key string, f func(T) T) error {
	path := []string{key}
	if err := s.checkPath(path); err != nil {
		return err
	}
	return s.do(s.r.Context(), func() error {
		return s.change(change{path: path, update: func(raw json.RawMessage) (now json.RawMessage, err error) {
			err = s.inside(func() error {
				old, err := decode[T](raw, key)
				if err != nil {
					return err
				}
				if now, err = encode(f(old)); err != nil {
					return notEncoded(path, err)
				}
				return nil
			})
			return now, err
		}})
	})
}

// Take takes a value that must be had once, as the state of an OAuth request: of
// concurrent Go requests, on whichever nodes, one finds it. found says whether this
// is the one. The session is saved, without the value and with what else the
// request has changed, before Take returns. A Node request that has read the
// session before and saves it later brings the value back.
//
// It is an error if the value is not a T, and else fails as Set and Save. After an
// error the value may be taken again, unless it is ErrUnknown of package session:
// then it may be gone. T's own decoding must not use the session.
func Take[T any](ctx context.Context, s *Session, path ...string) (value T, found bool, err error) {
	if err := s.checkPath(path); err != nil {
		return value, false, err
	}
	path = slices.Clone(path)
	var taken json.RawMessage
	err = s.do(ctx, func() error {
		return s.take(ctx, change{path: path, update: func(raw json.RawMessage) (json.RawMessage, error) {
			taken = raw
			return nil, s.inside(func() (err error) {
				value, err = decode[T](raw, path...)
				return err
			})
		}})
	})
	if err != nil || taken == nil {
		var zero T
		return zero, false, err
	}
	return value, true, nil
}

// flashKey is where connect-flash keeps its messages, in arrays by kind.
const flashKey = "flash"

// Flash adds a message for a later request, in Go or in Node, to show once, as
// req.flash(kind, v) of connect-flash. It fails as Set.
func (s *Session) Flash(kind string, v any) error {
	path := []string{flashKey, kind}
	if err := s.checkPath(path); err != nil {
		return err
	}
	one, err := encode(v)
	if err != nil {
		return notEncoded(path, err)
	}
	return s.do(s.r.Context(), func() error {
		return s.change(change{path: path, update: func(raw json.RawMessage) (json.RawMessage, error) {
			return encode(append(flashesIn(raw), one))
		}})
	})
}

func notEncoded(path []string, err error) error {
	return fmt.Errorf("nodestore: %w: the value %q cannot be encoded: %w", session.ErrInvalid, path, err)
}

// flashesIn are the messages of a kind. What is no array is one message.
func flashesIn(raw json.RawMessage) []json.RawMessage {
	var all []json.RawMessage
	if raw != nil && json.Unmarshal(raw, &all) != nil {
		return []json.RawMessage{raw}
	}
	return all
}

// Flashes returns and removes the messages of a kind that are a T, the oldest
// first, as req.flash(kind) of connect-flash. What else there is of the kind stays
// for a Flashes of its type; json.RawMessage is the type of all. Of concurrent
// requests each may get the same.
func Flashes[T any](s *Session, kind string) ([]T, error) {
	path := []string{flashKey, kind}
	if err := s.checkPath(path); err != nil {
		return nil, err
	}
	var all []T
	err := s.do(s.r.Context(), func() error {
		if err := s.usable(); err != nil {
			return err
		}
		var taken []json.RawMessage
		there := s.doc.Raw(path...)
		err := s.inside(func() error {
			for _, raw := range flashesIn(there) {
				if one, err := decode[T](raw, path...); err == nil {
					all, taken = append(all, one), append(taken, raw)
				}
			}
			return nil
		})
		if err != nil || len(taken) == 0 && len(flashesIn(there)) > 0 || there == nil {
			return err
		}
		return s.change(change{path: path, update: func(raw json.RawMessage) (json.RawMessage, error) {
			left := flashesIn(raw)
			for _, one := range taken {
				if i := slices.IndexFunc(left, func(other json.RawMessage) bool { return bytes.Equal(other, one) }); i >= 0 {
					left = slices.Delete(left, i, i+1)
				}
			}
			if len(left) == 0 {
				return nil, nil
			}
			return encode(left)
		}})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// AllFlashes is Flashes for every kind, as req.flash() of connect-flash.
func AllFlashes[T any](s *Session) (map[string][]T, error) {
	all := map[string][]T{}
	if err := s.do(s.r.Context(), s.usable); err != nil {
		return all, err
	}
	kinds, err := split(s.Raw(flashKey))
	if err != nil { // there are none
		return all, nil
	}
	for _, m := range kinds.members {
		messages, err := Flashes[T](s, m.key)
		if err != nil {
			return all, err
		}
		if len(messages) > 0 {
			all[m.key] = messages
		}
	}
	return all, nil
}

// Cookie returns what the session's cookie is like. It is the zero Cookie if
// the session could not be loaded.
func (s *Session) Cookie() Cookie {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doc == nil {
		return Cookie{}
	}
	return s.cookie()
}

func (s *Session) cookie() Cookie { return s.m.rules.parse(s.m.cookieOf(s.doc)) }

// Expires is when the session's cookie ends, as req.session.cookie.expires: by what
// was stored last, which a touch does not change. ends is false for a cookie that
// lasts as long as the browser. For koa-generic-session, whose maxAge counts from
// when the cookie is set, it is where one would end that was set now.
func (s *Session) Expires() (at time.Time, ends bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doc == nil {
		return time.Time{}, false
	}
	return s.m.rules.ending(s.m.cookieOf(s.doc), s.m.now())
}

// TimeLeft is how long the cookie still lasts, as req.session.cookie.maxAge: see
// Expires. It is negative once that has passed.
func (s *Session) TimeLeft() (left time.Duration, ends bool) {
	at, ends := s.Expires()
	if !ends {
		return 0, false
	}
	return at.Sub(s.m.now()), true
}

// SetCookie changes what the session's cookie is like, as assigning to
// req.session.cookie does. Take the result of Cookie, change some fields and
// give it back. With a MaxAge of 30 days a browser remembers its user.
//
// express-session does not count this as a change of the session: it is stored
// and the browser is told only if a value changes too, or after Save or
// Regenerate. This request's touch goes by it all the same. koa-session keeps
// MaxAge alone, for which it stores the session. It fails as Set.
func (s *Session) SetCookie(c Cookie) error {
	c, err := s.m.rules.complete(c, s.m.https(s.r))
	if err != nil {
		return fmt.Errorf("nodestore: %w: %w", session.ErrInvalid, err)
	}
	return s.do(s.r.Context(), func() error {
		if err := s.writable(); err != nil {
			return err
		}
		now := s.m.now()
		were, fields := s.m.rules.fields(s.cookie(), now), s.m.rules.fields(c, now)
		if s.m.flat {
			return s.setFlat(were, fields)
		}
		return s.change(change{path: []string{cookieKey}, update: func(raw json.RawMessage) (json.RawMessage, error) {
			d, err := split(raw)
			if err != nil {
				d = &Document{tail: []byte{'}'}}
			}
			for i, f := range fields {
				if !bytes.Equal(f.value, were[i].value) {
					place(d, f, fields[i+1:])
				}
			}
			return d.Bytes(), nil
		}})
	})
}

// setFlat is SetCookie where the cookie's fields are members of the session.
func (s *Session) setFlat(were, fields []field) error {
	for i, f := range fields {
		if bytes.Equal(f.value, were[i].value) {
			continue
		}
		if err := s.change(change{path: []string{f.name}, value: f.value}); err != nil {
			return err
		}
	}
	s.end.extended = true
	return nil
}

func (s *Session) checkPath(path []string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	if s.m.rules.hides(path[0]) {
		return fmt.Errorf("nodestore: %w: %s does not give the application a value of the key %q", session.ErrInvalid, s.m.scheme, path[0])
	}
	return nil
}

func (s *Session) change(c change) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.state.Refusal(); err != nil {
		return fmt.Errorf("nodestore: %w", err)
	}
	before := s.doc.clone()
	err := c.apply(s.doc)
	if err == nil && (c.value != nil || c.update != nil) {
		err = s.fits()
	}
	if err != nil {
		s.doc = before
		return err
	}
	if last := len(s.changes) - 1; last >= 0 && c.update == nil && slices.Equal(s.changes[last].path, c.path) {
		s.changes = s.changes[:last]
	}
	s.changes = append(s.changes, c)
	return nil
}

// fits says whether the store takes the document.
func (s *Session) fits() error {
	data, err := s.toStore(s.doc.clone())
	if err != nil {
		return err
	}
	return s.m.store.Fits(data)
}

// take removes a value by an update of that, which gets it, and saves. When that
// fails, the value is not taken.
func (s *Session) take(ctx context.Context, c change) error {
	if err := s.writable(); err != nil || s.doc.Raw(c.path...) == nil {
		return err
	}
	before := s.content.clone()
	err := s.change(c)
	if err == nil && s.entry.ID != "" {
		err = s.write(reqsession.Exactly(ctx), reqsession.ReachOf(s.r.Context(), reqsession.Later))
	}
	if err != nil && !s.dead() {
		s.content = before
	}
	return err
}

// writable says whether the session can still be changed.
func (s *Session) writable() error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.entry.ID == "" && s.state.Sealed() {
		return fmt.Errorf("nodestore: %w: a new session needs a cookie", session.ErrTooLate)
	}
	return nil
}

// usable says whether the session was read and has not ended, and its request
// still lasts.
func (s *Session) usable() error {
	switch {
	case s.state.Closed():
		return fmt.Errorf("nodestore: %w: the request is over", session.ErrTooLate)
	case s.state.Failure() != nil:
		return s.state.Failure()
	case s.state.Is(reqsession.Gone), s.state.Is(reqsession.Unset), s.dead():
		return errEnded
	}
	return nil
}

var errEnded = fmt.Errorf("nodestore: %w: it has ended", session.ErrNotFound)
