package jsonobject_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/internal/jsonobject"
)

func TestMembersComeAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	const data = " {\"a\" : 1e400 ,\"\\u0062\\\"\":\"\\ud800 }\",\"c\":[ {\"}\": 1} ], \"\": null ,\"é\":{},\"a\":-0 } "
	var got []string
	err := jsonobject.Split([]byte(data), func(m jsonobject.Member) {
		got = append(got, fmt.Sprintf("%s|%s|%s", m.Key, m.Name, m.Value))
		if !strings.HasPrefix(data[m.At:], string(m.Value)) {
			t.Errorf("%q does not begin at %d", m.Value, m.At)
		}
	})
	want := `a|"a"|1e400; b"|"\u0062\""|"\ud800 }"; c|"c"|[ {"}": 1} ]; |""|null; é|"é"|{}; a|"a"|-0`
	if text := strings.Join(got, "; "); err != nil || text != want {
		t.Errorf("Split gave %s, %v; want %s", text, err, want)
	}
}

func TestWhatIsNoObjectIsRefused(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		"", " ", "null", "[]", "1", `"{}"`, "}", " }", "{", "{}}", "{} x", `{"a"}`, `{"a":}`, `{"a":1`, `{"a":1,}`, `{,}`, `{"a":1 "b":2}`, `{a:1}`, `{"a":nul}`, `{"a`, `{"a":"`, `{"a":[`, "{\"a\x01\":1}", `{"\u00":1}`,
	} {
		if err := jsonobject.Split([]byte(data), func(jsonobject.Member) {}); err == nil {
			t.Errorf("%q is taken for an object", data)
		}
	}
}

func TestMarshalLeavesHTMLAlone(t *testing.T) {
	t.Parallel()
	got, err := jsonobject.Marshal(map[string]string{"<": "&>"})
	if want := `{"<":"&>"}`; err != nil || string(got) != want {
		t.Errorf("Marshal = %s, %v; want %s", got, err, want)
	}
}
