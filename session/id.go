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

const redactedID = "session.ID(redacted)"

// idText is URL-safe base64; 36 bytes need no padding. Strict rejects texts
// that decode to the same bytes as another.
var idText = base64.RawURLEncoding.Strict()

// ID is the secret that the browser holds: 32 random bytes and the bucket of
// the session's deadline. The bytes are twice the 128 bits that the OWASP
// Session Management Cheat Sheet asks of an ID. The bucket tells a store where
// to look and nothing else. IDs are compared by ==. The zero ID is no ID.
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

// ParseID returns the ID of a text that came from outside. The error is
// ErrInvalidID unless the text has the exact shape of an ID, so that no other
// text reaches a database. Only the store decides whether there can be such a
// session: it knows what it holds, and no clock and no setting of this node
// does.
func ParseID(text string) (ID, error) {
	raw, err := parse(text)
	if err != nil {
		return ID{}, err
	}
	return ID{unique.Make(string(raw[:]))}, nil
}

// ParseKey returns the key of the ID that ParseID would return, without making
// the ID: it does not allocate.
func ParseKey(text string) (Key, error) {
	raw, err := parse(text)
	if err != nil {
		return Key{}, err
	}
	return keyOf(raw[:]), nil
}

// parse returns what an ID is made of, and zeroes if the text is none.
func parse(text string) (raw [idLen]byte, err error) {
	if len(text) != IDTextLen {
		return raw, fmt.Errorf("%w: it has %d bytes instead of %d", ErrInvalidID, len(text), IDTextLen)
	}
	// Decode skips line ends, hence the count; its error would quote the input.
	if n, err := idText.Decode(raw[:], []byte(text)); err != nil || n != idLen {
		return [idLen]byte{}, fmt.Errorf("%w: it is not base64url", ErrInvalidID)
	}
	if bucketOf(raw[:]) < 1 { // which BucketOf never returns
		return [idLen]byte{}, fmt.Errorf("%w: its deadline is out of range", ErrInvalidID)
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
	return keyOf(id.bytes())
}

// bytes is what the ID is made of.
func (id ID) bytes() []byte { return []byte(id.raw.Value()) }

func keyOf(raw []byte) Key { return Key{Hash: sha256.Sum256(raw), Bucket: bucketOf(raw)} }

// IsZero reports whether id is the zero ID.
func (id ID) IsZero() bool { return id == ID{} }

// Secret returns the ID's text, for the browser only. The text of the zero ID
// is empty.
func (id ID) Secret() string {
	if id.IsZero() {
		return ""
	}
	return idText.EncodeToString(id.bytes())
}

// String returns a placeholder.
func (id ID) String() string { return redactedID }

// GoString returns a placeholder.
func (id ID) GoString() string { return redactedID }

// Format writes a placeholder, whatever the verb.
func (id ID) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redactedID) }

// MarshalText returns a placeholder, so that encoding/json, log/slog, zap and
// the like cannot spill the secret.
func (id ID) MarshalText() ([]byte, error) { return []byte(redactedID), nil }
