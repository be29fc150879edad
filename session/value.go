package session

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
)

// Value is a handle for one value of each session: its key, its type and what it is
// where a session has none. Make it once, by NewValue, and all handlers agree:
//
//	var visits = session.NewValue[int]("visits")
//
//	n, err := visits.Get(s)
//	err = visits.Update(s, func(n int) int { return n + 1 })
//
// It may be copied and used concurrently. The zero Value is of no use: its methods
// are ErrInvalid.
type Value[T any] struct {
	key      string
	fallback json.RawMessage
	err      error
}

// NewValue makes the handle of the value that Set gives a session as key. If the key
// is empty, not UTF-8 or one of the package's own, or if a T cannot be JSON, that is
// what Err returns and each of the other methods: nothing panics.
func NewValue[T any](key string) Value[T] {
	v := Value[T]{key: key, err: checkKey(key)}
	if t := reflect.TypeFor[T](); v.err == nil && !encodable(t) {
		v.err = fmt.Errorf("%w: the value %q cannot be encoded: it is a %v", ErrInvalid, key, t)
	}
	return v
}

// encodable is false for types of which encoding/json encodes no value.
func encodable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return t.Implements(reflect.TypeFor[json.Marshaler]())
	}
	return true
}

// Or returns a handle whose value is fallback where a session has none, instead of
// the zero T. It is encoded at once: each Get decodes it anew, so that no session
// shares it with another. It is not stored by that. If it cannot be encoded, that is
// the error of all methods.
func (v Value[T]) Or(fallback T) Value[T] {
	if v.err == nil {
		v.fallback, v.err = encodeValue(v.key, fallback)
	}
	return v
}

// Err returns what is wrong with the handle, an ErrInvalid, for a test or the start
// of a program. It is nil for all that can be used.
func (v Value[T]) Err() error {
	if v.err != nil {
		return v.err
	}
	return checkKey(v.key)
}

// Key returns the key that the handle was made with.
func (v Value[T]) Key() string { return v.key }

// Get returns the value, as the function Get does.
func (v Value[T]) Get(s *Session) (T, error) {
	if err := v.Err(); err != nil {
		var zero T
		return zero, err
	}
	return getValue[T](s, v.key, v.fallback)
}

// Set gives the session the value, and fails as Session.Set.
func (v Value[T]) Set(s *Session, value T) error {
	if err := v.Err(); err != nil {
		return err
	}
	return s.Set(v.key, value)
}

// Update changes the value by a function of what is there, as the function Update
// does.
func (v Value[T]) Update(s *Session, f func(T) T) error {
	if err := v.Err(); err != nil {
		return err
	}
	return updateValue(s, v.key, v.fallback, f)
}

// Take takes a value that must be had once, as the function Take does. Where there is
// none, found is false, and the value is the zero T whatever Or says.
func (v Value[T]) Take(ctx context.Context, s *Session) (value T, found bool, err error) {
	if err := v.Err(); err != nil {
		return value, false, err
	}
	return Take[T](ctx, s, v.key)
}

// Delete removes the value, and fails as Session.Delete.
func (v Value[T]) Delete(s *Session) error {
	if err := v.Err(); err != nil {
		return err
	}
	return s.Delete(v.key)
}
