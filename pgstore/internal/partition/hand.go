package partition

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
)

// hand is the connection that a pass of maintenance works with. A connection to
// a server process of its own keeps locks from one transaction to the next. A
// connection through a transaction pooler has locks for one transaction only,
// so passes of two nodes may take turns step by step. Each step looks for
// itself what is left to do.
type hand struct {
	p      *Pruning
	conn   *pgx.Conn
	pooled bool
}

// How long a statement of maintenance waits for a lock. It gives up soon, and
// the next pass tries again, because sessions queue behind whatever it waits
// for.
const (
	lockBriefly = "200ms"
	// Detaching concurrently makes nobody wait, and cutting it short leaves
	// work for the next pass.
	lockPatiently = "10s"
)

// silentFor is how long this node may be silent in the middle of its work
// before the server takes the locks away from it: it is frozen or cut off.
const silentFor = "5s"

// withoutDetachConcurrently says what a hand behind a pooler cannot do.
const withoutDetachConcurrently = "the pool goes through a pooler and Options.DirectDSN is empty: " +
	"retiring a partition locks the table for a moment, since DETACH CONCURRENTLY cannot be part of a transaction"

// begin waits for a pass that is under way elsewhere. begin asks again and
// again, since a session that waits in the server holds up detaching.
func (h hand) begin(ctx context.Context) error {
	if h.pooled {
		return nil
	}
	if _, err := h.conn.Exec(ctx, pinSession); err != nil {
		return err
	}
	return h.lock(ctx, h.passKey())
}

func (h hand) end(ctx context.Context) {
	if !h.pooled {
		h.unlock(ctx, h.passKey())
	}
}

func (h hand) passKey() int64 { return h.p.opts.LockKey("prune") }

// lock takes a lock of the session.
func (h hand) lock(ctx context.Context, key int64) error {
	for {
		var got bool
		if err := h.conn.QueryRow(ctx, `SELECT pg_catalog.pg_try_advisory_lock($1)`, key).Scan(&got); err != nil || got {
			return err
		}
		if !h.comeBack(ctx) {
			return wait.Ended(ctx)
		}
	}
}

// comeBack waits before a lock is asked for again.
func (h hand) comeBack(ctx context.Context) bool {
	return wait.Sleep(ctx, 50*time.Millisecond+rand.N(100*time.Millisecond))
}

// unlock gives a lock of the session back. If that fails the connection is no
// good, and its end gives back everything.
func (h hand) unlock(ctx context.Context, key int64) {
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := h.conn.Exec(bye, `SELECT pg_catalog.pg_advisory_unlock($1)`, key); err != nil {
		_ = h.conn.Close(bye)
	}
}

// errTaken says that another node has a lock of maintenance.
var errTaken = errors.New("another node maintains the partitions")

// transact runs do in a transaction that has the lock of passes. With ddl it
// also has the lock for making partitions. transact waits for these locks
// outside of the transaction, and repeats what fails for a lock on a table or a
// conflict.
func (h hand) transact(ctx context.Context, lockTimeout string, ddl bool, do func(pgx.Tx) error) error {
	for try := 1; ; {
		err := h.attempt(ctx, lockTimeout, ddl, do)
		again := false
		switch db.OutcomeOf(err) {
		case db.TxLocked, db.TxConflict:
			again = err != nil && try < lockTries && storekit.Backoff().Pause(ctx, 4+try)
			try++
		default:
			again = errors.Is(err, errTaken) && h.comeBack(ctx)
		}
		switch {
		case again:
		case errors.Is(err, errTaken):
			return wait.Ended(ctx)
		default:
			return err
		}
	}
}

func (h hand) attempt(ctx context.Context, lockTimeout string, ddl bool, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, h.conn, pgx.TxOptions{BeginQuery: db.BeginSQL}, func(tx pgx.Tx) error {
		var got bool
		err := tx.QueryRow(ctx, startMaintaining, lockTimeout, silentFor, h.passKey(), h.p.table.opts.Names.DDLKey, ddl).Scan(nil, nil, nil, nil, nil, &got)
		switch {
		case err != nil:
			return err
		case !got:
			return errTaken
		}
		return do(tx)
	})
}

const startMaintaining = `
SELECT pg_catalog.set_config('lock_timeout', $1, true),
       pg_catalog.set_config('idle_in_transaction_session_timeout', $2, true),
       pg_catalog.set_config('statement_timeout', '0', true),` + db.Pins + `,
       CASE WHEN pg_catalog.pg_try_advisory_xact_lock($3::bigint)
         THEN CASE WHEN $5::boolean THEN pg_catalog.pg_try_advisory_xact_lock($4::bigint) ELSE true END
         ELSE false END`

// exec runs one statement as transact does.
func (h hand) exec(ctx context.Context, lockTimeout string, ddl bool, sql string, args ...any) (rows int64, err error) {
	err = h.transact(ctx, lockTimeout, ddl, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, args...)
		rows = tag.RowsAffected()
		return err
	})
	return rows, err
}

// detach makes a partition a table of its own. In a session it waits for
// statements that use the partition, without making anybody wait. In a
// transaction the table is locked, for as long as nobody else holds it up.
func (h hand) detach(ctx context.Context, table string) error {
	sql := `ALTER TABLE ` + h.p.table.opts.Names.Sessions + ` DETACH PARTITION ` + table
	if h.pooled {
		_, err := h.exec(ctx, lockBriefly, true, sql)
		return err
	}
	if err := h.lock(ctx, h.p.table.opts.Names.DDLKey); err != nil {
		return err
	}
	defer h.unlock(ctx, h.p.table.opts.Names.DDLKey)
	if _, err := h.conn.Exec(ctx, `SELECT pg_catalog.set_config('lock_timeout', $1, false)`, lockPatiently); err != nil {
		return err
	}
	_, err := h.conn.Exec(ctx, sql+` CONCURRENTLY`)
	return err
}

// ownHand opens a connection for one pass by PruneNow.
func (p *Pruning) ownHand(ctx context.Context) (h hand, done func(), err error) {
	locker, err := p.opts.Locker("prune")
	if err != nil {
		return hand{}, nil, err
	}
	sess, err := locker.Open(ctx, leader.MinSilence)
	for tries := 1; tries < 3 && err != nil && db.OutcomeOf(err) == db.TxConflict; tries++ { // it was idle while the pool was busy
		sess, err = locker.Open(ctx, leader.MinSilence)
	}
	if err != nil {
		return hand{}, nil, err
	}
	bye := func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := sess.Close(bye); err != nil {
			p.table.opts.Failed("close the connection of PruneNow", err)
		}
	}
	// The server takes the locks away if this node is frozen.
	if _, err := sess.Conn().Exec(ctx, `SELECT pg_catalog.set_config('idle_session_timeout', $1, false)`, silentFor); err != nil {
		bye()
		return hand{}, nil, err
	}
	return hand{p: p, conn: sess.Conn()}, bye, nil
}

// pooledHand opens a connection through the pooler. Sessions do not use this
// connection, because maintenance waits for locks.
func (p *Pruning) pooledHand(ctx context.Context) (h hand, done func(), err error) {
	pool, err := db.OwnPool(ctx, p.table.opts.Conns.App, 1)
	if err != nil {
		return hand{}, nil, err
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		pool.Close()
		return hand{}, nil, fmt.Errorf("connect: %w", err)
	}
	return hand{p: p, conn: conn.Conn(), pooled: true}, func() {
		conn.Release()
		pool.Close()
	}, nil
}
