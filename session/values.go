package session

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sojourn-go/sojourn/internal/jsonobject"
	"github.com/sojourn-go/sojourn/internal/redacted"
	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// Get returns a value of the session, decoded as encoding/json does. A value
// that is not there is the zero T, of which Has can tell the difference. It is
// an error if the value is not a T, or if the session cannot be decoded and
// Options.FailUndecodable is set. There is nothing of the value in its text.
func Get[T any](s *Session, key string) (T, error) { return getValue[T](s, key, nil) }

// getValue is Get with what a value is that is not there, as JSON.
func getValue[T any](s *Session, key string, fallback json.RawMessage) (T, error) {
	raw, err := s.raw(key)
	if err != nil {
		var zero T
		return zero, err
	}
	if raw == nil {
		raw = fallback
	}
	return decodeValue[T](key, raw)
}

// Take takes a value that must be had once, as the state of an OAuth request:
// of concurrent requests, on whichever nodes, one finds it. found says whether
// this is the one. The session is saved, without the value and with what else
// the request has changed, before Take returns.
//
// It is an error if the value is not a T, and else fails as Set and Save. After an
// error the value may be taken again, unless it is ErrUnknown: then it may be gone.
// Neither T's own decoding nor anything else that it calls may use the session.
func Take[T any](ctx context.Context, s *Session, key string) (value T, found bool, err error) {
	if err := checkKey(key); err != nil {
		return value, false, err
	}
	var taken json.RawMessage
	err = s.do(ctx, func() error {
		return s.takeOut(ctx, key, func(raw json.RawMessage) (json.RawMessage, error) {
			taken = raw
			return nil, s.inside(func() (err error) {
				value, err = decodeValue[T](key, raw)
				return err
			})
		})
	})
	if err != nil || taken == nil {
		var zero T
		return zero, false, err
	}
	return value, true, nil
}

// Pop is Take for as long as the request lasts, where a value that is not there is
// as good as the zero T.
func Pop[T any](s *Session, key string) (T, error) {
	value, _, err := Take[T](s.ctx, s, key)
	return value, err
}

// Update changes a value by a function of what is there, the zero T if nothing
// is. When another request has saved meanwhile, the function is called again
// with what that has saved. So of two requests that count, both do. The
// function must do nothing else. If it uses the session, that and the Update are
// ErrInvalid. Update fails as Set.
func Update[T any](s *Session, key string, f func(T) T) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return updateValue(s, key, nil, f)
}

// updateValue is Update with what a value is that is not there, as JSON.
func updateValue[T any](s *Session, key string, fallback json.RawMessage, f func(T) T) error {
	return s.do(s.ctx, func() error {
		return s.update(key, func(raw json.RawMessage) (now json.RawMessage, err error) {
			if raw == nil {
				raw = fallback
			}
			err = s.inside(func() error {
				old, err := decodeValue[T](key, raw)
				if err != nil {
					return err
				}
				now, err = encodeValue(key, f(old))
				return err
			})
			return now, err
		})
	})
}

// Set gives the session a value, encoded by encoding/json at once. Changes to v
// made later do not count. A value that is there already, as far as this node knows,
// is not saved again.
//
// It is ErrInvalid if v cannot be encoded, has a text that is not UTF-8 or is
// nested deeper than MaxDepth, and if key is not UTF-8, empty, "_flash" or begins with "_flash:". It is
// ErrTooLarge, with the limit, if the session would have more data than the store
// takes. It is ErrTooLate if the answer has begun and the session is not stored
// yet, ErrDegraded if the session could not be read, and ErrNotFound if it was
// found to have ended. After a Save that failed it has the error of that, until
// another Save succeeds or Reload forgets the changes.
func (s *Session) Set(key string, v any) error {
	if err := checkKey(key); err != nil {
		return err
	}
	value, err := encodeValue(key, v)
	if err != nil {
		return err
	}
	return s.do(s.ctx, func() error { return s.change(key, value) })
}

// Delete removes a value. It is no error if there is none, and else fails as
// Set.
func (s *Session) Delete(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return s.do(s.ctx, func() error {
		if err := s.decode(); err != nil || s.rec.Key.IsZero() && !s.state.Is(reqsession.Degraded) && s.values[key] == nil {
			return err
		}
		return s.change(key, nil)
	})
}

// Clear removes all values and flashes, also values that other requests save
// before this request is saved. The user stays logged in. It fails as Set.
func (s *Session) Clear() error {
	return s.do(s.ctx, func() error {
		if err := s.changeable(); err != nil {
			return err
		}
		s.delta.begin(s.values)
		s.values = map[string]json.RawMessage{}
		s.delta.clear()
		return nil
	})
}

// Has reports whether there is a value.
func (s *Session) Has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.decode() == nil && !ofFlashes(key) && s.values[key] != nil
}

// Keys returns the keys of all values, sorted.
func (s *Session) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decode() != nil {
		return nil
	}
	keys := slices.Sorted(maps.Keys(s.values))
	return slices.DeleteFunc(keys, ofFlashes)
}

// raw is a value as JSON, which is never written to.
func (s *Session) raw(key string) (json.RawMessage, error) {
	if !s.mu.Enter() {
		return nil, errInside
	}
	defer s.mu.Unlock()
	err := s.decode()
	return s.values[key], err
}

// inside runs a function of the application while the session is locked.
func (s *Session) inside(f func() error) (err error) {
	if alone := s.mu.Call(func() { err = f() }); !alone {
		return errInside
	}
	return err
}

func (s *Session) change(key string, value json.RawMessage) error {
	if err := s.changeable(); err != nil {
		return err
	}
	if err := s.put(key, value); err != nil {
		return err
	}
	s.delta.set(key, value)
	return nil
}

func (s *Session) update(key string, u update) error {
	if err := s.changeable(); err != nil {
		return err
	}
	now, err := u(s.values[key])
	if err != nil {
		return err
	}
	if err := s.put(key, now); err != nil {
		return err
	}
	s.delta.update(key, u, now)
	return nil
}

// takeOut removes a value by an update of that, which gets it, and saves. When that
// fails, the value is not taken.
func (s *Session) takeOut(ctx context.Context, key string, u update) error {
	if err := s.changeable(); err != nil || s.values[key] == nil {
		return err
	}
	before := s.clone()
	err := s.update(key, u)
	if err == nil && (!s.rec.Key.IsZero() || s.next != nil) {
		err = s.store(reqsession.Exactly(ctx), reqsession.ReachOf(s.ctx, reqsession.Later))
	}
	if err != nil && !s.dead() {
		s.content = before
	}
	return err
}

// put places a value among the others, if there is room.
func (s *Session) put(key string, value json.RawMessage) error {
	s.delta.begin(s.values)
	before := s.values[key]
	place := func(value json.RawMessage) {
		if value == nil {
			delete(s.values, key)
		} else {
			s.values[key] = value
		}
	}
	place(value)
	if value == nil {
		return nil
	}
	if err := s.fits(key); err != nil {
		place(before)
		return err
	}
	return nil
}

// spare is how much smaller than the limit the values are whose data need not be
// made to know that it fits.
const spare = 8

// fits says whether the data has room in the store, with the value that key has.
func (s *Session) fits(key string) error {
	h := s.head
	if s.rec.Key.IsZero() {
		h = s.draft("", s.head.policy).head
	}
	size := 256 + wrappedLen + len(h.about)
	for key, value := range s.values {
		size += len(key) + len(value) + 4
	}
	if s.m.most == 0 || size <= s.m.most/spare {
		return nil
	}
	h.csrf = strings.Repeat(" ", wrappedLen) // another ID may need so much
	data, err := s.encode(h, s.rec.Key, s.rec.User)
	if err == nil && len(data) > s.m.most {
		err = fmt.Errorf("%w: with the value %q the session has %d bytes of data; the store takes %d", ErrTooLarge, key, len(data), s.m.most)
	}
	return err
}

// changeable says whether changes will be saved. It decodes the values too.
func (s *Session) changeable() error {
	if err := s.writable(); err != nil {
		return err
	}
	if s.dead() {
		return errEnded
	}
	if err := s.state.Refusal(); err != nil {
		return fmt.Errorf("session: %w", err)
	}
	return nil
}

// writable decodes the values too.
func (s *Session) writable() error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.rec.Key.IsZero() && s.state.Sealed() {
		return fmt.Errorf("%w: a new session needs a cookie", ErrTooLate)
	}
	return s.decode()
}

// usable says whether the session was read, and its request still lasts.
func (s *Session) usable() error {
	switch {
	case s.state.Closed():
		return fmt.Errorf("%w: the request is over", ErrTooLate)
	case s.state.Is(reqsession.Degraded):
		return ErrDegraded
	}
	return s.state.Failure()
}

func checkKey(key string) error {
	switch {
	case key == "" || ofFlashes(key):
		return fmt.Errorf("%w: the key of a value must not be empty, %q or begin with %q", ErrInvalid, flashKey, flashKey+":")
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: the key of a value must be UTF-8", ErrInvalid)
	}
	return nil
}

func decodeValue[T any](key string, raw json.RawMessage) (value T, err error) {
	if raw == nil {
		return value, nil
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		var zero T
		return zero, redacted.Because(fmt.Sprintf("session: the value %q is no %T", key, zero), err)
	}
	return value, nil
}

// MaxDepth is how deep the objects and arrays of a value may be nested.
const MaxDepth = jsonobject.MaxDepth

func encodeValue(key string, v any) (json.RawMessage, error) {
	raw, err := jsonobject.Encode(v)
	if err != nil {
		return nil, fmt.Errorf("%w: the value %q cannot be encoded: %w", ErrInvalid, key, err)
	}
	return raw, nil
}
