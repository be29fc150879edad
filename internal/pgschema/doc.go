// Package pgschema knows the tables of pgstore: what they are called, what all
// nodes agree on in them, and whether a database has them as a program needs them.
// Package migrations makes them, and gives to users what they need of this one.
package pgschema

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// The schema and table of who names none.
const (
	DefaultSchema = "sojourn"
	DefaultTable  = "sessions"
)

// Querier is a pgx connection, pool or transaction, in any mode of execution.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
