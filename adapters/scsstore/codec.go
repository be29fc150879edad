package scsstore

import (
	"bytes"
	"encoding/gob"
	"maps"
	"reflect"
	"time"
)

// gobCodec decodes what scs.GobCodec encodes.
type gobCodec struct{}

func (gobCodec) Decode(b []byte) (time.Time, map[string]any, error) {
	var kept struct {
		Deadline time.Time
		Values   map[string]any
	}
	err := gob.NewDecoder(bytes.NewReader(b)).Decode(&kept)
	return kept.Deadline, kept.Values, err
}

// same reports whether the values of a session are the ones of b. The bytes do not
// tell: gob writes maps in any order.
func (s *Store) same(data, b []byte) bool {
	_, blob, ok := split(data)
	if !ok {
		return false
	}
	if _, plain := s.opts.Codec.(gobCodec); plain {
		if same, sure := sameGob(blob, b); sure {
			return same
		}
	}
	was, before, err := s.opts.Codec.Decode(blob)
	if err != nil {
		return false
	}
	deadline, values, err := s.opts.Codec.Decode(b)
	return err == nil && was.Equal(deadline) && maps.EqualFunc(before, values, func(a, b any) bool { return reflect.DeepEqual(a, b) })
}
