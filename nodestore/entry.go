package nodestore

import (
	"time"
)

// Entry is a session as its row holds it. It prints, logs and marshals as a
// placeholder.
type Entry struct {
	placeholder
	// ID is the session's ID, as the Node application knows it: the column
	// without the layout's prefix. It is a secret.
	ID string
	// Data is the document, JSON text as it is stored. It must not be modified.
	Data []byte
	// Expires is what the column says, in UTC, which is the truth: the document's
	// cookie.expires grows stale. Zero: the column is NULL.
	Expires time.Time
}

// SetOption says how long a session lives that is Set.
type SetOption func(*setOptions)

type setOptions struct {
	expires time.Time
	ttl     time.Duration
}

// ExpiresAt is the expiry of the session, whatever its document says. Zero is
// like none.
func ExpiresAt(t time.Time) SetOption { return func(o *setOptions) { o.expires = t } }

// TTL is how long the session lives from now, whatever its document says. 0 is
// like none.
func TTL(d time.Duration) SetOption { return func(o *setOptions) { o.ttl = d } }
