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

// SetOption changes what Set does.
type SetOption func(*setOptions)

type setOptions struct {
	expires   time.Time
	ttl       time.Duration
	destroyed *int64
}

// ExpiresAt is the expiry of the session, whatever its document says. Zero is
// like none.
func ExpiresAt(t time.Time) SetOption { return func(o *setOptions) { o.expires = t } }

// Destroyed has Set tell how many sessions it has destroyed because their expiry
// has passed: 1, or 0 if there was none. Otherwise n stays as it is.
func Destroyed(n *int64) SetOption { return func(o *setOptions) { o.destroyed = n } }

// TTL is how long the session lives from now, whatever its document says. 0 is
// like none.
func TTL(d time.Duration) SetOption { return func(o *setOptions) { o.ttl = d } }
