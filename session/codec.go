package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// Codec makes the bytes that a store keeps of a session's values, each of
// which is JSON already: to compress them, to encrypt them, or to share them
// with programs of another format. It is called concurrently.
type Codec interface {
	// Encode returns the bytes for values, which it must not keep or modify.
	Encode(values map[string]json.RawMessage) ([]byte, error)
	// Decode returns the values of what Encode returned, or an error for
	// anything else, without data in its text. They may share memory with
	// data, which must not be modified; the map is the caller's.
	Decode(data []byte) (map[string]json.RawMessage, error)
}

// JSON is the default Codec: one JSON object. Values that were not changed are
// written as they were read, to the last digit. It holds no state.
type JSON struct{}

// Encode implements Codec.
func (JSON) Encode(values map[string]json.RawMessage) ([]byte, error) {
	size := 2
	for key, value := range values {
		size += len(key) + len(value) + 4
	}
	b := append(make([]byte, 0, size), '{')
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name, err := marshal(key)
		if err != nil {
			return nil, err
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, name...), ':'), values[key]...)
	}
	return append(b, '}'), nil
}

// Decode implements Codec. It looks at the values only as far as it must to
// tell where they end: what is no JSON within one of them, Get reports.
func (JSON) Decode(data []byte) (map[string]json.RawMessage, error) {
	values := map[string]json.RawMessage{}
	o := object{rest: data}
	o.expect('{')
	for first := true; !o.accept('}'); first = false {
		if !first {
			o.expect(',')
		}
		key := o.key()
		o.expect(':')
		value := o.value()
		if o.bad {
			return nil, fmt.Errorf("%w: it is not a JSON object", ErrUndecodable)
		}
		values[key] = value
	}
	if o.next(); len(o.rest) > 0 {
		return nil, fmt.Errorf("%w: something follows the JSON object", ErrUndecodable)
	}
	return values, nil
}

// object takes a JSON object apart. It copies nothing: most requests read one
// value of many. After a mistake it is bad, and all else may be wrong.
type object struct {
	rest []byte
	bad  bool
}

// next returns the first byte that is not white space; 0 at the end.
func (o *object) next() byte {
	for len(o.rest) > 0 {
		switch o.rest[0] {
		case ' ', '\t', '\r', '\n':
			o.rest = o.rest[1:]
		default:
			return o.rest[0]
		}
	}
	return 0
}

func (o *object) accept(c byte) bool {
	if o.next() != c {
		return false
	}
	o.rest = o.rest[1:]
	return true
}

func (o *object) expect(c byte) {
	if !o.accept(c) {
		o.bad = true
	}
}

func (o *object) take(n int) []byte {
	taken := o.rest[:n:n]
	o.rest = o.rest[n:]
	return taken
}

func (o *object) key() string {
	if o.next() != '"' {
		o.bad = true
		return ""
	}
	quoted := o.take(text(o.rest))
	if plain := bytes.Trim(quoted, `"`); !bytes.ContainsFunc(plain, func(r rune) bool { return r < ' ' || r == '\\' || r >= utf8.RuneSelf }) &&
		len(plain) == len(quoted)-2 {
		return string(plain)
	}
	var key string
	if json.Unmarshal(quoted, &key) != nil {
		o.bad = true
	}
	return key
}

func (o *object) value() []byte {
	switch o.next() {
	case '"':
		return o.take(text(o.rest))
	case '{', '[':
		return o.take(o.nested())
	}
	end := bytes.IndexAny(o.rest, ",}")
	if end < 0 {
		o.bad = true
		return nil
	}
	value := bytes.TrimRight(o.take(end), " \t\r\n")
	if !json.Valid(value) { // it is short
		o.bad = true
	}
	return value
}

// nested is the length of the object or array that b begins with.
func (o *object) nested() int {
	depth := 0
	for i := 0; i < len(o.rest); i++ {
		switch o.rest[i] {
		case '"':
			i += text(o.rest[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	o.bad = true
	return len(o.rest)
}

// text is the length of the string that b begins with, quotes included; that
// of b if it does not end.
func text(b []byte) int {
	for i := 1; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return len(b)
		}
		i += n
		slashes := i
		for b[slashes-1] == '\\' {
			slashes--
		}
		if (i-slashes)%2 == 0 { // else it is escaped
			return i + 1
		}
	}
}

// marshal is json.Marshal that leaves <, > and & alone.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}
