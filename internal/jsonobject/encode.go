package jsonobject

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// MaxDepth is how deep the objects and arrays of a value may be nested.
// encoding/json reads ten times as deep, and a document has the value inside.
const MaxDepth = 1000

var errNotUTF8 = errors.New("a text in it is not UTF-8")

// Encode is Marshal for what is to be read again as it was: what would be altered,
// or could not be read, is an error.
func Encode(v any) (json.RawMessage, error) {
	raw, err := Marshal(v)
	switch {
	case err != nil:
		return nil, err
	case !utf8.Valid(raw), altered(raw, v):
		return nil, errNotUTF8
	}
	if n := Depth(raw); n > MaxDepth {
		return nil, fmt.Errorf("it is nested %d deep; the limit is %d", n, MaxDepth)
	}
	return raw, nil
}

// altered reports whether encoding/json has replaced a part of a text, as it does
// with what is not UTF-8. It writes this then; but so may a json.Marshaler.
func altered(raw json.RawMessage, v any) bool {
	return bytes.Contains(raw, []byte(`\ufffd`)) && invalid(reflect.ValueOf(v))
}

// invalid reports whether there is a text that is not UTF-8 in what encoding/json
// takes of a value.
func invalid(v reflect.Value) bool {
	if !v.IsValid() {
		return false
	}
	if text, own := ownText(v); own {
		return !utf8.Valid(text)
	}
	switch v.Kind() {
	case reflect.String:
		return !utf8.ValidString(v.String())
	case reflect.Interface, reflect.Pointer:
		return invalid(v.Elem())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return false
		}
		for i := range v.Len() {
			if invalid(v.Index(i)) {
				return true
			}
		}
	case reflect.Map:
		for key, value := range v.Seq2() {
			if invalid(key) || invalid(value) {
				return true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if (field.IsExported() || field.Anonymous) && field.Tag.Get("json") != "-" && invalid(v.Field(i)) {
				return true
			}
		}
	}
	return false
}

// ownText is the text of a value that encodes itself. Of one that makes JSON it is
// empty: what that is has been looked at.
func ownText(v reflect.Value) (text []byte, own bool) {
	if v.Kind() != reflect.Pointer && v.CanAddr() {
		v = v.Addr()
	}
	if !v.CanInterface() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, false
	}
	switch m := v.Interface().(type) {
	case json.Marshaler:
		return nil, true
	case encoding.TextMarshaler:
		text, _ = m.MarshalText() // it has been marshalled before
		return text, true
	}
	return nil, false
}

// Depth is how deep the objects and arrays of a JSON text are nested.
func Depth(raw []byte) (most int) {
	now := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i += text(raw[i:]) - 1
		case '[', '{':
			now++
			most = max(most, now)
		case ']', '}':
			now--
		}
	}
	return most
}
