package nodestore

import (
	"context"
	"database/sql"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// conn is what a statement runs on: a pool or a transaction.
type conn interface {
	ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

// prepared is a statement as a conn. The text is the statement's own.
type prepared struct{ *sql.Stmt }

func (p prepared) ExecContext(ctx context.Context, _ string, args ...any) (sql.Result, error) {
	return p.Stmt.ExecContext(ctx, args...)
}

func (p prepared) QueryContext(ctx context.Context, _ string, args ...any) (*sql.Rows, error) {
	return p.Stmt.QueryContext(ctx, args...)
}

// on is what q runs on, in a transaction unless tx is nil.
func (s *Store) on(ctx context.Context, tx *sql.Tx, q *query) conn {
	switch {
	case q.stmt != nil && tx != nil:
		return prepared{tx.StmtContext(ctx, q.stmt)}
	case q.stmt != nil:
		return prepared{q.stmt}
	case tx != nil:
		return tx
	}
	return s.db
}

func (s *Store) rows(ctx context.Context, tx *sql.Tx, q *query, v values) (*sql.Rows, error) {
	s.using.RLock()
	defer s.using.RUnlock()
	if s.released {
		return nil, session.ErrClosed
	}
	return s.on(ctx, tx, q).QueryContext(ctx, q.text, q.bind(v)...)
}

// query calls visit for each row of a page, anew from the first when others made
// it fail: begin is called before.
func (s *Store) query(ctx context.Context, q *query, v values, begin func(), visit func(*sql.Rows) error) error {
	return before(s.retry(ctx, func() error {
		begin()
		return s.each(ctx, nil, q, v, visit)
	}))
}

// each is query, once and maybe in a transaction.
func (s *Store) each(ctx context.Context, tx *sql.Tx, q *query, v values, visit func(*sql.Rows) error) error {
	rows, err := s.rows(ctx, tx, q, v)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // Err tells
	for rows.Next() {
		if err := visit(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// exec runs a write that returns nothing and tells how many rows it was about;
// see dialect.countsChanges.
func (s *Store) exec(ctx context.Context, tx *sql.Tx, q *query, v values) (int64, error) {
	s.using.RLock()
	defer s.using.RUnlock()
	if s.released {
		return 0, session.ErrClosed
	}
	result, err := s.on(ctx, tx, q).ExecContext(ctx, q.text, q.bind(v)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// write runs a write of a document. data is as it is stored then.
func (s *Store) write(ctx context.Context, tx *sql.Tx, q *query, v values) (n int64, data []byte, err error) {
	if !s.dialect.returns {
		n, err = s.exec(ctx, tx, q, v)
		return n, []byte(v["data"].(string)), err
	}
	err = s.each(ctx, tx, q, v, func(rows *sql.Rows) error {
		n++
		return rows.Scan(&data)
	})
	return n, data, err
}

// tries is how often a statement is sent that fails because of others.
const tries = 10

// retry repeats a statement that others made fail.
func (s *Store) retry(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || !isConflict(err) || try == tries || !storekit.Backoff().Pause(ctx, try) {
			return err
		}
	}
}
