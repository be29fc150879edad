package session_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// sealing is a Codec that encrypts.
type sealing struct{ aead cipher.AEAD }

func newSealing(t *testing.T, key string) sealing {
	t.Helper()
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return sealing{aead}
}

func (c sealing) Encode(of session.Binding, values map[string]json.RawMessage) ([]byte, error) {
	plain, err := session.JSON{}.Encode(of, values)
	return c.aead.Seal(nil, nil, plain, of.AdditionalData()), err
}

func (c sealing) Decode(of session.Binding, data []byte) (map[string]json.RawMessage, error) {
	plain, err := c.aead.Open(nil, nil, data, of.AdditionalData())
	if err != nil {
		return nil, err
	}
	return session.JSON{}.Decode(of, plain)
}

// funcs is a Codec of functions, JSON's where there is none.
type funcs struct {
	encode func(map[string]json.RawMessage) ([]byte, error)
	decode func([]byte) (map[string]json.RawMessage, error)
}

func (c funcs) Encode(of session.Binding, values map[string]json.RawMessage) ([]byte, error) {
	if c.encode == nil {
		return session.JSON{}.Encode(of, values)
	}
	return c.encode(values)
}

func (c funcs) Decode(of session.Binding, data []byte) (map[string]json.RawMessage, error) {
	if c.decode == nil {
		return session.JSON{}.Decode(of, data)
	}
	return c.decode(data)
}

func TestACodecOfOnesOwnKeepsTheValues(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Codec: newSealing(t, "sixteen byte key")})
	b, key := started(t, p)
	b.visit(func(ctx context.Context, s *session.Session) {
		setting(t, "secret", "of state\n\x00")(ctx, s)
		if err := s.Flash("hello"); err != nil {
			t.Error(err)
		}
	})
	for _, plain := range []string{"secret", "state", "hello"} {
		if strings.Contains(body(t, p, key), plain) {
			t.Errorf("the record has %q in clear text", plain)
		}
	}
	b.visit(loggingIn(t, "ann", session.Login{}))
	b.visit(func(ctx context.Context, s *session.Session) {
		secret, err := session.Get[string](s, "secret")
		check(t, "secret", secret, err, "of state\n\x00")
		flashes, err := session.Flashes[string](s)
		check(t, "flashes", flashes, err, []string{"hello"})
	})
	exports, err := collect(p.manager.Export(t.Context(), "ann"))
	if err != nil || len(exports) != 1 || string(exports[0].Values["k"]) != "0" {
		t.Errorf("Export = %+v, %v", exports, err)
	}
}

func TestWhatIsNotReadIsNotDecoded(t *testing.T) {
	t.Parallel()
	decoded := 0
	p := newSite(t, session.Options{Codec: funcs{decode: func(data []byte) (map[string]json.RawMessage, error) {
		decoded++
		return session.JSON{}.Decode(session.Binding{}, data)
	}}})
	b := p.browser()
	b.visit(loggingIn(t, "ann", session.Login{}))
	b.visit(func(_ context.Context, s *session.Session) {
		if s.User() != "ann" || s.Info().User != "ann" {
			t.Error("it is not ann's")
		}
	})
	if decoded != 0 {
		t.Errorf("decoded %d times", decoded)
	}
	b.visit(func(_ context.Context, s *session.Session) { _, _ = s.Has("a"), s.Has("b") })
	if decoded != 1 {
		t.Errorf("decoded %d times; want once", decoded)
	}
}

func TestACodecMayDecodeToNothing(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Codec: funcs{decode: func([]byte) (map[string]json.RawMessage, error) { return nil, nil }}})
	b, key := started(t, p)
	b.visit(setting(t, "new", 1))
	if got := body(t, p, key); got != `{"new":1}` {
		t.Errorf("the values are %s", got)
	}
}

func TestARecordThatCannotBeDecodedIsLeftAloneOrAnError(t *testing.T) {
	t.Parallel()
	good := func(head string) func(string) string { return func(string) string { return head } }
	for name, test := range map[string]struct {
		opts  session.Options
		spoil func(data string) string
	}{
		"empty":               {session.Options{}, func(string) string { return "" }},
		"without a head":      {session.Options{}, func(data string) string { _, values, _ := strings.Cut(data, "\n"); return values }},
		"with an empty head":  {session.Options{}, func(data string) string { _, values, _ := strings.Cut(data, "\n"); return "\n" + values }},
		"with another's head": {session.Options{}, good(`{"cookie":{"maxAge":1}}` + "\n{}")},
		"with a later head":   {session.Options{}, func(data string) string { return "2" + data[1:] }},
		"with half a head":    {session.Options{}, good("1 1\n{}")},
		"with a head of text": {session.Options{}, good("1 a b   \n{}")},
		"with a bad login":    {session.Options{}, good("1 1 b   \n{}")},
		"with a bad policy":   {session.Options{}, good(`1 1 0  {"idle":"x"} ` + "\n{}")},
		"half of the values":  {session.Options{}, func(data string) string { return data[:len(data)-1] }},
		"values and more":     {session.Options{}, func(data string) string { return data + "x" }},
		"no values":           {session.Options{}, func(data string) string { line, _, _ := strings.Cut(data, "\n"); return line + "\n" }},
		"null":                {session.Options{}, func(data string) string { line, _, _ := strings.Cut(data, "\n"); return line + "\nnull" }},
		"with another key":    {session.Options{Codec: newSealing(t, "another sixteen.")}, func(data string) string { return data }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newSite(t, session.Options{})
			b, key := started(t, p)
			rec, err := p.store.Store.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			rec.Data = []byte(test.spoil(string(rec.Data)))
			if _, err := p.store.Store.Save(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
			left := func() {
				t.Helper()
				if got, err := p.store.Store.Get(t.Context(), key); err != nil || string(got.Data) != string(rec.Data) || got.Version <= rec.Version {
					t.Errorf("the record is %+v, %v; want it untouched", got, err)
				}
			}
			undecodable := func(p *site) {
				t.Helper()
				events := p.told()
				if len(events) == 0 || events[0].Kind != session.EventUndecodable || events[0].Key != key || !errors.Is(events[0].Err, session.ErrUndecodable) {
					t.Errorf("told %+v; want %v of %v first", events, session.EventUndecodable, key)
				}
			}

			strict := test.opts
			strict.FailUndecodable = true
			fails := newSiteOn(t, p.clock, p.store, strict)
			res := fails.serve(get(b.cookie), func(_ context.Context, s *session.Session) {
				if _, err := session.Get[int](s, "k"); !errors.Is(err, session.ErrUndecodable) {
					t.Errorf("Get: %v; want ErrUndecodable", err)
				}
				if err := s.Set("k", 1); !errors.Is(err, session.ErrUndecodable) {
					t.Errorf("Set: %v; want ErrUndecodable", err)
				}
				if s.Has("k") || len(s.Keys()) > 0 {
					t.Error("there are values")
				}
			})
			if res.StatusCode != http.StatusInternalServerError || len(res.Cookies()) > 0 {
				t.Errorf("with FailUndecodable: status %d, %d cookies", res.StatusCode, len(res.Cookies()))
			}
			undecodable(fails)
			left()

			lenient := newSiteOn(t, p.clock, p.store, test.opts)
			b.site = lenient
			before := b.cookie
			b.visit(func(ctx context.Context, s *session.Session) {
				if k, err := session.Get[int](s, "k"); k != 0 || err != nil || len(s.Keys()) > 0 {
					t.Errorf("Get = %d, %v; keys %q", k, err, s.Keys())
				}
				if !s.Key().IsZero() {
					t.Error("the request has no empty session")
				}
			})
			if b.cookie != before {
				t.Error("a request that changes nothing set the cookie")
			}
			undecodable(lenient)
			left()
			b.visit(setting(t, "k", 7))
			if b.cookie == before {
				t.Error("the new session has the old ID")
			}
			b.visit(func(_ context.Context, s *session.Session) {
				k, err := session.Get[int](s, "k")
				check(t, "k", k, err, 7)
			})
			left()
		})
	}
}

func TestAManagerNeverUsesASessionOfAnother(t *testing.T) {
	t.Parallel()
	shop := newSite(t, session.Options{Name: "shop"})
	for _, name := range []string{"", "admin", "sho", "shopx"} {
		other := newSiteOn(t, shop.clock, shop.store, session.Options{Name: name})
		for what, begin := range map[string]page{"anonymous": setting(t, "k", 1), "logged in": loggingIn(t, "ann", session.Login{})} {
			b := shop.browser()
			b.visit(begin)
			key := infoOf(b).Key
			foreign := &browser{site: other, cookie: "__Host-session=" + b.value()}
			if name != "" {
				foreign.cookie = fmt.Sprintf("__Host-%s-session=%s", name, b.value())
			}
			other.told()
			foreign.visit(func(_ context.Context, s *session.Session) {
				if !s.Key().IsZero() || s.User() != "" || s.Has("k") {
					t.Errorf("%q uses a session, %s, of shop", name, what)
				}
			})
			if events := other.told(); len(events) != 1 || events[0].Kind != session.EventUnknownID || events[0].Key.String() != key || events[0].User != "" {
				t.Errorf("%q is told %+v; want %v of %s", name, events, session.EventUnknownID, key)
			}
			if infoOf(b).Key != key {
				t.Error("the session itself has suffered")
			}
		}
	}
}

func TestACodecThatFailsToEncodeFailsTheRequest(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	bad := errors.New("no key to encrypt with")
	broken := newSiteOn(t, p.clock, p.store, session.Options{
		Codec: funcs{encode: func(map[string]json.RawMessage) ([]byte, error) { return nil, bad }},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if !errors.Is(err, bad) {
				t.Errorf("the error handler is told %v", err)
			}
			w.WriteHeader(http.StatusTeapot)
		},
	})
	for what, cookie := range map[string]string{"new": "", "old": b.cookie} {
		if res := broken.serve(get(cookie), setting(t, "k", 1)); res.StatusCode != http.StatusTeapot || len(res.Cookies()) > 0 {
			t.Errorf("%s: status %d, %d cookies", what, res.StatusCode, len(res.Cookies()))
		}
	}
	broken.serve(get(""), func(ctx context.Context, s *session.Session) {
		if err := s.Login(ctx, "ann", session.Login{}); !errors.Is(err, bad) || s.User() != "" {
			t.Errorf("Login: %v as %q", err, s.User())
		}
	})
	if p.want("Get"); body(t, p, key) != `{"k":0}` {
		t.Errorf("the values are %s", body(t, p, key))
	}
}

func TestARecordThatTurnsUndecodableUnderARequestDropsItsChanges(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	p.store.before("Save", func() { plant(t, p, key, "???") })
	if res := b.visit(setting(t, "k", 1)); len(res.Cookies()) > 0 {
		t.Error("the cookie is set")
	}
	var kinds []session.EventKind
	for _, e := range p.told() {
		if kinds = append(kinds, e.Kind); e.Key != key {
			t.Errorf("%v is told of %v; want %v", e.Kind, e.Key, key)
		}
	}
	if got, want := fmt.Sprint(kinds), fmt.Sprint([]session.EventKind{session.EventUndecodable, session.EventSaveDropped}); got != want {
		t.Errorf("told %v; want %v", got, want)
	}
	if got := body(t, p, key); got != "???" {
		t.Errorf("the values are %s", got)
	}
}
