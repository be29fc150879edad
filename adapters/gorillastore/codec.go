package gorillastore

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
)

// Codec makes bytes of a session's values, and adds what the bytes say to a map. Its
// methods may be called concurrently.
type Codec interface {
	Encode(values map[any]any) ([]byte, error)
	Decode(data []byte, values map[any]any) error
}

// Gob is the Codec that gorilla's own stores use. Types of the application have to be
// told to gob.Register.
type Gob struct{}

// Encode implements Codec.
func (Gob) Encode(values map[any]any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(values)
	return b.Bytes(), err
}

// Decode implements Codec.
func (Gob) Decode(data []byte, values map[any]any) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(&values)
}

// JSON is a Codec that other languages can read. Keys must be strings. Numbers come back
// as float64, and other values as encoding/json decodes into any.
type JSON struct{}

// Encode implements Codec.
func (JSON) Encode(values map[any]any) ([]byte, error) {
	named := make(map[string]any, len(values))
	for k, v := range values {
		name, ok := k.(string)
		if !ok {
			return nil, fmt.Errorf("the key of a value is a %T; for JSON it must be a string", k)
		}
		named[name] = v
	}
	return json.Marshal(named)
}

// Decode implements Codec.
func (JSON) Decode(data []byte, values map[any]any) error {
	var named map[string]any
	if err := json.Unmarshal(data, &named); err != nil {
		return err
	}
	for k, v := range named {
		values[k] = v
	}
	return nil
}
