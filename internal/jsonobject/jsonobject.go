// Package jsonobject takes JSON objects apart and leaves what is in them as it
// stands.
package jsonobject

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// Member is a key of an object and its value, which share the object's memory.
type Member struct {
	Key   string
	Name  []byte // Key as it is written, with its quotes
	Value []byte
	At    int // where in the object Value begins
}

var (
	errNoObject = errors.New("it is not a JSON object")
	errFollows  = errors.New("something follows the JSON object")
)

// Split gives the members of the object that data is to f, in their order. It
// looks at the values only as far as it must to tell where they end: what is
// within an object, an array or a string may be no JSON. After an error what f
// was given means nothing. There is no data in the error's text.
func Split(data []byte, f func(Member)) error {
	o := object{rest: data}
	o.expect('{')
	for first := true; !o.accept('}'); first = false {
		if !first {
			o.expect(',')
		}
		var m Member
		m.Key, m.Name = o.key()
		o.expect(':')
		o.next()
		m.At = len(data) - len(o.rest)
		m.Value = o.value()
		if o.bad {
			return errNoObject
		}
		f(m)
	}
	switch o.next(); {
	case o.bad: // it begins with the brace that ends one
		return errNoObject
	case len(o.rest) > 0:
		return errFollows
	}
	return nil
}

// object copies nothing: most requests read one value of many. After a mistake
// it is bad, and all else may be wrong.
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

func (o *object) key() (key string, quoted []byte) {
	if o.next() != '"' {
		o.bad = true
		return "", nil
	}
	quoted = o.take(text(o.rest))
	if plain := bytes.Trim(quoted, `"`); !bytes.ContainsFunc(plain, func(r rune) bool { return r < ' ' || r == '\\' || r >= utf8.RuneSelf }) &&
		len(plain) == len(quoted)-2 {
		return string(plain), quoted
	}
	var unescaped string // not key, which would be allocated each time
	if json.Unmarshal(quoted, &unescaped) != nil {
		o.bad = true
	}
	return unescaped, quoted
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

// Marshal is json.Marshal that leaves <, > and & alone.
func Marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}
