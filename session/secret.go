package session

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/sojourn-go/sojourn/internal/redacted"
)

// placeholder makes what embeds it print as a placeholder.
type placeholder = redacted.Value

// Secret is a text that nothing shows which prints, logs or marshals it or what
// holds it. Text returns it. The zero Secret is the empty text.
type Secret struct {
	placeholder
	// In an unexported field fmt ignores the methods of a value and prints what
	// it holds, and others follow its pointers. Nobody looks into a function.
	text func() string
}

// Secrets makes a Secret of each text, of which it keeps a copy.
func Secrets[T ~string | ~[]byte](texts ...T) []Secret {
	secrets := make([]Secret, len(texts))
	for i, text := range texts {
		kept := string(text)
		secrets[i].text = func() string { return kept }
	}
	return secrets
}

// Text returns the text.
func (s Secret) Text() string {
	if s.text == nil {
		return ""
	}
	return s.text()
}

// String returns all of the record but its data, which may be logged.
func (r Record) String() string {
	at := func(t time.Time) string { return t.Format(time.RFC3339Nano) }
	return fmt.Sprintf("{Key:%s/%d Version:%d Created:%s Expires:%s Deadline:%s User:%q Data:%d bytes}",
		r.Key, r.Key.Bucket, r.Version, at(r.Created), at(r.Expires), at(r.Deadline), r.User, len(r.Data))
}

// Format writes what String returns, whatever the verb.
func (r Record) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, r.String()) }

// MarshalText returns what String returns.
func (r Record) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String returns all of the export but its values, of which it counts the keys.
func (e Export) String() string {
	return fmt.Sprintf("{Info:%+v Values:%d keys}", e.Info, len(e.Values))
}

// Format writes what String returns, whatever the verb.
func (e Export) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, e.String()) }

// LogValue implements slog.LogValuer by String.
func (e Export) LogValue() slog.Value { return slog.StringValue(e.String()) }
