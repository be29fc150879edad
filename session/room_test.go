package session_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

// serveBy answers a request.
func serveBy(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// limitedSite is a site on a store of small sessions.
func limitedSite(t *testing.T, most int, opts session.Options) *site {
	t.Helper()
	clock := &handClock{now: noon}
	return newSiteOn(t, clock, &spyStore{Store: memory.OpenWith(t, memstore.Options{Now: clock.Now, PruneInterval: -1, MaxData: most})}, opts)
}

// hexed is a Codec that makes twice as much of the values.
var hexed = funcs{
	encode: func(values map[string]json.RawMessage) ([]byte, error) {
		plain, err := session.JSON{}.Encode(session.Binding{}, values)
		return []byte(hex.EncodeToString(plain)), err
	},
	decode: func(data []byte) (map[string]json.RawMessage, error) {
		plain, err := hex.DecodeString(string(data))
		if err != nil {
			return nil, err
		}
		return session.JSON{}.Decode(session.Binding{}, plain)
	},
}

func TestWhatIsTooLargeIsRefusedAtOnceWithTheLimit(t *testing.T) {
	t.Parallel()
	const most = 5000
	for name, codec := range map[string]session.Codec{"JSON": nil, "sealing": newSealing(t, "sixteen byte key"), "twice": hexed} {
		p := limitedSite(t, most, session.Options{Codec: codec})
		b := p.browser()
		for _, stored := range []bool{false, true} {
			b.visit(func(_ context.Context, s *session.Session) {
				tooLarge := func(what string, err error) {
					t.Helper()
					if !errors.Is(err, session.ErrTooLarge) || !strings.Contains(fmt.Sprint(err), "5000") {
						t.Errorf("%s: %s, stored %t: %v; want ErrTooLarge with the limit", name, what, stored, err)
					}
				}
				much := strings.Repeat("x", most)
				tooLarge("Set", s.Set("much", much))
				tooLarge("Flash", s.Flash(much))
				tooLarge("Update", session.Update(s, "much", func(string) string { return much }))
				if got := s.Keys(); s.Has("much") || len(got) > 1 {
					t.Errorf("%s: there are %q", name, got)
				}
				// What is just not refused is saved.
				low, high := 0, most
				for low+1 < high {
					if mid := (low + high) / 2; s.Set("just", strings.Repeat("x", mid)) == nil {
						low = mid
					} else {
						high = mid
					}
				}
				if err := s.Set("just", strings.Repeat("x", low)); err != nil || low < most/4 {
					t.Errorf("%s: %d bytes: %v", name, low, err)
				}
			})
			b.visit(func(_ context.Context, s *session.Session) {
				if err := errors.Join(s.Delete("just"), s.Set("k", 1)); err != nil || !s.Has("k") {
					t.Errorf("%s: after that: %v", name, err)
				}
			})
		}
		// What is there already, under a larger limit, can be made smaller.
		large := newSite(t, session.Options{Codec: codec})
		big := large.browser()
		big.visit(setting(t, "big", strings.Repeat("x", most)))
		rec, err := large.store.Store.Get(t.Context(), keyOf(big))
		if err != nil || len(rec.Data) <= most {
			t.Fatal(rec, err)
		}
	}
}

// Another ID needs room too.
func TestAFullSessionGetsAnotherID(t *testing.T) {
	t.Parallel()
	const most = 1000
	p := limitedSite(t, most, session.Options{Policy: session.Policy{RenewAfter: minute}})
	b := p.tab()
	b.visit(loggingIn(t, "ann", session.Login{}))
	b.visit(func(_ context.Context, s *session.Session) {
		for n := most; s.Set("just", strings.Repeat("x", n)) != nil; n-- {
			if n == 0 {
				t.Fatal("nothing has room")
			}
		}
	})
	token := b.token()
	for range 5 {
		before := b.cookies["__Host-session"]
		p.clock.advance(2 * minute)
		b.visit(func(context.Context, *session.Session) {})
		if b.cookies["__Host-session"] == before {
			t.Error("it keeps its ID")
		}
		b.visit(renewing(t, session.MaxGrace))
		b.accepts("the token", token)
	}
	for _, e := range p.told() {
		if e.Err != nil {
			t.Errorf("the hook is told of %v: %v", e.Kind, e.Err)
		}
	}
}

func TestAMegabyteOfAnyKindIsRefusedAtSetAndNotAtTheEnd(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	res := p.serve(get(""), func(_ context.Context, s *session.Session) {
		text := make([]byte, 2<<20)
		_, _ = rand.Read(text)
		if err := s.Set("k", text); !errors.Is(err, session.ErrTooLarge) || !strings.Contains(err.Error(), "1048576") {
			t.Errorf("Set of two megabytes: %v", err)
		}
	})
	if res.StatusCode != http.StatusOK {
		t.Errorf("the answer is %d", res.StatusCode)
	}
}

func TestWhatCouldNotBeReadAgainIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	nested := func(n int) json.RawMessage {
		return json.RawMessage(strings.Repeat("[", n) + strings.Repeat("]", n))
	}
	b.visit(func(_ context.Context, s *session.Session) {
		for what, v := range map[string]any{
			"what is nested too deep": nested(session.MaxDepth + 1), "what is nested far too deep": nested(9999),
			"a text that is not UTF-8": "a\xff", "a key that is not": map[string]int{"a\xff": 1}, "such a text inside": []any{map[string]any{"a": person{Name: "\xc3"}}},
		} {
			for how, err := range map[string]error{
				"Set": s.Set("k", v), "Flash": s.Flash(v), "Update": session.Update(s, "k", func(any) any { return v }),
			} {
				if !errors.Is(err, session.ErrInvalid) {
					t.Errorf("%s of %s: %v; want ErrInvalid", how, what, err)
				}
				if strings.Contains(what, "deep") && !strings.Contains(fmt.Sprint(err), "1000") {
					t.Errorf("%s of %s: %v; want the limit", how, what, err)
				}
			}
		}
		if err := s.Set("deep", nested(session.MaxDepth)); err != nil {
			t.Errorf("at the limit: %v", err)
		}
	})
	b.visit(func(_ context.Context, s *session.Session) {
		if _, err := session.Get[any](s, "deep"); err != nil {
			t.Errorf("Get at the limit: %v", err)
		}
		if err := s.Delete("deep"); err != nil {
			t.Error(err)
		}
	})
	if got := body(t, p, key); got != `{"k":0}` {
		t.Errorf("the values are %s", got)
	}
}

func TestAnErrorOfAValueTellsNothingOfIt(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, _ := started(t, p)
	b.visit(func(ctx context.Context, s *session.Session) {
		setting(t, "number", 4711471147)(ctx, s)
		setting(t, "text", "geheim")(ctx, s)
		_, asByte := session.Get[int8](s, "number")
		_, asTime := session.Get[struct{ T json.Number }](s, "text")
		_, popped := session.Pop[int8](s, "number")
		for _, err := range []error{asByte, asTime, popped, session.Update(s, "number", func(n int8) int8 { return n })} {
			if text := fmt.Sprintf("%v %+v %#v", err, err, err); err == nil || strings.Contains(text, "4711") || strings.Contains(text, "geheim") {
				t.Errorf("the error is %s", text)
			}
			var cause *json.UnmarshalTypeError
			if !errors.As(err, &cause) {
				t.Errorf("%v has no cause", err)
			}
		}
	})
}

func TestAFlashOfAnotherTypeBlocksNoOthers(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	b.visit(func(_ context.Context, s *session.Session) {
		for _, v := range []any{"a", 1, person{Name: "ann"}, "b", 2} {
			if err := s.Flash(v); err != nil {
				t.Error(err)
			}
		}
	})
	b.visit(func(_ context.Context, s *session.Session) {
		texts, err := session.Flashes[string](s)
		check(t, "texts", texts, err, []string{"a", "b"})
	})
	b.visit(func(_ context.Context, s *session.Session) {
		numbers, err := session.Flashes[int](s)
		check(t, "numbers", numbers, err, []int{1, 2})
		texts, err := session.Flashes[string](s)
		check(t, "texts again", texts, err, nil)
	})
	b.visit(func(_ context.Context, s *session.Session) {
		rest, err := session.Flashes[json.RawMessage](s)
		check(t, "the rest", len(rest), err, 1)
	})
	if got := body(t, p, key); got != `{"k":0}` {
		t.Errorf("the values are %s", got)
	}
	for _, foreign := range []string{`"text"`, `{"a":1}`, `7`, `null`} {
		plant(t, p, key, `{"_flash":`+foreign+`}`)
		b.visit(func(_ context.Context, s *session.Session) {
			if err := s.Flash("new"); err != nil {
				t.Errorf("Flash beside %s: %v", foreign, err)
			}
		})
		b.visit(func(_ context.Context, s *session.Session) {
			rest, err := session.Flashes[json.RawMessage](s)
			if err != nil || len(rest) == 0 || string(rest[len(rest)-1]) != `"new"` {
				t.Errorf("Flashes beside %s: %s, %v", foreign, rest, err)
			}
		})
	}
}

func TestPartitionedCookiesNeedSameSiteNone(t *testing.T) {
	t.Parallel()
	store := newSite(t, session.Options{}).store
	partitioned := session.Cookie{Partitioned: true}
	for _, site := range []http.SameSite{0, http.SameSiteLaxMode, http.SameSiteStrictMode} {
		_, err := session.NewManager(store, session.Options{Cookie: partitioned, Policy: session.Policy{SameSite: site}})
		if !errors.Is(err, session.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "SameSite") {
			t.Errorf("SameSite %d: %v; want ErrInvalid", site, err)
		}
	}
	none := session.Policy{SameSite: http.SameSiteNoneMode}
	p := newSite(t, session.Options{Cookie: partitioned, Policy: none})
	p.browser().visit(func(ctx context.Context, s *session.Session) {
		strict := session.PolicyHigh()
		if err := s.Login(ctx, "ann", session.Login{Policy: &strict}); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("Login with a Strict policy: %v; want ErrInvalid", err)
		}
		if err := s.Login(ctx, "ann", session.Login{Policy: &none}); err != nil {
			t.Errorf("Login: %v", err)
		}
	})
}

func TestAHookThatPanicsLosesNoCookie(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]page{
		"a new session": setting(t, "k", 1),
		"one that is saved at once": func(ctx context.Context, s *session.Session) {
			setting(t, "k", 1)(ctx, s)
			if err := s.Save(ctx); err != nil {
				t.Error(err)
			}
		},
		"a login": loggingIn(t, "ann", session.Login{}),
	} {
		panics := 0
		p := newSite(t, session.Options{OnEvent: func(context.Context, session.Event) { panics++; panic("oops") }})
		b := p.browser()
		b.visit(do)
		if b.cookie == "" || panics != 1 {
			t.Errorf("%s: the cookie is %q, the hook panicked %d times", name, b.cookie, panics)
			continue
		}
		if _, err := p.store.Store.Get(t.Context(), keyOf(b)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
