package scsstore

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// sameGob reports whether two encodings by GobCodec have the same values in another
// order, as gob writes maps. Where it is not sure they have to be decoded, which takes
// longer than all else of a request that only reads. It knows the format by the
// documentation of encoding/gob, and values of basic types only.
func sameGob(a, b []byte) (same, sure bool) {
	types, before, as, ok := entriesOf(a)
	others, other, bs, known := entriesOf(b)
	if !ok || !known || !bytes.Equal(types, others) {
		return false, false
	}
	if len(as) != len(bs) || !bytes.Equal(before, other) {
		return false, true
	}
	slices.SortFunc(as, bytes.Compare)
	slices.SortFunc(bs, bytes.Compare)
	return slices.EqualFunc(as, bs, bytes.Equal), true
}

// mostBasic is the greatest number of a type that contains no other types: those are
// bool, int, uint, float64, []byte and string.
const mostBasic = 6

// entriesOf splits an encoding into the definitions of types, the deadline and the entries
// of the map.
func entriesOf(b []byte) (types, deadline []byte, entries [][]byte, ok bool) {
	g := gobReader{rest: b}
	for { // messages that define types, with a negative number, and then the value
		types = b[:len(b)-len(g.rest)]
		size := g.uint()
		rest := g.rest
		if size > uint64(len(rest)) || len(rest) == 0 {
			return nil, nil, nil, false
		}
		if g.int() >= 0 {
			g.bad = g.bad || size != uint64(len(rest))
			break
		}
		g.rest = rest[size:]
	}
	g.field()
	deadline = g.rest
	g.skip(g.uint())
	deadline = deadline[:len(deadline)-len(g.rest)]
	g.field()
	n := g.uint()
	for range min(n, uint64(len(b))) {
		entry := g.rest
		g.skip(g.uint()) // the key
		g.skip(g.uint()) // the name of the value's type
		if number := g.int(); number <= 0 || number > mostBasic {
			return nil, nil, nil, false
		}
		g.skip(g.uint()) // the value
		entries = append(entries, entry[:len(entry)-len(g.rest)])
	}
	return types, deadline, entries, !g.bad && bytes.Equal(g.rest, []byte{0})
}

// gobReader reads what gob has written.
type gobReader struct {
	rest []byte
	bad  bool
}

func (g *gobReader) skip(n uint64) {
	if n > uint64(len(g.rest)) {
		g.bad, g.rest = true, nil
		return
	}
	g.rest = g.rest[n:]
}

// field reads that the next field of a struct follows.
func (g *gobReader) field() { g.bad = g.uint() != 1 || g.bad }

// uint is one byte below 128, or the negated count of the bytes that follow.
func (g *gobReader) uint() uint64 {
	if len(g.rest) == 0 {
		g.bad = true
		return 0
	}
	first := g.rest[0]
	g.rest = g.rest[1:]
	if first < 1<<7 {
		return uint64(first)
	}
	n := -int(int8(first))
	if n > 8 || n > len(g.rest) {
		g.bad, g.rest = true, nil
		return 0
	}
	var whole [8]byte
	copy(whole[8-n:], g.rest)
	g.rest = g.rest[n:]
	return binary.BigEndian.Uint64(whole[:])
}

// int has its sign in the lowest bit.
func (g *gobReader) int() int64 {
	u := g.uint()
	if u&1 != 0 {
		return ^int64(u >> 1)
	}
	return int64(u >> 1)
}
