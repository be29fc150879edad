package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// newBatch begins a batch with the settings that all of them need.
func newBatch() *pgx.Batch {
	b := &pgx.Batch{}
	b.Queue(batchSettings)
	return b
}

// send runs the statements of b as one transaction in one round trip: without
// a BEGIN, those of a pipeline are one. Results count only when it returns nil.
func send(ctx context.Context, pool *pgxpool.Pool, b *pgx.Batch) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return notDone{err}
	}
	defer conn.Release()
	return conn.SendBatch(ctx, b).Close()
}

// begin runs do in a transaction. do sees the lock timeout of batches.
func begin(ctx context.Context, pool *pgxpool.Pool, do func(pgx.Tx) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return notDone{err}
	}
	defer conn.Release()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return notDone{err}
	}
	_, err = tx.Exec(ctx, batchSettings)
	if err == nil {
		err = do(tx)
	}
	if err != nil {
		// A rollback that fails closes the connection, which rolls back too.
		_ = tx.Rollback(context.WithoutCancel(ctx))
		return notDone{err}
	}
	return tx.Commit(ctx)
}

// settle runs a transaction until its outcome is known: it is repeated when
// others made it fail, and when its answer was lost, unless landed finds that
// it happened.
func (s *Store) settle(ctx context.Context, attempt func(context.Context) error, landed func(context.Context) (bool, error)) error {
	lost := false
	for try := 1; ; try++ {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		f := fateOf(err)
		lost = lost || f == fateOpen
		if lost {
			if yes, askErr := landed(ctx); askErr == nil {
				if yes {
					return nil
				}
				if f != fateOpen {
					return err // this attempt came after the lost one, and failed
				}
			}
		}
		again := lost || f == fateConflict || f == fateLocked && try < lockTries
		if again && pause(ctx, try) {
			s.stats.retries.Add(1)
			continue
		}
		if lost {
			s.stats.unknown.Add(1)
			return unknown(err)
		}
		return err
	}
}
