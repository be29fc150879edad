package redacted_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/internal/redacted"
)

type placeholder = redacted.Value

type holder struct {
	placeholder
	Public string
	secret []byte
}

func TestWhatEmbedsAValuePrintsAsAPlaceholder(t *testing.T) {
	t.Parallel()
	h := holder{Public: "hidden", secret: []byte("hidden")}
	type outer struct {
		By  holder
		At  *holder
		All []holder
	}
	o := outer{h, &h, []holder{h}}
	for _, what := range []any{h, &h, o, &o, []any{h, &h}, map[string]any{"a": h}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
			if got := fmt.Sprintf(verb, what); strings.Contains(got, "hidden") || strings.Contains(got, "68696464656e") || strings.Contains(got, "104 105") {
				t.Errorf("%s of a %T prints %s", verb, what, got)
			}
		}
		got, err := json.Marshal(what)
		if err != nil || strings.Contains(string(got), "hidden") {
			t.Errorf("a %T as JSON is %s, %v", what, got, err)
		}
	}
}

func TestAQuietErrorKeepsItsCauseToItself(t *testing.T) {
	t.Parallel()
	cause := errors.New("the number is 4711")
	err := redacted.Because("it is no number", cause)
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(verb, fmt.Errorf("outer: %w", err)); strings.Contains(got, "4711") {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}
