package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"time"
	"unique"
)

const (
	idSecretLen = 32
	idLen       = idSecretLen + 4

	// IDTextLen is the length of an ID's text in bytes.
	IDTextLen = idLen / 3 * 4
)

const redacted = "session.ID(redacted)"

// idText is URL-safe base64; 36 bytes need no padding. Strict rejects texts
// that decode to the same bytes as another.
var idText = base64.RawURLEncoding.Strict()

// ID is the secret that the browser holds: 32 random bytes (twice the 128 bits
// that the OWASP Session Management Cheat Sheet asks of an ID) and the bucket
// of the session's deadline, which tells a store where to look and nothing
// else. IDs are compared by ==. The zero ID is no ID.
//
// An ID prints, logs and marshals as a placeholder. Secret returns the text.
type ID struct {
	// In an unexported field or under a wrong verb, fmt ignores the methods of
	// a value and prints what it holds. A pointer to a string is not followed.
	raw unique.Handle[string]
}

// NewID makes an ID for a session that ends at deadline at the latest.
func NewID(deadline time.Time) ID {
	var raw [idLen]byte
	rand.Read(raw[:idSecretLen]) // never fails: crypto/rand ends the program instead
	binary.BigEndian.PutUint32(raw[idSecretLen:], uint32(BucketOf(deadline)))
	return ID{unique.Make(string(raw[:]))}
}

// Window says which deadlines a store can hold at a time.
type Window struct {
	// Now is the store's time; see Clock.
	Now time.Time
	// Grace is for how long after its deadline a session is still known.
	Grace time.Duration
	// Longest is the longest lifetime of a session.
	Longest time.Duration
}

// Contains reports whether a session of this bucket may exist.
func (w Window) Contains(bucket int32) bool {
	return bucket >= BucketOf(w.Now.Add(-w.Grace)) && bucket <= BucketOf(w.Now.Add(w.Longest))
}

// ParseID returns the ID of a text that came from outside. It is ErrInvalidID
// unless the text has the exact shape of an ID and a bucket in w, so that
// guesses and leftovers never reach a database.
func ParseID(text string, w Window) (ID, error) {
	raw, err := parse(text, w)
	if err != nil {
		return ID{}, err
	}
	return ID{unique.Make(string(raw[:]))}, nil
}

// ParseKey returns the key of the ID that ParseID would return, without making
// the ID: it does not allocate.
func ParseKey(text string, w Window) (Key, error) {
	raw, err := parse(text, w)
	if err != nil {
		return Key{}, err
	}
	return keyOf(raw[:]), nil
}

// parse returns what an ID is made of, and zeroes if the text is none. With
// ErrInvalidID too where only the bucket is wrong.
func parse(text string, w Window) (raw [idLen]byte, err error) {
	if len(text) != IDTextLen {
		return raw, fmt.Errorf("%w: it has %d bytes instead of %d", ErrInvalidID, len(text), IDTextLen)
	}
	// Decode skips line ends, hence the count; its error would quote the input.
	if n, err := idText.Decode(raw[:], []byte(text)); err != nil || n != idLen {
		return [idLen]byte{}, fmt.Errorf("%w: it is not base64url", ErrInvalidID)
	}
	if !w.Contains(bucketOf(raw[:])) {
		return raw, fmt.Errorf("%w: its deadline is out of range", ErrInvalidID)
	}
	return raw, nil
}

func bucketOf(raw []byte) int32 {
	return int32(binary.BigEndian.Uint32(raw[idSecretLen:]))
}

// Key returns the key by which stores know the session. The hash covers the
// bucket too: an ID with a forged bucket has an unknown key. The zero ID has
// the zero Key.
func (id ID) Key() Key {
	if id.IsZero() {
		return Key{}
	}
	return keyOf([]byte(id.raw.Value()))
}

func keyOf(raw []byte) Key { return Key{Hash: sha256.Sum256(raw), Bucket: bucketOf(raw)} }

// IsZero reports whether id is the zero ID.
func (id ID) IsZero() bool { return id == ID{} }

// Secret returns the ID's text, for the browser only. That of the zero ID is
// empty.
func (id ID) Secret() string {
	if id.IsZero() {
		return ""
	}
	return idText.EncodeToString([]byte(id.raw.Value()))
}

// String returns a placeholder.
func (id ID) String() string { return redacted }

// GoString returns a placeholder.
func (id ID) GoString() string { return redacted }

// Format writes a placeholder, whatever the verb.
func (id ID) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// MarshalText returns a placeholder, so that encoding/json, log/slog, zap and
// the like cannot spill the secret.
func (id ID) MarshalText() ([]byte, error) { return []byte(redacted), nil }
