package nodestore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sojourn-go/sojourn/internal/jsonobject"
	"github.com/sojourn-go/sojourn/session"
)

// cookieKey is where both middlewares keep a session's cookie.
const cookieKey = "cookie"

// Document is a session as JSON text. A value that is not changed keeps its
// bytes: unknown keys, their order, numbers to the last digit, escapes and lone
// surrogates. A value that is changed takes the place of the old one, a new key
// comes last. Of a key that is there twice the last counts, as in JavaScript.
//
// A path leads through nested objects: "passport", "user". A Document must not
// be used concurrently. It prints, logs and marshals as a placeholder: Bytes
// returns its text.
type Document struct {
	placeholder
	text    []byte // until something is changed
	members []member
	tail    []byte
}

// member shares its memory, which is never written to.
type member struct {
	key   string
	lead  []byte // the separator, the name and the colon before value
	value []byte
}

// ParseDocument reads the JSON text of a session. It is ErrUndecodable of
// package session if that is no JSON object. The Document keeps data, which
// must not be modified.
func ParseDocument(data []byte) (*Document, error) {
	if !json.Valid(data) {
		return nil, fmt.Errorf("nodestore: %w: it is not JSON", session.ErrUndecodable)
	}
	return split(data)
}

// split is for what is known to be JSON.
func split(data []byte) (*Document, error) {
	d := &Document{text: data}
	from := 0
	err := jsonobject.Split(data, func(m jsonobject.Member) {
		key := m.Key
		if strings.ContainsRune(key, utf8.RuneError) {
			key = "\xff" + string(m.Name) // keys with different lone surrogates are different
		}
		d.members = append(d.members, member{key, data[from:m.At:m.At], m.Value})
		from = m.At + len(m.Value)
	})
	if err != nil {
		return nil, fmt.Errorf("nodestore: %w: %w", session.ErrUndecodable, err)
	}
	d.tail = data[from:]
	if len(d.members) == 0 { // what is added goes between the braces
		open := bytes.IndexByte(data, '{') + 1
		d.tail = data[open:]
	}
	return d, nil
}

// Bytes returns the JSON text, which must not be modified.
func (d *Document) Bytes() []byte {
	if d.text != nil {
		return d.text
	}
	size := len(d.tail) + 1
	for _, m := range d.members {
		size += len(m.lead) + len(m.value)
	}
	text := make([]byte, 0, size)
	for _, m := range d.members {
		text = append(append(text, m.lead...), m.value...)
	}
	if len(d.members) == 0 {
		text = append(text, '{')
	}
	d.text = append(text, d.tail...)
	return d.text
}

// Keys returns the keys of the session in their order, except its cookie.
func (d *Document) Keys() []string {
	return d.keys(func(key string) bool { return key == cookieKey })
}

func (d *Document) keys(except func(key string) bool) []string {
	var keys []string
	for _, m := range d.members {
		if !except(m.key) && utf8.ValidString(m.key) && !slices.Contains(keys, m.key) {
			keys = append(keys, m.key)
		}
	}
	return keys
}

// Raw returns the JSON text of the value that path leads to, which must not be
// modified. It is nil if there is none. Without a path it returns the text of
// the whole session.
func (d *Document) Raw(path ...string) json.RawMessage {
	if len(path) == 0 {
		return d.Bytes()
	}
	i := d.find(path[0])
	if i < 0 {
		return nil
	}
	value := d.members[i].value
	if len(path) == 1 {
		return value
	}
	inner, err := split(value)
	if err != nil {
		return nil
	}
	return inner.Raw(path[1:]...)
}

// Set changes the value that path leads to, encoded by encoding/json as
// JSON.stringify would write it. Objects on the way are made where there are
// none. It is ErrInvalid of package session if something else is there, if v
// cannot be encoded, has a text that is not UTF-8 or is nested deeper than
// session.MaxDepth, or if a key is empty or not UTF-8.
func (d *Document) Set(v any, path ...string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	value, err := encode(v)
	if err != nil {
		return fmt.Errorf("nodestore: %w: the value %q cannot be encoded: %w", session.ErrInvalid, strings.Join(path, "."), err)
	}
	return d.put(value, path)
}

// Delete removes the value that path leads to. It is no error if there is none.
func (d *Document) Delete(path ...string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	return d.put(nil, path)
}

func checkPath(path []string) error {
	if n := len(path); n == 0 || n > session.MaxDepth {
		return fmt.Errorf("nodestore: %w: the path has %d keys; it must have from 1 to %d", session.ErrInvalid, n, session.MaxDepth)
	}
	for _, key := range path {
		if key == "" || !utf8.ValidString(key) || strings.ContainsRune(key, utf8.RuneError) {
			return fmt.Errorf("nodestore: %w: the key of a value must be UTF-8, not empty and without U+FFFD", session.ErrInvalid)
		}
	}
	return nil
}

// put sets or, with nil, deletes. A value that is there already changes
// nothing.
func (d *Document) put(value json.RawMessage, path []string) error {
	key := path[0]
	i := d.find(key)
	if len(path) > 1 {
		inner := &Document{tail: []byte{'}'}}
		if i >= 0 && string(d.members[i].value) != "null" {
			var err error
			if inner, err = split(d.members[i].value); err != nil {
				return fmt.Errorf("nodestore: %w: the value %q is no object", session.ErrInvalid, key)
			}
		} else if value == nil {
			return nil
		}
		if err := inner.put(value, path[1:]); err != nil {
			return err
		}
		value = inner.Bytes()
	}
	switch {
	case value == nil:
		for ; i >= 0; i = d.find(key) {
			d.remove(i)
		}
	case i < 0:
		return d.insert(len(d.members), key, value)
	case !bytes.Equal(d.members[i].value, value):
		d.members[i].value, d.text = value, nil
	}
	return nil
}

func (d *Document) find(key string) int {
	for i, m := range slices.Backward(d.members) {
		if m.key == key {
			return i
		}
	}
	return -1
}

func (d *Document) insert(i int, key string, value []byte) error {
	name, err := encode(key)
	if err != nil {
		return err
	}
	lead := append(append([]byte{','}, name...), ':')
	if i == 0 {
		lead[0] = '{'
		if len(d.members) > 0 {
			d.members[0].lead = after(d.members[0].lead, '{', ",")
		}
	}
	d.members = slices.Insert(d.members, i, member{key, lead, value})
	d.text = nil
	return nil
}

func (d *Document) remove(i int) {
	if i == 0 && len(d.members) > 1 {
		d.members[1].lead = after(d.members[1].lead, ',', "{")
	}
	d.members = slices.Delete(d.members, i, i+1)
	d.text = nil
}

// after is a lead with another separator.
func after(lead []byte, old byte, separator string) []byte {
	return append([]byte(separator), lead[bytes.IndexByte(lead, old)+1:]...)
}

// clone returns a Document that changes on its own.
func (d *Document) clone() *Document {
	c := *d
	c.members = slices.Clone(d.members)
	return &c
}

// same reports whether another document has the same keys and values in the
// same order, but for the keys that are apart.
func (d *Document) same(other *Document, apart func(key string) bool) bool {
	a, b := d.members, other.members
	for {
		for len(a) > 0 && apart(a[0].key) {
			a = a[1:]
		}
		for len(b) > 0 && apart(b[0].key) {
			b = b[1:]
		}
		if len(a) == 0 || len(b) == 0 {
			return len(a) == len(b)
		}
		if a[0].key != b[0].key || !bytes.Equal(a[0].value, b[0].value) {
			return false
		}
		a, b = a[1:], b[1:]
	}
}
