package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/sojourn-go/sojourn/internal/storekit"
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

// outcomeOpen is the error of a write whose answer was lost, and of which
// asking again, which ended with err, did not tell the outcome.
func (s *Store) outcomeOpen(ctx context.Context, lost, err error) error {
	s.stats.unknown.Add(1)
	if db.IsRefusal(err) {
		err = nil
	}
	return storekit.StillUnknown(ctx, lost, err)
}

// errLags says that this node's clock is wrong. If the right clock counted, the
// write would end the session, which nobody has asked for.
var errLags = fmt.Errorf("%w: Record.Expires has passed, which it had not by this node's clock", session.ErrDeadline)

// correct has the facts read anew if err says that a time was out of range.
// Then a caller that computed the time by this node's clock can do so by the
// right one.
func (s *Store) correct(ctx context.Context, err error) error {
	if errors.Is(err, session.ErrDeadline) {
		_, _ = s.table.Refresh(ctx) // failing that, it is still out of range
	}
	return err
}
