package jsonobject_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/internal/jsonobject"
)

type textual string

func (t textual) MarshalText() ([]byte, error) { return []byte(t), nil }

type byPointer struct{ text string }

func (p *byPointer) MarshalText() ([]byte, error) { return []byte(p.text), nil }

type embedded struct{ Inner string }

type outer struct {
	embedded
	A       any
	Skipped string `json:"-"`
	private string
}

const broken = "a\xff"

func TestTextThatIsNotUTF8IsRefusedWhereverItIs(t *testing.T) {
	t.Parallel()
	text, in := broken, any(broken)
	for what, v := range map[string]any{
		"a string": broken, "a pointer": &text, "an interface": &in, "a slice": []string{"a", broken}, "an array": [2]string{"", broken},
		"a map's value": map[string]string{"a": broken}, "a map's key": map[string]int{broken: 1}, "a field": outer{A: broken}, "a deep one": outer{A: []any{map[string]any{"a": &outer{A: broken}}}},
		"an embedded field": outer{embedded: embedded{broken}}, "a half": "é"[:1], "a surrogate": "\xed\xa0\x80",
		"a text of its own": textual(broken), "one by pointer": &byPointer{broken}, "one by pointer in a slice": []byPointer{{broken}},
		"raw JSON": json.RawMessage("\"" + broken + "\""),
	} {
		if got, err := jsonobject.Encode(v); err == nil || strings.Contains(err.Error(), broken) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

func TestTextThatIsUTF8IsEncoded(t *testing.T) {
	t.Parallel()
	for what, v := range map[string]any{
		"U+FFFD": "a\ufffd", "its escape": json.RawMessage(`"\ufffd"`), "both": []any{"\ufffd", json.RawMessage(`{"a":"\ufffd"}`)},
		"text of the escape": `\ufffd`, "bytes": []byte(broken + `\ufffd`), "what is skipped": outer{A: json.RawMessage(`"\ufffd"`), Skipped: broken, private: broken},
		"nothing": nil, "nil pointers": []any{(*outer)(nil), (*byPointer)(nil)}, "a text of its own": textual("\ufffd"),
	} {
		got, err := jsonobject.Encode(v)
		want, _ := jsonobject.Marshal(v)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: %q, %v; want %q", what, got, err, want)
		}
	}
}

func TestNestingHasALimit(t *testing.T) {
	t.Parallel()
	nested := func(n int, inner string) json.RawMessage {
		return json.RawMessage(strings.Repeat("[", n) + inner + strings.Repeat("]", n))
	}
	for what, v := range map[string]json.RawMessage{
		"the limit": nested(jsonobject.MaxDepth, "1"), "brackets in a text": nested(1, `"`+strings.Repeat(`[{\"`, 5000)+`"`), "many side by side": nested(1, strings.Repeat("[{}],", 5000)+"1"),
	} {
		if _, err := jsonobject.Encode(v); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, v := range map[string]json.RawMessage{
		"one more": nested(jsonobject.MaxDepth+1, "1"), "objects": json.RawMessage(strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000)), "nine thousand": nested(9000, ""),
	} {
		if _, err := jsonobject.Encode(v); err == nil || !strings.Contains(err.Error(), "1000") {
			t.Errorf("%s: %v; want an error that names the limit", what, err)
		}
	}
}
