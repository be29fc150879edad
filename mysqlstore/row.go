package mysqlstore

import (
	"database/sql/driver"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
)

func scanner(v []driver.Value) sqlrow.Scanner {
	return sqlrow.Scanner{Values: v, Damaged: ErrDamaged, Copies: true}
}

// rowOf reads the columns of a session, the time and, as far as they are there, the
// hash and the id.
func rowOf(v []driver.Value) (*sqlrow.Row, error) {
	s := scanner(v)
	r := s.Row()
	r.Now = s.Time()
	if s.More() {
		r.Rec.Key.Hash = s.Hash()
	}
	if s.More() {
		r.ID = s.Number()
	}
	return r, s.Err
}

// nullText is NULL for the empty text.
func nullText(text string) driver.Value {
	if text == "" {
		return nil
	}
	return []byte(text)
}
