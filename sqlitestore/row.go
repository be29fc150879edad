package sqlitestore

import (
	"database/sql/driver"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
)

func scanner(v []driver.Value) sqlrow.Scanner { return sqlrow.Scanner{Values: v, Damaged: ErrDamaged} }

// rowOf reads the columns of a session, which is looked at at the time now, and, as
// far as they are there, the id and the key.
func rowOf(v []driver.Value, now time.Time) (*sqlrow.Row, error) {
	s := scanner(v)
	r := s.Row()
	r.Now = now
	if s.More() {
		r.ID = s.Number()
	}
	if s.More() {
		r.Rec.Key.Hash = s.Hash()
	}
	return r, s.Err
}

// nullText is NULL for the empty text.
func nullText(text string) driver.Value {
	if text == "" {
		return nil
	}
	return text
}
