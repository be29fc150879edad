package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// FuzzCookie gives whole Cookie headers to a Manager. An "@" in them stands
// for the genuine value, which no fuzzer can guess.
func FuzzCookie(f *testing.F) {
	const name = "__Host-session="
	for _, header := range []string{
		"", "@", name + "@", name + "@; " + name + "x", name + "x; " + name + "@", "a=1; " + name + "@; b=2", name + `"@"`, name + "@x", name + "x@",
		name + "@@", name + ".@", name + "@.", name + " @ ", name + "%41", name + "é", name, "=", ";", ";;;", "__Host-session", name + "=@", "\x00" + name + "@",
		name + strings.Repeat("A", 48), name + strings.Repeat("A", 48) + "." + strings.Repeat("A", 43), name + strings.Repeat("A", 8192),
	} {
		f.Add(header, false)
		f.Add(header, true)
	}
	type world struct {
		site    *site
		browser *browser
	}
	worlds := map[bool]world{}
	for _, signed := range []bool{false, true} {
		var opts session.Options
		if signed {
			opts.Cookie.SigningKeys = session.Secrets(make([]byte, 32))
		}
		p := newSite(f, opts)
		b := p.browser()
		b.visit(loggingIn(f, "ann", session.Login{}))
		worlds[signed] = world{p, b}
	}
	f.Fuzz(func(t *testing.T, header string, signed bool) {
		p, b := worlds[signed].site, worlds[signed].browser
		p.store.taken()
		p.told()
		header = strings.ReplaceAll(header, "@", b.value())
		// Only the genuine cookie gets the session; and only what has the shape
		// of an ID, with a signature if there are keys, is worth a question.
		var genuine, shaped bool
		for pair := range strings.SplitSeq(header, ";") {
			name, value, _ := strings.Cut(pair, "=") // net/http trims both, of line ends too
			if value = textproto.TrimString(value); textproto.TrimString(name) == b.name() {
				_, err := session.ParseID(value)
				genuine = genuine || value == b.value()
				shaped = shaped || genuine || err == nil && !signed
			}
		}
		res := p.serve(get(header), func(_ context.Context, s *session.Session) {
			if s.User() != "" && !genuine {
				t.Error("a session is served without its cookie")
			}
			if s.User() == "" && !s.Key().IsZero() {
				t.Error("there is another session than the one in the store")
			}
		})
		calls := p.store.taken()
		if asked := strings.Count(strings.Join(calls, " "), "Get"); asked > 1 || slices.ContainsFunc(calls, func(call string) bool { return call != "Get" && call != "Fate" }) {
			t.Errorf("the store was called for %v", calls)
		}
		if len(calls) > 0 && !shaped {
			t.Errorf("the store was called for %v by a cookie of the wrong shape", calls)
		}
		if res.StatusCode != http.StatusOK || len(res.Cookies()) > 0 {
			t.Errorf("status %d, %d cookies", res.StatusCode, len(res.Cookies()))
		}
	})
}

// FuzzCodec decodes what it is given, and checks that what came out of it
// stays as it is.
func FuzzCodec(f *testing.F) {
	for _, data := range []string{
		"", "{}", "null", "[]", `{"a":1}`, `{"a":12345678901234567890,"b":1.0,"c":1e400}`, ` { "a" : [ 1 , {"b":"}"} ] , "" : null } `, `{"a":1,"a":2}`,
		`{"\u0061\n\"\\":"\"}"}`, "{\"\xff\":\"\xff\"}", `{"<>&\u2028":"<>&"}`, `{"a":1}x`, `{"a":1,}`, `{"a"}`, `{"a":}`, `{"a":"`, `{"a":{`, `{"a":[}}`, `{"a":\`, `{"`, `{"a":"\`,
	} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		given := bytes.Clone(data)
		values, err := session.JSON{}.Decode(session.Binding{}, data)
		if !bytes.Equal(data, given) {
			t.Fatal("Decode has modified the data")
		}
		var want map[string]json.RawMessage
		valid := json.Unmarshal(data, &want) == nil && want != nil
		if err != nil {
			if valid || !errors.Is(err, session.ErrUndecodable) || values != nil {
				t.Fatalf("Decode = %v, %v; encoding/json: %v", values, err, valid)
			}
			return
		}
		if valid && !maps.EqualFunc(values, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Fatalf("Decode = %s; encoding/json: %s", values, want)
		}
		for key, value := range values {
			if !strings.ContainsRune(`"{[`, rune(value[0])) && !json.Valid(value) {
				t.Fatalf("the value of %q is %q", key, value)
			}
		}
		encoded, err := session.JSON{}.Encode(session.Binding{}, values)
		if err != nil {
			t.Fatal(err)
		}
		if valid && !json.Valid(encoded) {
			t.Fatalf("Encode made %q of JSON", encoded)
		}
		again, err := session.JSON{}.Decode(session.Binding{}, encoded)
		if err != nil || !maps.EqualFunc(again, values, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Fatalf("decoded again: %q, %v; first: %q", again, err, values)
		}
		if twice, err := (session.JSON{}).Encode(session.Binding{}, again); err != nil || !bytes.Equal(twice, encoded) {
			t.Fatalf("encoded again: %q, %v; first: %q", twice, err, encoded)
		}
	})
}

// FuzzRecord has a request find any data in the store.
func FuzzRecord(f *testing.F) {
	for _, data := range []string{
		"", "\n", "{}", "1\n{}", "1 1 0   \n{}", `1 1795348800 0   {"label":"a"}` + "\n" + `{"k":1}`, `1 1 1 shop  ` + "\n{}", `1 1 0  {"idle":-1,"abs":-1} ` + "\n{}",
		`1 1 0  {"idle":1,"abs":9223372036854775807,"renew":1,"grace":9223372036854775807,"keep":true,"site":9} ` + "\n{}", "2 1 0   \n{}",
		"1 9223372036854775807 -9223372036854775808   \n{}", "1 1 0  null x\n{\"_flash\":3,\"k\":\"x\"}", "1 1 0   \nnull", "1 1 0   \n{\"k\":[}}", `{"cookie":{}}`,
	} {
		f.Add([]byte(data))
	}
	lenient := newSite(f, session.Options{})
	strict := newSiteOn(f, lenient.clock, lenient.store, session.Options{FailUndecodable: true, Codec: session.JSON{}})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, p := range []*site{lenient, strict} {
			id := session.NewID(noon.Add(hour))
			rec, err := p.store.Store.Create(t.Context(), session.Record{Key: id.Key(), Deadline: noon.Add(hour), Data: data})
			if errors.Is(err, session.ErrTooLarge) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			p.told()
			var used bool
			var failed error
			cookie := "__Host-session=" + id.Secret()
			res := p.serve(get(cookie), func(_ context.Context, s *session.Session) {
				_, failed = session.Get[int](s, "k")
				_, _, _, _ = s.Keys(), s.Info(), s.User(), s.AuthenticatedAt()
				used = !s.Key().IsZero()
				_, err := session.Flashes[string](s)
				failed = errors.Join(failed, err)
			})
			var kinds []session.EventKind
			for _, e := range p.told() {
				kinds = append(kinds, e.Kind)
			}
			undecodable := slices.Contains(kinds, session.EventUndecodable)
			foreign := slices.Contains(kinds, session.EventUnknownID)
			after, err := p.store.Store.Get(t.Context(), id.Key())
			switch {
			case undecodable && (used && p == lenient || foreign):
				t.Errorf("an undecodable session is used: %v", kinds)
			case !undecodable && !foreign && !used:
				t.Errorf("a session is not used, and nothing told: %v", kinds)
			case (undecodable || foreign) && (err != nil || !bytes.Equal(after.Data, data) || after.Version != rec.Version):
				t.Errorf("an undecodable record was touched: %+v, %v", after, err)
			}
			if failing := undecodable && p == strict; failing != (res.StatusCode == http.StatusInternalServerError) {
				t.Errorf("status %d after %v; %v", res.StatusCode, kinds, failed)
			}
			if undecodable || foreign {
				_, _ = p.store.Store.Destroy(t.Context(), id.Key())
				continue
			}
			// What is used can be changed, renewed and ended, whatever it was.
			p.serve(get(cookie), func(ctx context.Context, s *session.Session) {
				_, _ = s.Set("k", 1), s.Flash("x")
				if err := s.Save(ctx); err != nil {
					t.Errorf("Save: %v", err)
				}
				_ = s.Renew(ctx, 0)
				if err := s.Logout(ctx); err != nil {
					t.Errorf("Logout: %v", err)
				}
			})
			p.told()
		}
	})
}
