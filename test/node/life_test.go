package node

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func bothTouch(t *testing.T, p pair) {
	ctx := t.Context()
	doc := p.document(inTime(time.Hour), `,"user":"ann"`)
	further := inTime(2 * time.Hour)
	p.node.must(t, "set", "touched", doc)
	if p.does.koa {
		p.node.must(t, "set", "reference", p.document(further, `,"user":"ann"`))
	} else {
		p.node.must(t, "touch", "touched", p.document(further, `,"user":"ann"`))
		got := p.read(t, "touched")
		wantNear(t, "the expiry after Node's touch", got.Expires, further)
		p.wantDocument(t, "Go, after Node's touch,", got.Data, doc) // its cookie.expires is stale
		p.node.must(t, "set", "reference", doc)
		further = inTime(3 * time.Hour)
		p.node.must(t, "touch", "reference", p.document(further, ""))
	}

	if found, err := p.store.Touch(ctx, "touched", further); err != nil || !found {
		t.Errorf("Go's Touch: %v, %v", found, err)
	}
	p.wantDocument(t, "Node, after Go's Touch,", p.node.get(t, "touched"), doc)
	// Of the data only koa's differs, which has no touch but only a set.
	touched, _ := p.row(t, "touched")
	reference, _ := p.row(t, "reference")
	if !p.does.endsExpired && p.written(touched.expires) != p.written(reference.expires) {
		t.Errorf("Go touches to %s, Node to %s", touched.expires, reference.expires)
	}
	wantNear(t, "the expiry after Go's Touch", p.read(t, "touched").Expires, further)

	if found, err := p.store.Touch(ctx, "never there", further); err != nil || found {
		t.Errorf("Go's Touch of what is not there: %v, %v", found, err)
	}
	if _, ok := p.row(t, "never there"); ok {
		t.Error("a touch made a session")
	}
}

func bothDestroy(t *testing.T, p pair) {
	doc := p.document(inTime(time.Hour), "")
	p.node.must(t, "set", "one", doc)
	p.write(t, "two", doc)
	if n, err := p.store.Destroy(t.Context(), "one", "two", "never there"); err != nil || n != 2 {
		t.Errorf("Go's Destroy: %d, %v, want 2", n, err)
	}
	for _, sid := range []string{"one", "two"} {
		if got := p.node.get(t, sid); got != nil {
			t.Errorf("Node reads what Go destroyed: %s", got)
		}
		p.node.must(t, "destroy", sid) // no error
	}

	p.write(t, "three", doc)
	p.node.must(t, "destroy", "three")
	wantNotFound(t, p, "three", "Node destroyed")
}

func expiredIsDeadForGo(t *testing.T, p pair) {
	p.expired(t, "expired")
	wantNotFound(t, p, "expired", "expired")
	if got := p.node.get(t, "expired"); (got != nil) != p.does.servesExpired {
		t.Errorf("Node reads %s of an expired session; it serves them: %v", got, p.does.servesExpired)
	}
	further := inTime(time.Hour)
	if found, err := p.store.Touch(t.Context(), "expired", further); err != nil || found {
		t.Errorf("Go's Touch of an expired session: %v, %v", found, err)
	}
	wantNotFound(t, p, "expired", "Go touched after its expiry")
	if p.does.koa {
		return
	}
	// Node does bring it back, and Go goes by the row.
	p.node.must(t, "touch", "expired", p.document(further, ""))
	if p.does.deadStays {
		wantNotFound(t, p, "expired", "Node touched after its expiry")
	} else {
		wantNear(t, "the expiry that Node brought back", p.read(t, "expired").Expires, further)
	}
}

func wantNotFound(t testing.TB, p pair, sid, what string) {
	t.Helper()
	if e, err := p.store.Get(t.Context(), sid); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Go reads what %s: %s, %v", what, e.Data, err)
	}
}

func bothPrune(t *testing.T, p pair) {
	if _, err := p.store.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	prune := map[string]func(){
		"Go": func() {
			if n, err := p.store.Prune(t.Context()); err != nil || n != 2 {
				t.Errorf("Go's Prune: %d, %v, want 2", n, err)
			}
		},
		"Node": func() { p.node.must(t, "prune") },
	}
	if !p.node.has("prune") {
		delete(prune, "Node")
	}
	for who, do := range prune {
		p.expired(t, "dead-1")
		p.write(t, "live", p.document(inTime(time.Hour), ""))
		p.expired(t, "dead-2")
		do()
		if n := p.rows(t); n != 1 {
			t.Errorf("%s left %d rows, want the live one", who, n)
		}
		p.read(t, "live")
	}
}

func bothListAndClear(t *testing.T, p pair) {
	ctx := t.Context()
	doc := p.document(inTime(time.Hour), `,"text":"🚀"`)
	fill := func() {
		t.Helper()
		p.node.must(t, "set", "by-node", doc)
		p.write(t, "by-go", doc)
		p.expired(t, "dead")
	}
	if _, err := p.store.Clear(ctx); err != nil {
		t.Fatal(err)
	}
	fill()

	if n, err := p.store.Len(ctx); err != nil || n != 2 {
		t.Errorf("Go's Len: %d, %v, want 2", n, err)
	}
	ids := map[string]bool{}
	for id, err := range p.store.IDs(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = true
	}
	wantIDs(t, "Go's IDs", ids)
	all := map[string]bool{}
	for e, err := range p.store.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		all[e.ID] = true
		p.wantDocument(t, "Go's All", e.Data, doc)
	}
	wantIDs(t, "Go's All", all)

	p.wantNodeLists(t, doc)

	if p.node.has("clear") {
		p.node.must(t, "clear")
		if n := p.rows(t); n != 0 {
			t.Errorf("%d rows are left after Node's clear", n)
		}
		fill()
	}
	if _, err := p.store.Clear(ctx); err != nil {
		t.Error("Go's Clear:", err)
	}
	if n := p.rows(t); n != 0 {
		t.Errorf("%d rows are left after Go's Clear", n)
	}
}

// wantNodeLists checks those lists that the package offers.
func (p pair) wantNodeLists(t testing.TB, doc json.RawMessage) {
	t.Helper()
	if p.node.has("length") {
		want := "2"
		if p.does.countsExpired {
			want = "3"
		}
		if got := p.node.must(t, "length"); string(got) != want {
			t.Errorf("Node's length is %s, want %s", got, want)
		}
	}
	if p.node.has("ids") {
		var ids []string
		decode(t, p.node.must(t, "ids"), &ids)
		wantIDs(t, "Node's ids", set(ids))
	}
	if !p.node.has("all") {
		return
	}
	if p.does.losesAll {
		if got := p.node.must(t, "all"); string(got) != "{}" {
			t.Errorf("Node's all is %s, want nothing", short(got))
		}
		return
	}
	ids := map[string]bool{}
	switch {
	case p.does.listsBare:
		var all []json.RawMessage
		decode(t, p.node.must(t, "all"), &all)
		if len(all) != 2 {
			t.Errorf("Node's all has %d sessions, want 2", len(all))
		}
		for _, s := range all {
			p.wantDocument(t, "Node's all", s, doc)
		}
		return
	case p.does.listsRows:
		var all []struct{ SID, Sess string }
		decode(t, p.node.must(t, "all"), &all)
		for _, row := range all {
			if row.SID == "dead" {
				continue
			}
			ids[row.SID] = true
			p.wantDocument(t, "Node's all", []byte(row.Sess), doc)
		}
	case p.node.has("ids"): // a list of sessions, each with its ID
		var all []struct{ ID string }
		decode(t, p.node.must(t, "all"), &all)
		for _, s := range all {
			ids[s.ID] = true
		}
	default: // an object of sessions
		var all map[string]json.RawMessage
		decode(t, p.node.must(t, "all"), &all)
		for id, s := range all {
			ids[id] = true
			p.wantDocument(t, "Node's all", s, doc)
		}
	}
	wantIDs(t, "Node's all", ids)
}

func decode(t testing.TB, text json.RawMessage, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", short(text), err)
	}
}

func set(ids []string) map[string]bool {
	all := map[string]bool{}
	for _, id := range ids {
		all[id] = true
	}
	return all
}

func wantIDs(t testing.TB, what string, got map[string]bool) {
	t.Helper()
	if want := set([]string{"by-node", "by-go"}); !maps.Equal(got, want) {
		t.Errorf("%s are %v, want %v", what, got, want)
	}
}
