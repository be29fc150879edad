package session

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sojourn-go/sojourn/internal/jsonobject"
)

// Codec makes the bytes that a store keeps of a session's values, each of which
// is JSON already. Use one to compress values, to encrypt them, or to share
// them with programs of another format. It is called concurrently.
//
// What is not a value stands in clear beside those bytes, whatever the Codec: the
// user, in a column of its own so that it can be searched for; and in front of the
// bytes Options.Name, when the ID was made, when the user logged in, and from that
// login its Policy, Label, address and agent.
//
// A Codec that holds a key had best be a pointer: whatever prints a field that is
// not exported prints what it holds.
type Codec interface {
	// Encode returns the bytes for values, which it must not keep or modify.
	// What encrypts should bind them to the session, by the additional data of
	// an AEAD: see Binding.
	Encode(session Binding, values map[string]json.RawMessage) ([]byte, error)
	// Decode returns the values of what Encode returned for the same session,
	// or an error for anything else, without data in its text. They may share
	// memory with data, which must not be modified; the map is the caller's.
	Decode(session Binding, data []byte) (map[string]json.RawMessage, error)
}

// Binding is the session whose values a Codec encodes. Bytes that are bound to it
// are of no use to whoever can write to the database: neither in the row of
// another session, nor in the same row with another user. What Encode returned
// earlier for the same session still is, which nothing but the database can tell.
type Binding struct {
	// Key is the session's. Each renewal changes it.
	Key Key
	// User is whose session it is, as Session.User has it.
	User string
	// Name is the Manager's Options.Name.
	Name string
}

// AdditionalData returns the binding as bytes, which are different for each
// binding and will always be the same for one.
func (b Binding) AdditionalData() []byte {
	data := make([]byte, 0, len(b.Key.Hash)+4+1+len(b.Name)+len(b.User))
	data = append(data, b.Key.Hash[:]...)
	data = binary.BigEndian.AppendUint32(data, uint32(b.Key.Bucket))
	data = binary.AppendUvarint(data, uint64(len(b.Name)))
	return append(append(data, b.Name...), b.User...)
}

// bound is what the values of a record are bound to. user is as the store knows it.
func (m *Manager) bound(key Key, user string) Binding {
	return Binding{Key: key, User: strings.TrimPrefix(user, m.prefix), Name: m.opts.Name}
}

// decode returns the values of a record.
func (m *Manager) decode(rec Record, body []byte) (map[string]json.RawMessage, error) {
	values, err := m.opts.Codec.Decode(m.bound(rec.Key, rec.User), body)
	switch {
	case err != nil && !errors.Is(err, ErrUndecodable):
		return nil, fmt.Errorf("%w: %w", ErrUndecodable, err)
	case err != nil:
		return nil, err
	case values == nil:
		values = map[string]json.RawMessage{}
	}
	return values, nil
}

// JSON is the default Codec: one JSON object. Values that were not changed are
// written as they were read, to the last digit. It holds no state.
type JSON struct{}

// Encode implements Codec.
func (JSON) Encode(_ Binding, values map[string]json.RawMessage) ([]byte, error) {
	size := 2
	for key, value := range values {
		size += len(key) + len(value) + 4
	}
	b := append(make([]byte, 0, size), '{')
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name, err := jsonobject.Marshal(key)
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
func (JSON) Decode(_ Binding, data []byte) (map[string]json.RawMessage, error) {
	values := map[string]json.RawMessage{}
	err := jsonobject.Split(data, func(m jsonobject.Member) { values[m.Key] = m.Value })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	return values, nil
}
