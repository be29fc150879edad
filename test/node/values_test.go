package node

import (
	"bytes"
	"errors"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// values are members of a session, as JSON.stringify prints them.
var values = map[string]string{
	"plain":   `,"user":"ann","views":7,"nested":{"b":[1,null,true],"a":1.5}`,
	"html":    `,"html":"<a href=\"x\">&amp;</a>"`,
	"unicode": `,"text":"Zoë 🚀 ` + "\u2028\u2029" + `"`,
	"escapes": `,"nul":"a\u0000b","surrogate":"\ud800","control":"\u0001\t\n\\"`,
	"numbers": `,"n":[1e+21,-0.5,5e-324,9007199254740991,1.7976931348623157e+308]`,
	"large":   `,"blob":"` + strings.Repeat("0123456789abcdef", 60<<10/16) + `"`,
}

// valuesFor are those that the column can hold.
func (p pair) valuesFor() map[string]string {
	all := maps.Clone(values)
	if p.does.checks {
		delete(all, "escapes")
	}
	return all
}

func goReadsWhatNodeWrites(t *testing.T, p pair) {
	for name, members := range p.valuesFor() {
		expires := inTime(time.Hour)
		doc := p.document(expires, members)
		p.node.must(t, "set", name, doc)
		got := p.read(t, name)
		p.wantDocument(t, "Go", got.Data, doc)
		wantNear(t, "the expiry that Go reads", got.Expires, expires)
		if got.ID != name {
			t.Errorf("Go reads the ID %q, want %q", got.ID, name)
		}
	}
}

func nodeReadsWhatGoWrites(t *testing.T, p pair) {
	ctx := t.Context()
	for name, members := range p.valuesFor() {
		doc := p.document(inTime(time.Hour), members)
		p.write(t, "set-"+name, doc)
		p.wantDocument(t, "Node, after Set,", p.node.get(t, "set-"+name), doc)

		created, err := p.store.Create(ctx, "created-"+name, doc, inTime(time.Hour))
		if err != nil {
			t.Fatal("Go's Create:", err)
		}
		p.wantDocument(t, "Node, after Create,", p.node.get(t, "created-"+name), doc)

		doc = p.document(inTime(time.Hour), members+`,"saved":true`)
		saved, err := p.store.Save(ctx, created, doc, inTime(time.Hour))
		if err != nil {
			t.Fatal("Go's Save:", err)
		}
		p.wantDocument(t, "Node, after Save,", p.node.get(t, "created-"+name), doc)

		if _, err := p.store.Renew(ctx, saved, "renewed-"+name, doc, inTime(time.Hour)); err != nil {
			t.Fatal("Go's Renew:", err)
		}
		p.wantDocument(t, "Node, after Renew,", p.node.get(t, "renewed-"+name), doc)
		if old := p.node.get(t, "created-"+name); old != nil {
			t.Errorf("Node still reads the session that Go renewed: %s", short(old))
		}
		if _, err := p.store.Create(ctx, "renewed-"+name, doc, inTime(time.Hour)); !errors.Is(err, session.ErrExists) {
			t.Errorf("Create of what is there: %v, want ErrExists", err)
		}
	}
}

// bothRefuseWhatTheColumnCannotHold is about columns of JSON values.
func bothRefuseWhatTheColumnCannotHold(t *testing.T, p pair) {
	doc := p.document(inTime(time.Hour), values["escapes"])
	if _, err := p.node.call("set", "refused", doc); err == nil {
		t.Error("Node can write it")
	}
	if err := p.store.Set(t.Context(), "refused", doc); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("Go's Set: %v, want ErrInvalid", err)
	}
	if _, ok := p.row(t, "refused"); ok {
		t.Error("there is a row")
	}
}

func bothWriteTheSameRow(t *testing.T, p pair) {
	for name, members := range p.valuesFor() {
		doc := p.document(inTime(time.Hour), members)
		p.node.must(t, "set", "by-node", doc)
		p.write(t, "by-go", doc)
		wantSameRow(t, p, name, "by-go", "by-node")
	}
}

var digit = regexp.MustCompile(`\d`)

// written is how an expiry is written that both have been given at about one time.
func (p pair) written(expires string) string {
	if p.does.leftover {
		return digit.ReplaceAllString(expires, "0")
	}
	return expires
}

// wantSameRow compares what the columns hold, not what they mean.
func wantSameRow(t testing.TB, p pair, what, byGo, byNode string) {
	t.Helper()
	got, _ := p.row(t, byGo)
	want, ok := p.row(t, byNode)
	if !ok {
		t.Fatalf("%s: there is no row of Node's", what)
	}
	if p.does.leftover {
		wantNear(t, what+": the expiry", p.read(t, byGo).Expires, p.read(t, byNode).Expires)
	}
	if !bytes.Equal(p.printed(t, []byte(got.data)), p.printed(t, []byte(want.data))) {
		t.Errorf("%s: Go wrote the data %s, Node %s", what, short([]byte(got.data)), short([]byte(want.data)))
	}
	if got.extra != want.extra {
		t.Errorf("%s: Go wrote %s to the application's column, Node %s", what, got.extra, want.extra)
	}
	if p.written(got.expires) != p.written(want.expires) {
		t.Errorf("%s: Go wrote the expiry %s, Node %s", what, got.expires, want.expires)
	}
}
