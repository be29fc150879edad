package node

import (
	"encoding/json"
	"slices"
	"testing"
)

// driver is a store of a package in Node. It may be used from several goroutines.
type driver struct {
	node    *hub
	number  int
	methods []string // what the package offers
}

// startDriver opens a store of the kind, which makes its table.
func startDriver(t testing.TB, k kind, db database) *driver {
	t.Helper()
	node := useHub(t)
	number, methods := node.open(t, "store", k.config(db))
	return &driver{node, number, methods}
}

// call has the store's method called and returns what it calls back with.
func (d *driver) call(method string, args ...any) (json.RawMessage, error) {
	return d.node.call(d.number, method, args...)
}

// must is call for a test whose failure ends it.
func (d *driver) must(t testing.TB, method string, args ...any) json.RawMessage {
	t.Helper()
	result, err := d.call(method, args...)
	if err != nil {
		t.Fatalf("Node's %s: %v", method, err)
	}
	return result
}

func (d *driver) has(method string) bool { return slices.Contains(d.methods, method) }

// get returns the session, nil when the package finds none.
func (d *driver) get(t testing.TB, sid string) json.RawMessage {
	t.Helper()
	got := d.must(t, "get", sid)
	if string(got) == "null" {
		return nil
	}
	return got
}
