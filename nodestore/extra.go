package nodestore

import (
	"encoding/json"
	"errors"
)

// Field takes a value out of a document by the names that lead to it, for
// Options.Extra: Field("passport", "user") is what passport calls the user. A
// text is given to the column as such, a number and a truth value as JSON
// prints them, an object or array as its JSON. Null, and a value that is not
// there, are given as NULL.
func Field(path ...string) func(data []byte) (any, error) {
	return func(data []byte) (any, error) {
		value := json.RawMessage(data)
		for _, name := range path {
			var object map[string]json.RawMessage
			if json.Unmarshal(value, &object) != nil { // not an object
				return nil, nil
			}
			value = object[name]
		}
		if len(value) == 0 || string(value) == "null" {
			return nil, nil
		}
		if value[0] != '"' {
			return string(value), nil
		}
		var text string
		if json.Unmarshal(value, &text) != nil {
			return nil, errors.New("not a text")
		}
		return text, nil
	}
}
