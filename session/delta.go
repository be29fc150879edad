package session

import (
	"bytes"
	"encoding/json"
	"maps"
)

// delta is what a request changes, by key. So it can be made again to what
// another request has saved meanwhile.
type delta struct {
	cleared bool // all that was there before the rest
	changes map[string]change
	base    map[string]json.RawMessage // the values without them; nil before the first
}

// change is what a request does to one value. updates run, in order, on the
// value that is there when the session is saved.
type change struct {
	value   json.RawMessage // nil deletes
	updates []update
}

// update makes a new value of the present one. Both are nil if there is no
// value.
type update func(json.RawMessage) (json.RawMessage, error)

func (d *delta) empty() bool { return !d.cleared && len(d.changes) == 0 }

// differs reports whether values, with the changes, are others than those without.
func (d *delta) differs(values map[string]json.RawMessage) bool {
	same := func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }
	return !d.empty() && !maps.EqualFunc(d.base, values, same)
}

// begin keeps the values as they are before the first change.
func (d *delta) begin(values map[string]json.RawMessage) {
	if d.base == nil {
		d.base = maps.Clone(values)
	}
}

func (d *delta) clone() delta {
	c := *d
	c.changes = maps.Clone(d.changes)
	return c
}

func (d *delta) clear() { *d = delta{cleared: true, base: d.base} }

func (d *delta) set(key string, value json.RawMessage) { d.put(key, change{value: value}) }

// update records a function to run on a value. If this request has set the
// value already, now, the function's result, replaces what was recorded.
// Otherwise the function is kept, and runs again on what the store holds when
// the session is saved.
func (d *delta) update(key string, u update, now json.RawMessage) {
	was, there := d.changes[key]
	if d.cleared && !there || there && was.updates == nil {
		d.set(key, now)
		return
	}
	d.put(key, change{updates: append(was.updates, u)})
}

func (d *delta) put(key string, c change) {
	if d.changes == nil {
		d.changes = map[string]change{}
	}
	d.changes[key] = c
}

// apply makes the changes to values.
func (d *delta) apply(values map[string]json.RawMessage) error {
	if d.cleared {
		clear(values)
	}
	for key, c := range d.changes {
		value := c.value
		if c.updates != nil {
			value = values[key]
			for _, u := range c.updates {
				var err error
				if value, err = u(value); err != nil {
					return err
				}
			}
		}
		if value == nil {
			delete(values, key)
		} else {
			values[key] = value
		}
	}
	return nil
}
