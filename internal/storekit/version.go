package storekit

import (
	"crypto/rand"
	"encoding/binary"
)

// maxStep is how far a version is from the one before at most. So there are
// versions for 2^32 writes to a session.
const maxStep = 1 << 31

// Version returns a version to write in place of was, which is 0 for a session
// that is new. It is greater, and nobody can foresee by how much: other nodes
// may read a version that a crash then takes back, and what is written instead
// must not have the same one.
func Version(was int64) int64 { return was + Step() }

// Step is how far the next version is from one that its writer does not know.
func Step() int64 {
	var random [4]byte
	_, _ = rand.Read(random[:]) // which does not fail
	return 1 + int64(binary.BigEndian.Uint32(random[:])%maxStep)
}
