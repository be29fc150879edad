package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// flashKey is the value that holds the flashes without a category. Those of a
// category have a value of their own.
const flashKey = "_flash"

// ofFlashes reports whether a value of that key holds flashes.
func ofFlashes(key string) bool { return key == flashKey || strings.HasPrefix(key, flashKey+":") }

func flashKeyOf(category string) (string, error) {
	switch {
	case category == "":
		return flashKey, nil
	case !utf8.ValidString(category):
		return "", fmt.Errorf("%w: the category of a flash must be UTF-8", ErrInvalid)
	}
	return flashKey + ":" + category, nil
}

// Flash adds something for a later request to show once, by Flashes. Concurrent
// requests may add, and all that they add is there. It fails as Set.
func (s *Session) Flash(v any) error { return s.FlashAs("", v) }

// FlashAs is Flash in a category, such as "error" or "info", for FlashesAs. It is
// ErrInvalid if the category is not UTF-8. The empty one is that of Flash.
func (s *Session) FlashAs(category string, v any) error {
	key, err := flashKeyOf(category)
	if err != nil {
		return err
	}
	one, err := encodeValue(key, v)
	if err != nil {
		return err
	}
	return s.do(s.ctx, func() error {
		return s.update(key, func(raw json.RawMessage) (json.RawMessage, error) {
			return encodeValue(key, append(flashesIn(raw), one))
		})
	})
}

// Flashes returns and removes, of what Flash has added, all that is a T, the oldest
// first. What else there is stays for a Flashes of its type; json.RawMessage is
// the type of all. Of concurrent requests each may get the same.
func Flashes[T any](s *Session) ([]T, error) { return FlashesAs[T](s, "") }

// FlashesAs is Flashes for what FlashAs has added in that category. Those of other
// categories stay.
func FlashesAs[T any](s *Session, category string) ([]T, error) {
	key, err := flashKeyOf(category)
	if err != nil {
		return nil, err
	}
	var all []T
	err = s.do(s.ctx, func() error {
		if err := s.decode(); err != nil {
			return err
		}
		var taken []json.RawMessage
		err := s.inside(func() error {
			for _, raw := range flashesIn(s.values[key]) {
				if one, err := decodeValue[T](key, raw); err == nil {
					all, taken = append(all, one), append(taken, raw)
				}
			}
			return nil
		})
		if err != nil || len(taken) == 0 {
			return err
		}
		return s.update(key, func(raw json.RawMessage) (json.RawMessage, error) {
			left := flashesIn(raw)
			for _, one := range taken {
				if i := slices.IndexFunc(left, func(other json.RawMessage) bool { return bytes.Equal(other, one) }); i >= 0 {
					left = slices.Delete(left, i, i+1)
				}
			}
			if len(left) == 0 {
				return nil, nil
			}
			return encodeValue(key, left)
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// flashesIn are the flashes of a session. What is no list, as another program may
// have left it, is one flash.
func flashesIn(raw json.RawMessage) []json.RawMessage {
	var all []json.RawMessage
	if raw != nil && json.Unmarshal(raw, &all) != nil {
		return []json.RawMessage{raw}
	}
	return all
}
