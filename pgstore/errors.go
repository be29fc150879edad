package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sojourn-go/sojourn/internal/storekit"
)

// wrap names the operation. It returns nil for nil.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	// duplicate_prepared_statement, invalid_sql_statement_name
	if isCode(err, "42P05") || isCode(err, "26000") {
		return fmt.Errorf("pgstore: %s: the pool's connections share or lose prepared statements, as behind a pooler "+
			"that does not know them (PgBouncer before 1.21, or max_prepared_statements = 0): set the pool's "+
			"ConnConfig.DefaultQueryExecMode to pgx.QueryExecModeCacheDescribe or QueryExecModeExec: %w", op, err)
	}
	return fmt.Errorf("pgstore: %s: %w", op, err)
}

// notDone marks an error after which nothing can have been committed.
type notDone struct {
	error
	cut bool // the connection was lost before the end of the transaction
}

func (e notDone) Unwrap() error { return e.error }

// committed marks an error after which the write is committed but may not
// survive a crash of the server.
type committed struct{ error }

func (e committed) Unwrap() error { return e.error }

// txOutcome is what an error says about the transaction that failed with it.
type txOutcome int

const (
	txFailed      txOutcome = iota // rolled back, and repeating it would not help
	txOpen                         // the answer was lost: it may have been committed
	txConflict                     // rolled back because of others, or cut off: repeat it
	txLocked                       // rolled back: a row or lock stayed taken
	txItem                         // rolled back because of one of its items
	txPartition                    // rolled back: a partition is gone or not ours to use
	txNoPartition                  // rolled back: no partition takes this bucket
)

// outcomeOf reads the SQLSTATE (PostgreSQL manual, Appendix A).
func outcomeOf(err error) txOutcome {
	if _, done := errors.AsType[committed](err); done {
		return txOpen
	}
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.SeverityUnlocalized != "ERROR" {
		// FATAL ends the connection, possibly after the commit.
		// pgx says ErrConnClosed also of a connection that was lost while a
		// COMMIT was under way, and calls that safe to retry.
		nothing, before := errors.AsType[notDone](err)
		if nothing.cut {
			return txConflict
		}
		// These end a connection that had nothing to do: idle_in_transaction_session_timeout
		// and idle_session_timeout.
		if pgErr != nil && (pgErr.Code == "25P03" || pgErr.Code == "57P05") {
			return txConflict
		}
		if before || pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed) {
			return txFailed
		}
		return txOpen
	}
	switch pgErr.Code {
	case "40001", "40P01", "57014": // serialization_failure, deadlock_detected, query_canceled
		return txConflict
	case "55P03": // lock_not_available
		return txLocked
	case "23514": // check_violation, without a constraint: partition routing
		if pgErr.ConstraintName == "" {
			return txNoPartition
		}
	}
	switch pgErr.Code[:2] {
	case "22", "23", "54", "P0": // data, integrity, limits, raised by a trigger
		return txItem
	case "42": // undefined_table, insufficient_privilege; or something else has the partition's name
		return txPartition
	}
	return txFailed
}

// outcomeOpen is the error of a write whose answer was lost, and of which
// asking again, which ended with err, did not tell the outcome.
func (s *Store) outcomeOpen(ctx context.Context, lost, err error) error {
	s.stats.unknown.Add(1)
	if isRefusal(err) {
		err = nil
	}
	return storekit.StillUnknown(ctx, lost, err)
}

// isRefusal reports whether err is an answer of the database that says no,
// rather than a failure.
func isRefusal(err error) bool {
	return storekit.IsRefusal(err) || isCode(err, "23505") // unique_violation
}

func isCode(err error, code string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == code
}
