package sqlitestore

import (
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
}

// rowOf reads the columns, the data and, as far as they are there, the id and
// the key.
func rowOf(v []driver.Value) (*row, error) {
	s := scanner{values: v}
	r := &row{}
	r.rec.Key.Bucket, r.keptTo = int32(s.number()), int32(s.number())
	r.rec.Version = s.number()
	r.rec.Expires, r.rec.Deadline, r.rec.Created = s.time(), s.time(), s.time()
	r.ended = s.maybeTime()
	r.next = s.maybeHash()
	r.graceUntil = s.maybeTime()
	r.rec.User = s.text()
	r.rec.Data = s.bytes()
	if len(s.values) > 0 {
		r.id = s.number()
	}
	if len(s.values) > 0 {
		r.rec.Key.Hash = [32]byte(s.hash())
	}
	return r, s.err
}

func (r *row) live(now time.Time) bool { return r.ended.IsZero() && now.Before(r.rec.Expires) }

func (r *row) inGrace(now time.Time) bool { return r.next != nil && now.Before(r.graceUntil) }

// is reports whether key, which has the row's hash, names it.
func (r *row) is(key session.Key) bool { return key.Bucket == 0 || key.Bucket == r.rec.Key.Bucket }

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

// scanner takes values one by one. SQLite's types are those of values, so what
// is read is checked.
type scanner struct {
	values []driver.Value
	err    error
}

func take[T any](s *scanner) (value T, null bool) {
	var got driver.Value
	if len(s.values) > 0 {
		got, s.values = s.values[0], s.values[1:]
	}
	if got == nil {
		return value, true
	}
	value, ok := got.(T)
	if !ok && s.err == nil {
		s.err = fmt.Errorf("%w: a column holds a %T instead of a %T", ErrDamaged, got, value)
	}
	return value, false
}

func (s *scanner) required(null bool) {
	if null && s.err == nil {
		s.err = fmt.Errorf("%w: a column is NULL that must not be", ErrDamaged)
	}
}

func (s *scanner) number() int64 {
	n, null := take[int64](s)
	s.required(null)
	return n
}

func (s *scanner) time() time.Time { return storekit.Time(s.number()) }

func (s *scanner) maybeTime() time.Time {
	n, null := take[int64](s)
	if null {
		return time.Time{}
	}
	return storekit.Time(n)
}

func (s *scanner) hash() []byte {
	hash := s.maybeHash()
	if hash == nil {
		s.required(true)
		hash = make([]byte, 32)
	}
	return hash
}

func (s *scanner) maybeHash() []byte {
	hash, null := take[[]byte](s)
	if null {
		return nil
	}
	if len(hash) != 32 {
		if s.err == nil {
			s.err = fmt.Errorf("%w: a key has %d bytes instead of 32", ErrDamaged, len(hash))
		}
		return nil
	}
	return hash
}

func (s *scanner) text() string {
	text, _ := take[string](s)
	return text
}

func (s *scanner) bytes() []byte {
	data, _ := take[[]byte](s)
	return data
}

// nullText is NULL for the empty text, nullBytes for no data.
func nullText(text string) driver.Value {
	if text == "" {
		return nil
	}
	return text
}

func nullBytes(data []byte) driver.Value {
	if len(data) == 0 {
		return nil
	}
	return data
}
