package db

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sojourn-go/sojourn/internal/storekit"
)

// notDone marks an error after which nothing can have been committed.
type notDone struct {
	error
	cut bool // the connection was lost before the end of the transaction
}

func (e notDone) Unwrap() error { return e.error }

// NotDone is err, after which nothing can have been committed.
func NotDone(err error) error { return notDone{error: err} }

// committed marks an error after which the write is committed but may not
// survive a crash of the server.
type committed struct{ error }

func (e committed) Unwrap() error { return e.error }

// lostConn marks an error after which the connection is gone.
type lostConn struct{ error }

func (e lostConn) Unwrap() error { return e.error }

func isLost(err error) bool {
	_, lost := errors.AsType[lostConn](err)
	return lost
}

// Outcome is what an error says about the transaction that failed with it.
type Outcome int

const (
	TxFailed      Outcome = iota // rolled back, and repeating it would not help
	TxOpen                       // the answer was lost: it may have been committed
	TxConflict                   // rolled back because of others, or cut off: repeat it
	TxLocked                     // rolled back: a row or lock stayed taken
	TxItem                       // rolled back because of one of its items
	TxPartition                  // rolled back: a partition is gone or not ours to use
	TxNoPartition                // rolled back: no partition takes this bucket
)

// OutcomeOf reads the SQLSTATE (PostgreSQL manual, Appendix A).
func OutcomeOf(err error) Outcome {
	if _, done := errors.AsType[committed](err); done {
		return TxOpen
	}
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.SeverityUnlocalized != "ERROR" {
		// FATAL ends the connection, possibly after the commit.
		// pgx says ErrConnClosed also of a connection that was lost while a
		// COMMIT was under way, and calls that safe to retry.
		nothing, before := errors.AsType[notDone](err)
		if nothing.cut {
			return TxConflict
		}
		// These end a connection that had nothing to do: idle_in_transaction_session_timeout
		// and idle_session_timeout.
		if pgErr != nil && (pgErr.Code == "25P03" || pgErr.Code == "57P05") {
			return TxConflict
		}
		if before || pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed) {
			return TxFailed
		}
		return TxOpen
	}
	switch pgErr.Code {
	case "40001", "40P01", "57014": // serialization_failure, deadlock_detected, query_canceled
		return TxConflict
	case "55P03": // lock_not_available
		return TxLocked
	case "23514": // check_violation, without a constraint: partition routing
		if pgErr.ConstraintName == "" {
			return TxNoPartition
		}
	}
	switch pgErr.Code[:2] {
	case "22", "23", "54", "P0": // data, integrity, limits, raised by a trigger
		return TxItem
	case "42": // undefined_table, insufficient_privilege; or something else has the partition's name
		return TxPartition
	}
	return TxFailed
}

// IsRefusal reports whether err is an answer of the database that says no,
// rather than a failure.
func IsRefusal(err error) bool {
	return storekit.IsRefusal(err) || IsCode(err, "23505") // unique_violation
}

// IsCode reports whether the server has failed a statement with that SQLSTATE.
func IsCode(err error, code string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == code
}
