package session

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// Key names a session to a store. It cannot be turned back into the ID and is
// safe to log. The zero Key names no session.
type Key struct {
	// Hash is the SHA-256 of the ID.
	Hash [sha256.Size]byte
	// Bucket is the hour in which the session's deadline lies, as BucketOf
	// counts, or 0 where the ID does not tell (see ForeignKey).
	Bucket int32
}

// ForeignKey is the key of a token that another library made. scheme names the
// library, and keeps its tokens apart from the tokens of other libraries and
// from IDs. The key has Bucket 0, so a store has to search for it.
func ForeignKey(scheme, token string) Key {
	h := sha256.New()
	fmt.Fprintf(h, "sojourn:%d:%s:", len(scheme), scheme)
	h.Write([]byte(token))
	return Key{Hash: [sha256.Size]byte(h.Sum(nil))}
}

// BucketOf returns the bucket of a deadline: whole hours since 1970 UTC,
// rounded up, so that a bucket b has ended when hour b has begun. Deadlines
// that do not fit are given the nearest bucket that does; the earliest is 1.
func BucketOf(deadline time.Time) int32 {
	const maxBucket = 1<<31 - 1
	sec := deadline.Unix()
	hours := sec / 3600
	if sec%3600 > 0 || deadline.Nanosecond() > 0 {
		hours++
	}
	return int32(min(max(hours, 1), maxBucket))
}

// IsZero reports whether k is the zero Key.
func (k Key) IsZero() bool { return k == Key{} }

// Compare orders keys by bucket and hash: the order in which stores lock them.
func (k Key) Compare(other Key) int {
	if c := cmp.Compare(k.Bucket, other.Bucket); c != 0 {
		return c
	}
	return bytes.Compare(k.Hash[:], other.Hash[:])
}

// String returns the first half of the hash in hexadecimal: enough to find a
// session in logs.
func (k Key) String() string { return hex.EncodeToString(k.Hash[:16]) }
