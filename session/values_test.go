package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// body is what the codec has made of the values of the session of key.
func body(t *testing.T, p *site, key session.Key) string {
	t.Helper()
	rec, err := p.store.Store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(rec.Data), "\n")
	return text
}

// plant replaces the values of the session of key.
func plant(t *testing.T, p *site, key session.Key, text string) {
	t.Helper()
	rec, err := p.store.Store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(rec.Data), "\n")
	rec.Data = []byte(line + "\n" + text)
	if _, err := p.store.Store.Save(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
}

// started is a browser with a session that has the value 0 as "k".
func started(t *testing.T, p *site) (*browser, session.Key) {
	t.Helper()
	b := p.browser()
	var key session.Key
	b.visit(setting(t, "k", 0))
	b.visit(func(_ context.Context, s *session.Session) { key = s.Key() })
	p.store.taken()
	p.told()
	return b, key
}

func check[T any](t *testing.T, what string, got T, err error, want T) {
	t.Helper()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s = %#v, %v; want %#v", what, got, err, want)
	}
}

type person struct {
	Name string
	Tags []string
	Born time.Time
}

func TestValuesComeBackAsTheyWereSet(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.browser()
	ann := person{"Ann <&> \u2028 \"é\"", []string{"a", ""}, noon}
	b.visit(func(ctx context.Context, s *session.Session) {
		setting(t, "most", int64(math.MaxInt64))(ctx, s)
		setting(t, "least", int64(math.MinInt64))(ctx, s)
		setting(t, "unsigned", uint64(math.MaxUint64))(ctx, s)
		setting(t, "odd", int64(1)<<53+1)(ctx, s)
		setting(t, "ann", ann)(ctx, s)
		setting(t, "ключ \" \\ <", []byte{0, 255})(ctx, s)
		setting(t, "null", nil)(ctx, s)
	})
	b.visit(func(_ context.Context, s *session.Session) {
		most, err := session.Get[int64](s, "most")
		check(t, "most", most, err, math.MaxInt64)
		least, err := session.Get[int64](s, "least")
		check(t, "least", least, err, math.MinInt64)
		unsigned, err := session.Get[uint64](s, "unsigned")
		check(t, "unsigned", unsigned, err, math.MaxUint64)
		odd, err := session.Get[int64](s, "odd")
		check(t, "odd", odd, err, 1<<53+1)
		back, err := session.Get[person](s, "ann")
		check(t, "ann", back, err, ann)
		raw, err := session.Get[[]byte](s, "ключ \" \\ <")
		check(t, "bytes", raw, err, []byte{0, 255})
		null, err := session.Get[*int](s, "null")
		check(t, "null", null, err, nil)
		none, err := session.Get[string](s, "none")
		check(t, "none", none, err, "")
		if !s.Has("null") || s.Has("none") || s.Has("") {
			t.Error("Has cannot tell null from nothing")
		}
		if got, want := s.Keys(), []string{"ann", "least", "most", "null", "odd", "unsigned", "ключ \" \\ <"}; !slices.Equal(got, want) {
			t.Errorf("Keys = %q; want %q", got, want)
		}
		if _, err := session.Get[int32](s, "most"); err == nil || !strings.Contains(err.Error(), `"most"`) || !strings.Contains(err.Error(), "int32") {
			t.Errorf("Get of another type: %v; want an error that names key and type", err)
		}
		if _, err := session.Pop[string](s, "most"); err == nil || !s.Has("most") {
			t.Errorf("Pop of another type: %v; want an error, and the value left", err)
		}
		if err := session.Update(s, "ann", func(n int) int { return n + 1 }); err == nil {
			t.Error("Update of another type is no error")
		}
	})
	p.want("Create", "Get")
}

func TestTheValuesThatARequestDoesNotChangeStayByteForByte(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	const before, after = `"a":12345678901234567890,"b":1.0,"c":1e400,"d":-0,"e":{"z":1, "a" : [ 2 ] },"f":"\u0061\/<&>é",`, `"l":9007199254740993,"n":null,"z":""`
	plant(t, p, key, "{"+before+`"k":0,`+after+"}")
	b.visit(setting(t, "k", 1))
	if got, want := body(t, p, key), "{"+before+`"k":1,`+after+"}"; got != want {
		t.Errorf("the values are %s\nwant %s", got, want)
	}
	b.visit(func(_ context.Context, s *session.Session) {
		number, err := session.Get[json.Number](s, "a")
		check(t, "a", number, err, "12345678901234567890")
		raw, err := session.Get[json.RawMessage](s, "b")
		check(t, "b", string(raw), err, "1.0")
		if err := s.Set("k", "<script>&</script>"); err != nil {
			t.Error(err)
		}
		if err := s.Delete("c"); err != nil {
			t.Error(err)
		}
	})
	if got, want := body(t, p, key), "{"+strings.Replace(before, `"c":1e400,`, "", 1)+`"k":"<script>&</script>",`+after+"}"; got != want {
		t.Errorf("the values are %s\nwant %s", got, want)
	}
}

func TestWhatCannotBeEncodedIsAnErrorAtOnce(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	type ring struct{ Next *ring }
	cycle := &ring{}
	cycle.Next = cycle
	b.visit(func(_ context.Context, s *session.Session) {
		for what, value := range map[string]any{
			"channel": make(chan int), "func": func() {}, "cycle": cycle, "NaN": math.NaN(), "infinity": math.Inf(1), "complex": 1i,
			"marshaler": json.RawMessage("{"), "deep": map[string]any{"a": []any{make(chan int)}},
		} {
			if err := s.Set("k", value); err == nil || !strings.Contains(err.Error(), `"k"`) {
				t.Errorf("Set of a %s: %v; want an error that names the key", what, err)
			}
			if err := session.Update(s, "other", func(any) any { return value }); err == nil || s.Has("other") {
				t.Errorf("Update to a %s: %v", what, err)
			}
			if err := s.Flash(value); err == nil {
				t.Errorf("Flash of a %s is no error", what)
			}
		}
		k, err := session.Get[int](s, "k")
		check(t, "k", k, err, 0)
	})
	if p.want("Get"); body(t, p, key) != `{"k":0}` {
		t.Errorf("the values are %s", body(t, p, key))
	}
}

func TestKeysOfValuesAreTextAndNotTheFlashes(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, _ := started(t, p)
	b.visit(func(_ context.Context, s *session.Session) {
		for _, key := range []string{"", "_flash", "_flash:", "_flash:error", "\xff", "a\xc3"} {
			_, popped := session.Pop[int](s, key)
			for what, err := range map[string]error{
				"Set": s.Set(key, 1), "Delete": s.Delete(key), "Pop": popped, "Update": session.Update(s, key, func(n int) int { return n }),
			} {
				if !errors.Is(err, session.ErrInvalid) {
					t.Errorf("%s(%q): %v; want ErrInvalid", what, key, err)
				}
			}
			if s.Has(key) {
				t.Errorf("Has(%q)", key)
			}
		}
	})
	p.want("Get")
}

func TestChangesToAValueAfterSetDoNotCount(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	b.visit(func(_ context.Context, s *session.Session) {
		tags := []string{"a"}
		raw := json.RawMessage(`[1]`)
		for key, value := range map[string]any{"k": tags, "raw": raw} {
			if err := s.Set(key, value); err != nil {
				t.Error(err)
			}
		}
		tags[0], raw[1] = "b", '2'
		got, err := session.Get[[]string](s, "k")
		check(t, "k", got, err, []string{"a"})
		got[0] = "c"
		read, err := session.Get[json.RawMessage](s, "raw")
		check(t, "raw", string(read), err, "[1]")
		read[1] = '3'
	})
	if got, want := body(t, p, key), `{"k":["a"],"raw":[1]}`; got != want {
		t.Errorf("the values are %s; want %s", got, want)
	}
}

func TestFlashesAreShownOnce(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.browser()
	flashes := func(want ...string) {
		t.Helper()
		b.visit(func(_ context.Context, s *session.Session) {
			got, err := session.Flashes[string](s)
			check(t, "Flashes", got, err, want)
			if got, err := session.Flashes[string](s); len(got) > 0 || err != nil {
				t.Errorf("Flashes for a second time: %q, %v", got, err)
			}
			if s.Has("_flash") || len(s.Keys()) > 0 {
				t.Errorf("the flashes are among the values: %q", s.Keys())
			}
		})
	}
	flash := func(texts ...string) {
		t.Helper()
		b.visit(func(_ context.Context, s *session.Session) {
			for _, text := range texts {
				if err := s.Flash(text); err != nil {
					t.Error(err)
				}
			}
		})
	}
	flashes()
	flash("a", "b", "a")
	flash("<c>")
	b.visit(func(_ context.Context, s *session.Session) {
		if got, err := session.Flashes[int](s); len(got) > 0 || err != nil {
			t.Errorf("Flashes of another type: %v, %v", got, err)
		}
	})
	flashes("a", "b", "a", "<c>")
	flashes()
}

func TestFlashesHaveCategories(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	flash := func(category, text string) page {
		return func(_ context.Context, s *session.Session) {
			if err := s.FlashAs(category, text); err != nil {
				t.Error(err)
			}
		}
	}
	b.visit(func(ctx context.Context, s *session.Session) {
		for _, one := range []struct{ category, text string }{{"error", "a"}, {"info", "b"}, {"", "c"}, {"error", "d"}} {
			flash(one.category, one.text)(ctx, s)
		}
		if err := s.Flash("e"); err != nil {
			t.Error(err)
		}
		// Another request adds to it, which has loaded the session before.
		b.site.serve(get(b.cookie), flash("error", "f"))
	})
	if got := body(t, p, key); got != `{"_flash":["c","e"],"_flash:error":["f","a","d"],"_flash:info":["b"],"k":0}` {
		t.Errorf("the values are %s", got)
	}
	flashes := func(s *session.Session, category string, want ...string) {
		t.Helper()
		got, err := session.FlashesAs[string](s, category)
		check(t, "the flashes of "+category, got, err, want)
	}
	b.visit(func(_ context.Context, s *session.Session) {
		if keys := s.Keys(); len(keys) != 1 || s.Has("_flash:error") {
			t.Errorf("the flashes are among the values: %q", keys)
		}
		flashes(s, "warning")
		flashes(s, "error", "f", "a", "d")
		flashes(s, "error")
		got, err := session.Flashes[string](s)
		check(t, "Flashes", got, err, []string{"c", "e"})
	})
	b.visit(func(_ context.Context, s *session.Session) { flashes(s, "info", "b") })
	if got := body(t, p, key); got != `{"k":0}` {
		t.Errorf("the values are %s", got)
	}
	b.visit(func(_ context.Context, s *session.Session) {
		_, err := session.FlashesAs[string](s, "\xff")
		for what, err := range map[string]error{"FlashAs": s.FlashAs("\xff", "a"), "FlashesAs": err, "of nothing": s.FlashAs("error", func() {})} {
			if !errors.Is(err, session.ErrInvalid) {
				t.Errorf("%s: %v; want ErrInvalid", what, err)
			}
		}
	})
}
