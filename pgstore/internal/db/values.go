package db

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/sojourn-go/sojourn/session"
)

// Successor is the key that a renewed row names, or the zero key.
func Successor(hash []byte, bucket zeronull.Int4) session.Key {
	var k session.Key
	if len(hash) == len(k.Hash) {
		k.Hash, k.Bucket = [32]byte(hash), int32(bucket)
	}
	return k
}

// NullTime is NULL for the zero time.
func NullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// NullText is NULL for the empty text.
func NullText(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
