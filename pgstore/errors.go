package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// wrap names the operation. It returns nil for nil.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	// duplicate_prepared_statement, invalid_sql_statement_name
	if db.IsCode(err, "42P05") || db.IsCode(err, "26000") {
		return fmt.Errorf("pgstore: %s: the pool's connections share or lose prepared statements, as behind a pooler "+
			"that does not know them (PgBouncer before 1.21, or max_prepared_statements = 0): set the pool's "+
			"ConnConfig.DefaultQueryExecMode to pgx.QueryExecModeCacheDescribe or QueryExecModeExec: %w", op, err)
	}
	return fmt.Errorf("pgstore: %s: %w", op, err)
}

// correct has the facts read anew if err says that a time was out of range.
// Then a caller that computed the time by this node's clock can do so by the
// right one.
func (s *Store) correct(ctx context.Context, err error) error {
	if errors.Is(err, session.ErrDeadline) {
		_, _ = s.table.Refresh(ctx) // failing that, it is still out of range
	}
	return err
}
