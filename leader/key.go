package leader

import (
	"crypto/sha256"
	"encoding/binary"
)

// Key makes a lock's key out of what tells it from all other locks of the
// database, such as library, schema, table and purpose. The key is the first
// eight bytes, big endian, of the SHA-256 over all parts, each after its length
// in eight bytes. It is the same in every process and version, and ("a", "bc")
// differs from ("ab", "c").
func Key(parts ...string) int64 {
	h := sha256.New()
	for _, part := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return int64(binary.BigEndian.Uint64(h.Sum(nil)))
}
