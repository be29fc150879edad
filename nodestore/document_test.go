package nodestore_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

const strange = " {\n\"cookie\" : {\"path\":\"/\"} , \"big\":12345678901234567890, \"huge\":1e400,\"zero\":-0.0e-0,\"\\ud800\":\"\\udfff lone\",\"esc\":\"\\u003c\\/\\u00e9\",\"\\u0061\":1,\"nest\":{ \"x\" : [1 , {\"y\":null}] ,\"x\":2}, \"dup\":1, \"dup\":2 } \n"

func parsed(t testing.TB, text string) *nodestore.Document {
	t.Helper()
	d, err := nodestore.ParseDocument([]byte(text))
	if err != nil {
		t.Fatalf("ParseDocument(%q): %v", text, err)
	}
	return d
}

func TestAnUntouchedDocumentKeepsItsBytes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strange, "{}", " { } ", `{"":1}`, `{"a":{}}`} {
		d := parsed(t, text)
		if got := string(d.Bytes()); got != text {
			t.Errorf("it is\n%q; want\n%q", got, text)
		}
		// Nor does it lose them when a value is set to what it is.
		for _, key := range d.Keys() {
			if key == "" {
				continue
			}
			if err := d.Set(d.Raw(key), key); err != nil {
				t.Errorf("Set(%q): %v", key, err)
			}
		}
		if text == strange {
			text = strings.Replace(text, `{ "x" : [1 , {"y":null}] ,"x":2}`, `{"x":[1,{"y":null}],"x":2}`, 1) // a RawMessage is compacted
		}
		if got := string(d.Bytes()); got != text {
			t.Errorf("set to what it is:\n%q; want\n%q", got, text)
		}
	}
}

func TestAChangeChangesItsOwnBytesOnly(t *testing.T) {
	t.Parallel()
	set := func(v any, path ...string) func(*nodestore.Document) error {
		return func(d *nodestore.Document) error { return d.Set(v, path...) }
	}
	del := func(path ...string) func(*nodestore.Document) error {
		return func(d *nodestore.Document) error { return d.Delete(path...) }
	}
	for _, test := range []struct {
		change   func(*nodestore.Document) error
		old, new string // of strange
	}{
		{set(1, "big"), "12345678901234567890", "1"},
		{set("x", "huge"), "1e400", `"x"`},
		{set(json.RawMessage("98765432109876543210"), "huge"), "1e400", "98765432109876543210"},
		{set(2, "a"), `"\u0061":1`, `"\u0061":2`},
		{set(3, "dup"), `"dup":2`, `"dup":3`},
		{set(3, "nest", "x"), `,"x":2`, `,"x":3`},
		{set(3, "nest", "z"), `"x":2}`, `"x":2,"z":3}`},
		{set("/x", "cookie", "path"), `{"path":"/"}`, `{"path":"/x"}`},
		{set(true, "new"), `"dup":2 } `, `"dup":2,"new":true } `},
		{set(42, "passport", "user", "id"), `"dup":2 } `, `"dup":2,"passport":{"user":{"id":42}} } `},
		{del("dup"), `, "dup":1, "dup":2`, ""},
		{del("cookie"), "\"cookie\" : {\"path\":\"/\"} , ", " "},
		{del("big"), ` , "big":12345678901234567890`, ""},
		{del("nest", "x"), `{ "x" : [1 , {"y":null}] ,"x":2}`, "{}"},
		{del("none"), "", ""},
		{del("none", "x"), "", ""},
		{del("nest", "none", "x"), "", ""},
	} {
		d := parsed(t, strange)
		if err := test.change(d); err != nil {
			t.Errorf("%q to %q: %v", test.old, test.new, err)
		}
		want := strings.Replace(strange, test.old, test.new, 1)
		if test.old != "" && strings.HasPrefix(test.old, `"cookie"`) {
			want = `{ "big"` + strange[strings.Index(strange, `"big"`)+len(`"big"`):]
		}
		if got := string(d.Bytes()); got != want {
			t.Errorf("it is\n%q; want\n%q", got, want)
		}
	}
}

func TestADocumentCanBeEmptiedAndFilled(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"a":1}`, `{"a":1,"b":2}`, `{ "b" : 2 , "a" : 1 }`, `{}`, ` { } `} {
		d := parsed(t, text)
		for _, step := range []error{d.Delete("a"), d.Delete("b"), d.Set("x", "a"), d.Set(nil, "b")} {
			if step != nil {
				t.Error(step)
			}
		}
		if got := strings.ReplaceAll(string(d.Bytes()), " ", ""); got != `{"a":"x","b":null}` || !json.Valid(d.Bytes()) {
			t.Errorf("%s becomes %s", text, got)
		}
	}
}

func TestValuesAreReadByPath(t *testing.T) {
	t.Parallel()
	d := parsed(t, `{"cookie":{},"passport":{"user":{"id":42}},"list":[{"id":1}],"none":null,"twice":1,"twice":2,"a\"\u00e9":"x","\ud800":1,"\ud801":2}`)
	if id, err := nodestore.Value[int](d, "passport", "user", "id"); id != 42 || err != nil {
		t.Errorf("passport.user.id = %d, %v", id, err)
	}
	if twice, err := nodestore.Value[int](d, "twice"); twice != 2 || err != nil {
		t.Errorf("twice = %d, %v", twice, err)
	}
	for _, path := range [][]string{{"nothing"}, {"none"}, {"none", "x"}, {"list", "0"}, {"passport", "user", "id", "x"}} {
		if got, err := nodestore.Value[string](d, path...); got != "" || err != nil {
			t.Errorf("%q = %q, %v", path, got, err)
		}
	}
	if _, err := nodestore.Value[string](d, "twice"); err == nil {
		t.Error("a number is a string")
	}
	if whole, err := nodestore.Value[map[string]any](d); len(whole) < 5 || err != nil {
		t.Errorf("without a path: %v, %v", whole, err)
	}
	if got, want := d.Keys(), []string{"passport", "list", "none", "twice", "a\"é"}; !slices.Equal(got, want) {
		t.Errorf("the keys are %q; want %q", got, want)
	}
	if d.Raw("\ufffd") != nil {
		t.Error("a lone surrogate is taken for another key")
	}
}

func TestWhatIsNoSessionIsUndecodable(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "null", "[]", "1", `"{}"`, "{", "{}}", `{"a":tru}`, `{"a":{"b":[}}}`, "{\"a\":\"\x01\"}"} {
		if _, err := nodestore.ParseDocument([]byte(text)); !errors.Is(err, session.ErrUndecodable) {
			t.Errorf("ParseDocument(%q): %v", text, err)
		}
	}
}

func TestImpossibleChangesAreRefused(t *testing.T) {
	t.Parallel()
	d := parsed(t, strange)
	for what, err := range map[string]error{
		"no path": d.Set(1), "empty key": d.Set(1, ""), "not UTF-8": d.Set(1, "\xff"), "U+FFFD": d.Set(1, "a\ufffd"), "into a number": d.Set(1, "big", "x"), "into an array": d.Set(1, "nest", "x", "0"), "no path to delete": d.Delete(),
	} {
		if !errors.Is(err, session.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := d.Set(func() {}, "f"); err == nil {
		t.Error("a function is encoded")
	}
	if got := string(d.Bytes()); got != strange {
		t.Errorf("it is %q", got)
	}
}

// What is expected was printed by JSON.stringify.
func TestValuesAreWrittenAsJSONStringifyWould(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value any
		want  string
	}{
		{"<script>&amp;</script>", `"<script>&amp;</script>"`},
		{"a\u2028b\u2029c", "\"a\u2028b\u2029c\""},
		{`a\u2028b\\`, `"a\\u2028b\\\\"`},
		{"\\\u2028\"\u2029", "\"\\\\\u2028\\\"\u2029\""},
		{"\x00\b\t\n\v\f\r\x1f\x7f", `"\u0000\b\t\n\u000b\f\r\u001f` + "\x7f" + `"`},
		{"Zoë 🚀 \"quote\" \\ back", `"Zoë 🚀 \"quote\" \\ back"`},
		{[]any{1, 1.5, 1e21, 1e-7, 123456789012, 0.1, true, nil}, `[1,1.5,1e+21,1e-7,123456789012,0.1,true,null]`},
		{map[string]any{"\u2028": "<"}, "{\"\u2028\":\"<\"}"},
		{json.RawMessage(`{ "a" : 12345678901234567890 }`), `{"a":12345678901234567890}`},
	} {
		d := parsed(t, "{}")
		if err := d.Set(test.value, "k"); err != nil {
			t.Errorf("%v: %v", test.value, err)
		}
		if got, want := string(d.Bytes()), `{"k":`+test.want+"}"; got != want {
			t.Errorf("it is %s; want %s", got, want)
		}
	}
}

// FuzzDocument changes and reads documents.
func FuzzDocument(f *testing.F) {
	for _, text := range []string{strange, "{}", "null", `{"a":1}`, `{"a":{"b":1}}`, `{"a":[]}`, `{"a":1,"a":{"b":{}}}`, "{\"\xff\":1,\"a\":\"\xff\"}", `{"\ud800":1,"\ud801":2}`, ` { "a" : 1 } `, `{"a":null}`, `{"\u0061":1}`} {
		f.Add(text, "a", "b", "x\u2028")
	}
	f.Fuzz(func(t *testing.T, text, key, inner, value string) {
		d, err := nodestore.ParseDocument([]byte(text))
		var want map[string]json.RawMessage
		valid := json.Unmarshal([]byte(text), &want) == nil && want != nil
		if valid != (err == nil) {
			t.Fatalf("ParseDocument(%q): %v; encoding/json: %v", text, err, valid)
		}
		if err != nil {
			return
		}
		if string(d.Bytes()) != text {
			t.Fatalf("%q becomes %q", text, d.Bytes())
		}
		others := map[string]string{}
		for _, k := range d.Keys() {
			if string(d.Raw(k)) != string(want[k]) {
				t.Fatalf("%q of %q is %s; encoding/json: %s", k, text, d.Raw(k), want[k])
			}
			if k != key {
				others[k] = string(d.Raw(k))
			}
		}
		check := func(what string) {
			t.Helper()
			if !json.Valid(d.Bytes()) {
				t.Fatalf("%s: %q becomes %q", what, text, d.Bytes())
			}
			again, err := nodestore.ParseDocument(d.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			for k, raw := range others {
				if string(again.Raw(k)) != raw {
					t.Fatalf("%s: %q of %q has become %s", what, k, text, again.Raw(k))
				}
			}
			if string(again.Raw(key)) != string(d.Raw(key)) {
				t.Fatalf("%s: %q of %q is %s, read again %s", what, key, d.Bytes(), d.Raw(key), again.Raw(key))
			}
		}
		if err := d.Set(value, key, inner); err == nil {
			check("Set of two")
			got, err := nodestore.Value[string](d, key, inner)
			if err != nil || got != strings.ToValidUTF8(value, "\ufffd") && strings.ToValidUTF8(value, "") == value {
				t.Fatalf("%q.%q is %q, %v; want %q", key, inner, got, err, value)
			}
		}
		if err := d.Set(1, key); err != nil {
			if key != "" && strings.ToValidUTF8(key, "") == key && !strings.Contains(key, "\ufffd") {
				t.Fatalf("Set(%q): %v", key, err)
			}
			return
		}
		check("Set")
		if err := d.Delete(key); err != nil || d.Raw(key) != nil {
			t.Fatalf("Delete: %v; %s", err, d.Raw(key))
		}
		check("Delete")
	})
}
