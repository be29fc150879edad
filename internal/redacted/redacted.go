// Package redacted keeps secrets, and what users have entrusted to a session, out
// of what is printed.
package redacted

import (
	"fmt"
	"io"
)

const text = "sojourn(redacted)"

// Value makes what embeds it print, log and marshal as a placeholder: under each
// verb of fmt, in log/slog and zap, and as JSON. Nothing is read for that, so it
// may be printed while others change it.
type Value struct{}

// Format implements fmt.Formatter.
func (Value) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, text) }

// String implements fmt.Stringer.
func (Value) String() string { return text }

// GoString implements fmt.GoStringer.
func (Value) GoString() string { return text }

// MarshalText implements encoding.TextMarshaler.
func (Value) MarshalText() ([]byte, error) { return []byte(text), nil }

// Because returns an error with that text, which does not tell its cause: the text
// of the cause may quote what a user has entrusted to a session.
func Because(text string, cause error) error { return &quiet{text, cause} }

type quiet struct {
	text  string
	cause error
}

func (q *quiet) Error() string { return q.text }

func (q *quiet) Unwrap() error { return q.cause }
