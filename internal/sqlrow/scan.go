package sqlrow

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
)

// Each calls each for the rows of a result, until that fails or ctx ends, and
// closes the result.
func Each(ctx context.Context, rows driver.Rows, each func([]driver.Value) error) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := each(row); err != nil {
			return err
		}
	}
}

// Scanner takes the values of a result's row one by one. A column can hold what
// nobody meant it to (SQLite's types are those of values), so what is read is
// checked: the first fault is Err, which wraps Damaged.
type Scanner struct {
	Values  []driver.Value
	Damaged error
	Err     error
	Copies  bool // whether bytes are valid until the next row only
}

func (s *Scanner) take() driver.Value {
	if len(s.Values) == 0 {
		return nil
	}
	got := s.Values[0]
	s.Values = s.Values[1:]
	return got
}

func (s *Scanner) fail(format string, args ...any) {
	if s.Err == nil {
		s.Err = fmt.Errorf("%w: %s", s.Damaged, fmt.Sprintf(format, args...))
	}
}

// Row takes the columns of a session: bucket, last bucket, version, expiry,
// deadline, creation, end, successor, grace, user, data.
func (s *Scanner) Row() *Row {
	r := &Row{}
	r.Rec.Key.Bucket, r.KeptTo = int32(s.Number()), int32(s.Number())
	r.Rec.Version = s.Number()
	r.Rec.Expires, r.Rec.Deadline, r.Rec.Created = s.Time(), s.Time(), s.Time()
	r.Ended = s.MaybeTime()
	r.Next = s.maybeHash()
	r.GraceUntil = s.MaybeTime()
	r.Rec.User = s.Text()
	r.Rec.Data = s.data()
	return r
}

// More reports whether there are values left.
func (s *Scanner) More() bool { return len(s.Values) > 0 }

// Number takes a number, which must not be NULL.
func (s *Scanner) Number() int64 {
	n, null := s.MaybeNumber()
	if null {
		s.fail("a column is NULL that must not be")
	}
	return n
}

// MaybeNumber takes a number.
func (s *Scanner) MaybeNumber() (n int64, null bool) {
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

// Time takes a time, which must not be NULL.
func (s *Scanner) Time() time.Time { return storekit.Time(s.Number()) }

// MaybeTime takes a time, the zero one for NULL.
func (s *Scanner) MaybeTime() time.Time {
	n, null := s.MaybeNumber()
	if null {
		return time.Time{}
	}
	return storekit.Time(n)
}

// Text takes a text, the empty one for NULL.
func (s *Scanner) Text() string {
	switch got := s.take().(type) {
	case nil:
		return ""
	case string:
		return got
	case []byte:
		return string(got)
	default:
		s.fail("a column holds a %T instead of a text", got)
		return ""
	}
}

// Hash takes the hash of a key, which must not be NULL.
func (s *Scanner) Hash() [32]byte {
	hash := s.maybeHash()
	if hash == nil {
		s.fail("a key is missing")
		return [32]byte{}
	}
	return [32]byte(hash)
}

func (s *Scanner) maybeHash() []byte {
	hash, null := s.bytes()
	if !null && len(hash) != 32 {
		s.fail("a key has %d bytes instead of 32", len(hash))
		return nil
	}
	return hash
}

// data is nil for NULL and for nothing.
func (s *Scanner) data() []byte {
	data, _ := s.bytes()
	if len(data) == 0 {
		return nil
	}
	return data
}

func (s *Scanner) bytes() (got []byte, null bool) {
	switch value := s.take().(type) {
	case nil:
		return nil, true
	case []byte:
		if s.Copies {
			return bytes.Clone(value), false
		}
		return value, false
	default:
		s.fail("a column holds a %T instead of bytes", value)
		return nil, true
	}
}

// NullBytes is NULL for no data.
func NullBytes(data []byte) driver.Value {
	if len(data) == 0 {
		return nil
	}
	return data
}
