package session

import "encoding/json"

// delta is what a request changes, by key, so that it can be made again to
// what another request has saved meanwhile.
type delta struct {
	cleared bool // all that was there before the rest
	changes map[string]change
}

// change of a value. Updates are made to what is there.
type change struct {
	value   json.RawMessage // nil deletes
	updates []update
}

// update returns a value for that which is there, nil if none.
type update func(json.RawMessage) (json.RawMessage, error)

func (d *delta) empty() bool { return !d.cleared && len(d.changes) == 0 }

func (d *delta) clear() { *d = delta{cleared: true} }

func (d *delta) set(key string, value json.RawMessage) { d.put(key, change{value: value}) }

// update is made to a value that is set here at once, to others when they are
// saved. now is the value with the update.
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
