package session_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

func TestWhatIsEncryptedIsBoundToItsSession(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Codec: newSealing(t, "sixteen byte key"), FailUndecodable: true, Policy: session.Policy{RenewAfter: hour, IdleTimeout: 2 * hour}})
	ann, bob := p.browser(), p.browser()
	for b, user := range map[*browser]string{ann: "ann", bob: "bob"} {
		b.visit(loggingIn(t, user, session.Login{}))
		b.visit(setting(t, "role", "role of "+user))
	}
	role := func(b *browser) (role string, err error) {
		b.visitFailing(func(_ context.Context, s *session.Session) { role, err = session.Get[string](s, "role") })
		return role, err
	}
	has := func(what string, b *browser, user string) {
		t.Helper()
		if got, err := role(b); got != "role of "+user || err != nil {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	data := func(b *browser) []byte {
		t.Helper()
		rec, err := p.store.Store.Get(t.Context(), keyOf(b))
		if err != nil {
			t.Fatal(err)
		}
		return rec.Data
	}
	put := func(b *browser, data []byte) {
		t.Helper()
		rec, err := p.store.Store.Get(t.Context(), keyOf(b))
		if err != nil {
			t.Fatal(err)
		}
		rec.Data = data
		if _, err := p.store.Store.Save(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	has("at first", ann, "ann")

	anns, bobs := data(ann), data(bob)
	put(ann, bobs)
	if got, err := role(ann); !errors.Is(err, session.ErrUndecodable) {
		t.Errorf("with the data of another session: %q, %v; want ErrUndecodable", got, err)
	}
	put(ann, anns)
	has("with its own again", ann, "ann")

	// The row is made another user's, with the same data and another key.
	rec, err := p.store.Store.Get(t.Context(), keyOf(ann))
	if err != nil {
		t.Fatal(err)
	}
	id := session.NewID(rec.Deadline)
	rec.Key, rec.User = id.Key(), "bob"
	if _, err := p.store.Store.Create(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if got, err := role(&browser{p, "__Host-session=" + id.Secret()}); !errors.Is(err, session.ErrUndecodable) {
		t.Errorf("as another user's: %q, %v; want ErrUndecodable", got, err)
	}

	// It goes along when the session gets another ID or user, decoded or not.
	ann.visit(ending(t, func(s *session.Session, ctx context.Context) error { return s.Renew(ctx, 0) }))
	has("renewed", ann, "ann")
	p.clock.advance(hour)
	before := ann.cookie
	ann.visit(nil)
	if ann.cookie == before {
		t.Error("it is not renewed in time")
	}
	has("renewed in time", ann, "ann")
	visitor := p.browser()
	visitor.visit(setting(t, "role", "role of a visitor"))
	visitor.visit(loggingIn(t, "cid", session.Login{}))
	has("logged in", visitor, "a visitor")
	exports, err := collect(p.manager.Export(t.Context(), "ann"))
	if err != nil || len(exports) != 1 || string(exports[0].Values["role"]) != `"role of ann"` {
		t.Errorf("Export = %v, %v", exports, err)
	}
	for export, err := range p.manager.All(t.Context()) {
		if err != nil && !errors.Is(err, session.ErrUndecodable) || err == nil && !strings.Contains(string(export.Values["role"]), "role of") {
			t.Errorf("All: %v, %v", export, err)
		}
	}
}

// Each part of a binding counts by itself.
func TestWhatIsEncryptedIsBoundToEachOfKeyUserAndManager(t *testing.T) {
	t.Parallel()
	opts := func(name string) session.Options {
		return session.Options{Name: name, Codec: newSealing(t, "sixteen byte key"), FailUndecodable: true}
	}
	p := newSite(t, opts(""))
	one, two := p.browser(), p.browser()
	for _, b := range []*browser{one, two} {
		b.visit(loggingIn(t, "ann", session.Login{}))
		b.visit(setting(t, "role", "reader"))
	}
	of := func(b *browser) session.Record {
		t.Helper()
		rec, err := p.store.Store.Get(t.Context(), keyOf(b))
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	read := func(m *session.Manager, cookie string) (role string, err error) {
		answerOf(m, get(cookie), func(_ context.Context, s *session.Session) {
			if s.Key().IsZero() {
				t.Errorf("the session is not found by %s", cookie[:20])
			}
			role, err = session.Get[string](s, "role")
		})
		return role, err
	}
	rec := of(one)
	for what, test := range map[string]struct {
		name  string // of the manager
		alter func(*session.Record)
		fails bool
	}{
		"nothing":      {"", func(*session.Record) {}, false},
		"another key":  {"", func(rec *session.Record) { rec.Data = of(two).Data }, true},
		"another user": {"", func(rec *session.Record) { rec.User = "bob" }, true},
		"another manager": {"shop", func(rec *session.Record) {
			fields := bytes.SplitN(rec.Data, []byte{' '}, 6)
			fields[4] = []byte("shop")
			rec.Data, rec.User = bytes.Join(fields, []byte{' '}), "shop\x1fann"
		}, true},
	} {
		other := newSite(t, opts(test.name))
		altered := rec
		test.alter(&altered)
		if _, err := other.store.Store.Create(t.Context(), altered); err != nil {
			t.Fatal(err)
		}
		cookie := one.cookie
		if test.name != "" {
			cookie = "__Host-" + test.name + "-session=" + one.value()
		}
		if role, err := read(other.manager, cookie); errors.Is(err, session.ErrUndecodable) != test.fails || test.fails == (role != "") {
			t.Errorf("%s: %q, %v", what, role, err)
		}
	}
}

func TestDifferentBindingsHaveDifferentBytes(t *testing.T) {
	t.Parallel()
	one, other := session.NewID(noon).Key(), session.NewID(noon).Key()
	later := one
	later.Bucket++
	bindings := []session.Binding{
		{}, {Key: one}, {Key: other}, {Key: later}, {Key: one, User: "ab"}, {Key: one, User: "a"}, {Key: one, Name: "a", User: "b"}, {Key: one, Name: "ab"}, {Key: one, Name: "b", User: "a"},
		{Key: one, User: "\x01ab"}, {Key: one, User: "\x00"},
	}
	for i, a := range bindings {
		for j, b := range bindings {
			if same := bytes.Equal(a.AdditionalData(), b.AdditionalData()); same != (i == j) {
				t.Errorf("%+v and %+v: the same is %t", a, b, same)
			}
		}
	}
}
