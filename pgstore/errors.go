package pgstore

import (
	"context"
	"fmt"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
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
