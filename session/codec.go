package session

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/sojourn-go/sojourn/internal/jsonobject"
)

// Codec makes the bytes that a store keeps of a session's values, each of which
// is JSON already. Use one to compress values, to encrypt them, or to share
// them with programs of another format. It is called concurrently.
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
func (JSON) Decode(data []byte) (map[string]json.RawMessage, error) {
	values := map[string]json.RawMessage{}
	err := jsonobject.Split(data, func(m jsonobject.Member) { values[m.Key] = m.Value })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	return values, nil
}
