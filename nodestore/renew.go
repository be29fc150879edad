package nodestore

import (
	"context"
	"database/sql"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Renew gives a session that was read a new ID and a new document, at a login
// for example, and removes the old row in the same transaction. It fails like
// Save and like Create, with session.ErrExists also when id is the old one; then
// nothing has changed.
func (s *Store) Renew(ctx context.Context, read Entry, id string, data []byte, expires time.Time) (Entry, error) {
	start := time.Now()
	e, err := s.renew(ctx, read, id, data, expires)
	return e, s.done("renew", start, written(ctx, err), read.ID, id)
}

func (s *Store) renew(ctx context.Context, read Entry, id string, data []byte, expires time.Time) (Entry, error) {
	w, err := s.prepare(ctx, id, data, expires, s.clock())
	if err != nil {
		return Entry{}, err
	}
	old, err := s.key(read.ID)
	switch {
	case err != nil:
		return Entry{}, session.ErrNotFound
	case old == w.key:
		return Entry{}, session.ErrExists
	case w.ends:
		return Entry{}, errPast
	}
	var e Entry
	for try := 1; ; try++ {
		moved := false
		err := s.retry(ctx, func() error {
			return s.transaction(ctx, func(tx *sql.Tx) error {
				n, err := s.exec(ctx, tx, s.q.end, values{
					"id": old, "old": string(read.Data), "now": s.bindNow(s.clock()),
				})
				if moved = n > 0; err != nil || !moved {
					return err
				}
				e, err = s.insert(ctx, tx, w)
				return err
			})
		})
		if err != nil {
			return Entry{}, err
		}
		if moved {
			return e, nil
		}
		if _, err := s.why(ctx, read); err != nil {
			return Entry{}, err
		}
		if try == tries {
			return Entry{}, session.ErrConflict
		}
	}
}

// transaction commits what f does, unless f fails.
func (s *Store) transaction(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return before(err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // where that fails, the end of the connection does it
		return before(err)
	}
	return tx.Commit()
}
