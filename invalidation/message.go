package invalidation

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/sojourn-go/sojourn/session"
)

// A payload is a version, a kind and what belongs to the kind:
//
//	1h nonce              a heartbeat
//	1k sender token…      these keys were written
//	1u sender token       sessions of this user were ended
//	1a sender             anything may have been written
//	1m sender             the partitions have changed
//
// The rest is base64url: a nonce has 16 bytes, a sender 8. A token is 16 bytes
// of a hash, so that what a session or a user is called stays out of the
// database's log. A message can only take something out of a cache; anybody
// who may connect to the database can send one.
const (
	payloadVersion = '1'

	kindHeartbeat  = 'h'
	kindKeys       = 'k'
	kindUser       = 'u'
	kindAll        = 'a'
	kindPartitions = 'm'
)

// Postgres takes payloads of less than 8,000 bytes (manual, NOTIFY).
const (
	maxPayload     = 7999
	tokensPerBatch = 350
)

// token names a key or a user in messages and in the cache.
type token [16]byte

func keyToken(key session.Key) token { return token(key.Hash[:16]) }

func userToken(user string) token {
	sum := sha256.Sum256([]byte("sojourn user:" + user))
	return token(sum[:16])
}

// Sender names a process in its messages, so that it can ignore its own.
type Sender [8]byte

func newSender() Sender {
	var s Sender
	rand.Read(s[:]) // never fails: crypto/rand ends the program instead
	return s
}

var encoding = base64.RawURLEncoding.Strict()

func payload(kind byte, parts ...[]byte) string {
	return string([]byte{payloadVersion, kind}) + encoding.EncodeToString(slices.Concat(parts...))
}

// Keys returns the payloads that say that the sessions of keys were written.
func (s Sender) Keys(keys ...session.Key) []string {
	var out []string
	for some := range slices.Chunk(keys, tokensPerBatch) {
		raw := make([]byte, 0, len(s)+len(some)*len(token{}))
		raw = append(raw, s[:]...)
		for _, key := range some {
			raw = append(raw, key.Hash[:len(token{})]...)
		}
		out = append(out, payload(kindKeys, raw))
	}
	return out
}

// User returns the payload that says that sessions of user were ended.
func (s Sender) User(user string) string {
	t := userToken(user)
	return payload(kindUser, s[:], t[:])
}

// All returns the payload that says that any session may have been written.
func (s Sender) All() string { return payload(kindAll, s[:]) }

// Partitions returns the payload that says that partitions were made or
// dropped.
func (s Sender) Partitions() string { return payload(kindPartitions, s[:]) }

// nonce makes a heartbeat that nobody can foresee.
type nonce [16]byte

// message is a payload that was understood.
type message struct {
	kind   byte
	sender Sender
	nonce  nonce
	tokens []token
}

func parse(text string) (message, error) {
	if len(text) < 2 || text[0] != payloadVersion {
		return message{}, fmt.Errorf("a payload of %d bytes has another version", len(text))
	}
	m := message{kind: text[1]}
	raw, err := encoding.DecodeString(text[2:])
	if err != nil || strings.ContainsAny(text, "\r\n") { // which the decoder skips
		return message{}, fmt.Errorf("a payload of %d bytes is not base64url", len(text))
	}
	if m.kind == kindHeartbeat {
		if len(raw) != len(m.nonce) {
			return message{}, fmt.Errorf("a heartbeat has %d bytes", len(raw))
		}
		m.nonce = nonce(raw)
		return m, nil
	}
	if len(raw) < len(m.sender) {
		return message{}, fmt.Errorf("a payload of %d bytes has no sender", len(text))
	}
	m.sender, raw = Sender(raw[:len(m.sender)]), raw[len(m.sender):]
	tokens := len(raw) / len(token{})
	least, most := 0, 0
	switch m.kind {
	case kindKeys:
		least, most = 1, maxPayload
	case kindUser:
		least, most = 1, 1
	case kindAll, kindPartitions:
	default:
		return message{}, fmt.Errorf("a payload of %d bytes has an unknown kind", len(text))
	}
	if len(raw)%len(token{}) != 0 || tokens < least || tokens > most {
		return message{}, fmt.Errorf("a payload of %d bytes has the wrong length for its kind", len(text))
	}
	for one := range slices.Chunk(raw, len(token{})) {
		m.tokens = append(m.tokens, token(one))
	}
	return m, nil
}

// Channel returns the name of the channel on which the nodes that share a
// table talk. Channels belong to one database; the name is the same length
// whatever schema and table are called, since LISTEN cuts what is longer than
// 63 bytes, and pg_notify does not.
func Channel(schema, table string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s:%s", len(schema), schema, table))
	return "sojourn_" + hex.EncodeToString(sum[:16])
}
