package session_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// flips returns the base64url of raw with each of its bits turned, one by one.
func flips(t *testing.T, text string) []string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for bit := range len(raw) * 8 {
		raw[bit/8] ^= 1 << (bit % 8)
		all = append(all, base64.RawURLEncoding.EncodeToString(raw))
		raw[bit/8] ^= 1 << (bit % 8)
	}
	return all
}

func TestForgedSignaturesAreRefusedBeforeAnyLookup(t *testing.T) {
	t.Parallel()
	key := []byte("a key of thirty-two bytes, or so")
	p := newSite(t, session.Options{Cookie: session.Cookie{SigningKeys: session.Secrets(key)}})
	b := p.browser()
	b.visit(setting(t, "k", 1))
	b.visit(func(_ context.Context, s *session.Session) {
		if !s.Has("k") {
			t.Error("a genuine cookie is refused")
		}
	})
	id, mac, ok := strings.Cut(b.value(), ".")
	if !ok || len(id) != session.IDTextLen || len(mac) != 43 {
		t.Fatalf("the cookie has %d bytes and %d of signature", len(id), len(mac))
	}
	twin := newSiteOn(t, p.clock, p.store, session.Options{Cookie: session.Cookie{Name: "__Host-other", SigningKeys: session.Secrets(key)}}).browser()
	twin.visit(setting(t, "k", 1))
	p.store.taken()
	p.told()

	forged := map[string]string{
		"unsigned": id, "empty signature": id + ".", "swapped": mac + "." + id, "no ID": "." + mac,
		"another cookie's signature": twin.value(),
		"another ID's signature":     session.NewID(noon.Add(time.Hour)).Secret() + "." + mac,
		"spare bits":                 id + "." + mac[:42] + string(mac[42]+1),
		"line end":                   id + "." + mac[:42] + "\n",
	}
	for i, text := range flips(t, id) {
		forged[fmt.Sprintf("bit %d of the ID", i)] = text + "." + mac
	}
	for i, text := range flips(t, mac) {
		forged[fmt.Sprintf("bit %d of the signature", i)] = id + "." + text
	}
	for what, value := range forged {
		p.serve(get(b.name()+"="+value), func(_ context.Context, s *session.Session) {
			if !s.Key().IsZero() || s.Has("k") {
				t.Errorf("%s: there is a session", what)
			}
		})
	}
	p.want()
	for _, e := range p.told() {
		if e.Kind != session.EventInvalidID {
			t.Fatalf("a forgery is told as %v; want %v", e.Kind, session.EventInvalidID)
		}
	}
}

func TestSigningKeysAreRotated(t *testing.T) {
	t.Parallel()
	older, newer := []byte("the older key, of thirty-two byte"), []byte("the newer key, of thirty-two byte")
	p := newSite(t, session.Options{})
	with := func(keys ...[]byte) *site {
		return newSiteOn(t, p.clock, p.store, session.Options{Cookie: session.Cookie{SigningKeys: session.Secrets(keys...)}})
	}
	before, during, after := with(older), with(newer, older), with(newer)
	signedOlder := before.browser()
	signedOlder.visit(setting(t, "k", 1))
	signedNewer := during.browser()
	signedNewer.visit(setting(t, "k", 1))
	for _, test := range []struct {
		what   string
		site   *site
		cookie string
		want   bool
	}{
		{"the older before", before, signedOlder.cookie, true},
		{"the newer before", before, signedNewer.cookie, false},
		{"the older during", during, signedOlder.cookie, true},
		{"the newer during", during, signedNewer.cookie, true},
		{"the older after", after, signedOlder.cookie, false},
		{"the newer after", after, signedNewer.cookie, true},
	} {
		test.site.serve(get(test.cookie), func(_ context.Context, s *session.Session) {
			if s.Has("k") != test.want {
				t.Errorf("%s: accepted %v; want %v", test.what, s.Has("k"), test.want)
			}
		})
	}
}
