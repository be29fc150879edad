package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/sojourn-go/sojourn/internal/jsonobject"
	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// flashKey is the value that holds the flashes.
const flashKey = "_flash"

// Get returns a value of the session, decoded as encoding/json does. A value
// that is not there is the zero T, of which Has can tell the difference. It is
// an error if the value is not a T, or if the session cannot be decoded and
// Options.FailUndecodable is set.
func Get[T any](s *Session, key string) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return read[T](s, key)
}

// Pop is Get and Delete, for values that are used once. Of concurrent requests
// each may get the value.
func Pop[T any](s *Session, key string) (T, error) {
	var value T
	if err := checkKey(key); err != nil {
		return value, err
	}
	err := s.do(s.r.Context(), func() (err error) {
		if value, err = read[T](s, key); err != nil || s.values[key] == nil {
			return err
		}
		return s.change(key, nil)
	})
	return value, err
}

// Update changes a value by a function of what is there, the zero T if nothing
// is. When another request has saved meanwhile, the function is called again
// with what that has saved. So of two requests that count, both do. The
// function must do nothing else, nor use the session.
func Update[T any](s *Session, key string, f func(T) T) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return s.do(s.r.Context(), func() error {
		return s.update(key, func(raw json.RawMessage) (json.RawMessage, error) {
			old, err := decodeValue[T](key, raw)
			if err != nil {
				return nil, err
			}
			return encodeValue(key, f(old))
		})
	})
}

// Flashes returns and removes what Flash has added, the oldest first. Of
// concurrent requests each may get the same.
func Flashes[T any](s *Session) ([]T, error) {
	var all []T
	err := s.do(s.r.Context(), func() error {
		taken, err := read[[]json.RawMessage](s, flashKey)
		if err != nil || len(taken) == 0 {
			return err
		}
		for _, raw := range taken {
			one, err := decodeValue[T](flashKey, raw)
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		return s.update(flashKey, func(raw json.RawMessage) (json.RawMessage, error) {
			left, err := decodeValue[[]json.RawMessage](flashKey, raw)
			if err != nil {
				return nil, err
			}
			for _, one := range taken {
				if i := slices.IndexFunc(left, func(other json.RawMessage) bool { return bytes.Equal(other, one) }); i >= 0 {
					left = slices.Delete(left, i, i+1)
				}
			}
			if len(left) == 0 {
				return nil, nil
			}
			return encodeValue(flashKey, left)
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Flash adds something for a later request to show once, by Flashes. Concurrent
// requests may add, and all that they add is there.
func (s *Session) Flash(v any) error {
	one, err := encodeValue(flashKey, v)
	if err != nil {
		return err
	}
	return s.do(s.r.Context(), func() error {
		return s.update(flashKey, func(raw json.RawMessage) (json.RawMessage, error) {
			all, err := decodeValue[[]json.RawMessage](flashKey, raw)
			if err != nil {
				return nil, err
			}
			return encodeValue(flashKey, append(all, one))
		})
	})
}

// Set gives the session a value, encoded by encoding/json at once: what cannot
// be encoded is an error here. Changes to v made later do not count. The key
// must be UTF-8, not empty and not "_flash", else it is ErrInvalid. It is
// ErrTooLate if the answer has begun and the session is not stored yet, and
// ErrDegraded if the session could not be read.
func (s *Session) Set(key string, v any) error {
	if err := checkKey(key); err != nil {
		return err
	}
	value, err := encodeValue(key, v)
	if err != nil {
		return err
	}
	return s.do(s.r.Context(), func() error { return s.change(key, value) })
}

// Delete removes a value. It is no error if there is none, and else fails as
// Set.
func (s *Session) Delete(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return s.do(s.r.Context(), func() error {
		if err := s.decode(); err != nil || s.rec.Key.IsZero() && !s.state.Is(reqsession.Degraded) && s.values[key] == nil {
			return err
		}
		return s.change(key, nil)
	})
}

// Clear removes all values and flashes, also values that other requests save
// before this request is saved. The user stays logged in. It fails as Set.
func (s *Session) Clear() error {
	return s.do(s.r.Context(), func() error {
		if err := s.writable(); err != nil {
			return err
		}
		s.values = map[string]json.RawMessage{}
		s.delta.clear()
		return nil
	})
}

// Has reports whether there is a value.
func (s *Session) Has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.decode() == nil && key != flashKey && s.values[key] != nil
}

// Keys returns the keys of all values, sorted.
func (s *Session) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decode() != nil {
		return nil
	}
	keys := slices.Sorted(maps.Keys(s.values))
	return slices.DeleteFunc(keys, func(key string) bool { return key == flashKey })
}

func read[T any](s *Session, key string) (T, error) {
	if err := s.decode(); err != nil {
		var zero T
		return zero, err
	}
	return decodeValue[T](key, s.values[key])
}

func (s *Session) change(key string, value json.RawMessage) error {
	if err := s.writable(); err != nil {
		return err
	}
	s.delta.set(key, value)
	if value == nil {
		delete(s.values, key)
	} else {
		s.values[key] = value
	}
	return nil
}

func (s *Session) update(key string, u update) error {
	if err := s.writable(); err != nil {
		return err
	}
	now, err := u(s.values[key])
	if err != nil {
		return err
	}
	s.delta.update(key, u, now)
	if now == nil {
		delete(s.values, key)
	} else {
		s.values[key] = now
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
	case key == "" || key == flashKey:
		return fmt.Errorf("%w: the key of a value must be neither empty nor %q", ErrInvalid, flashKey)
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
		return zero, fmt.Errorf("session: the value %q is no %T: %w", key, zero, err)
	}
	return value, nil
}

func encodeValue(key string, v any) (json.RawMessage, error) {
	raw, err := jsonobject.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("session: the value %q cannot be encoded: %w", key, err)
	}
	return raw, nil
}
