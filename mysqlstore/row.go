package mysqlstore

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// row is a session as it is stored, dead or alive.
type row struct {
	id  int64
	rec session.Record // its key has the bucket, also if it is a foreign one

	keptTo     int32     // the last bucket of the keys that lead to it, its own included
	ended      time.Time // zero: it was not
	next       []byte    // hash of the successor, if it was renewed
	graceUntil time.Time
	now        time.Time // by the database's clock, when the row was read
}

// rowOf reads the columns, the data, the time and, as far as they are there,
// the hash and the id.
func rowOf(v []driver.Value) (*row, error) {
	s := scanner{values: v}
	r := &row{}
	r.rec.Key.Bucket, r.keptTo = int32(s.number()), int32(s.number())
	r.rec.Version = s.number()
	r.rec.Expires, r.rec.Deadline, r.rec.Created = s.time(), s.time(), s.time()
	r.ended = s.maybeTime()
	r.next = s.maybeHash()
	r.graceUntil = s.maybeTime()
	r.rec.User = string(s.bytes())
	r.rec.Data = s.copied()
	r.now = s.time()
	if len(s.values) > 0 {
		r.rec.Key.Hash = [32]byte(s.hash())
	}
	if len(s.values) > 0 {
		r.id = s.number()
	}
	return r, s.err
}

func (r *row) live(now time.Time) bool { return r.ended.IsZero() && now.Before(r.rec.Expires) }

func (r *row) inGrace(now time.Time) bool { return r.next != nil && now.Before(r.graceUntil) }

func (r *row) fate(now time.Time) session.Fate {
	switch {
	case r == nil:
		return session.FateUnknown
	case r.live(now):
		return session.FateLive
	case r.next != nil:
		return session.FateRenewed
	case !r.ended.IsZero() && r.ended.Before(r.rec.Expires):
		return session.FateEnded
	}
	return session.FateExpired
}

// is reports whether key, which has the row's hash, names it.
func (r *row) is(key session.Key) bool { return key.Bucket == 0 || key.Bucket == r.rec.Key.Bucket }

// refusal says why the row is not to be written, or is nil.
func (r *row) refusal() error {
	switch {
	case r == nil:
		return session.ErrNotFound
	case r.live(r.now):
		return nil
	case r.inGrace(r.now):
		return session.ErrConflict
	}
	return session.ErrNotFound
}

// scanner takes values one by one and checks what they are.
type scanner struct {
	values []driver.Value
	err    error
}

func (s *scanner) take() driver.Value {
	if len(s.values) == 0 {
		return nil
	}
	got := s.values[0]
	s.values = s.values[1:]
	return got
}

func (s *scanner) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
	}
}

func (s *scanner) maybeNumber() (n int64, null bool) {
	switch got := s.take().(type) {
	case nil:
		return 0, true
	case int64:
		return got, false
	case uint64:
		return int64(got), false
	default:
		s.fail("a column holds a %T instead of a number", got)
		return 0, false
	}
}

func (s *scanner) number() int64 {
	n, null := s.maybeNumber()
	if null {
		s.fail("a column is NULL that must not be")
	}
	return n
}

func (s *scanner) time() time.Time { return storekit.Time(s.number()) }

func (s *scanner) maybeTime() time.Time {
	n, null := s.maybeNumber()
	if null {
		return time.Time{}
	}
	return storekit.Time(n)
}

// bytes are valid until the next row is read.
func (s *scanner) bytes() []byte {
	switch got := s.take().(type) {
	case nil:
		return nil
	case []byte:
		return got
	default:
		s.fail("a column holds a %T instead of bytes", got)
		return nil
	}
}

func (s *scanner) copied() []byte {
	got := s.bytes()
	if len(got) == 0 {
		return nil
	}
	return bytes.Clone(got)
}

func (s *scanner) hash() []byte {
	hash := s.maybeHash()
	if hash == nil {
		s.fail("a key is missing")
		return make([]byte, 32)
	}
	return hash
}

func (s *scanner) maybeHash() []byte {
	hash := s.copied()
	if hash != nil && len(hash) != 32 {
		s.fail("a key has %d bytes instead of 32", len(hash))
		return nil
	}
	return hash
}

// nullText is NULL for the empty text, nullBytes for no data.
func nullText(text string) driver.Value {
	if text == "" {
		return nil
	}
	return []byte(text)
}

func nullBytes(data []byte) driver.Value {
	if len(data) == 0 {
		return nil
	}
	return data
}
