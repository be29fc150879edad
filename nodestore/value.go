package nodestore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sojourn-go/sojourn/internal/jsonobject"
	"github.com/sojourn-go/sojourn/internal/redacted"
)

// Values is a Document or a Session.
type Values interface {
	// Raw returns the JSON text of the value that path leads to, nil if there
	// is none.
	Raw(path ...string) json.RawMessage
}

// Value returns the value that path leads to, decoded as encoding/json does. A
// value that is not there is the zero T, as is null. It is an error if the
// value is not a T, without anything of the value in its text.
func Value[T any](from Values, path ...string) (T, error) {
	return decode[T](from.Raw(path...), path...)
}

func decode[T any](raw json.RawMessage, path ...string) (value T, err error) {
	if raw == nil {
		return value, nil
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		var zero T
		return zero, redacted.Because(fmt.Sprintf("nodestore: the value %q is no %T", strings.Join(path, "."), zero), err)
	}
	return value, nil
}

// encode is JSON.stringify: it leaves alone not only <, > and &, but also the
// line separators, which encoding/json always escapes. What would be read
// otherwise than it was is an error.
func encode(v any) (json.RawMessage, error) {
	text, err := jsonobject.Encode(v)
	if err != nil || !bytes.Contains(text, []byte(`\u202`)) {
		return text, err
	}
	plain := make([]byte, 0, len(text))
	for len(text) > 0 {
		switch {
		case bytes.HasPrefix(text, []byte(`\u2028`)):
			plain, text = append(plain, "\u2028"...), text[6:]
		case bytes.HasPrefix(text, []byte(`\u2029`)):
			plain, text = append(plain, "\u2029"...), text[6:]
		case text[0] == '\\':
			plain, text = append(plain, text[:2]...), text[2:]
		default:
			plain, text = append(plain, text[0]), text[1:]
		}
	}
	return plain, nil
}
