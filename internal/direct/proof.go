package direct

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrElsewhere says that a connection leads to another server or database than
// the pool that it belongs beside.
var ErrElsewhere = errors.New("the connection leads to another database than the pool")

const (
	showSQL = `SELECT pg_catalog.pg_try_advisory_lock($1::bigint)`
	hideSQL = `SELECT pg_catalog.pg_advisory_unlock($1::bigint)`

	// The time is in microseconds since 1970: text of it would depend on settings.
	placeSQL = `
SELECT pg_catalog.current_database(), (pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000)::bigint`

	// seen: such a lock is listed on one server, and counts in one database.
	seenSQL = placeSQL + `,
       EXISTS (SELECT 1
                 FROM pg_catalog.pg_locks AS l
                WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory'
                  AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
                  AND l.classid OPERATOR(pg_catalog.=) ($1::bigint)::pg_catalog.oid
                  AND l.objid OPERATOR(pg_catalog.=) ($2::bigint)::pg_catalog.oid
                  AND l.objsubid OPERATOR(pg_catalog.=) 1
                  AND l.granted
                  AND l.pid OPERATOR(pg_catalog.=) $3::bigint)`
)

// Prove returns nil if c, a connection that is to be proven, leads to the database
// that the pool of its source leads to, [ErrElsewhere] if it does not, and else why that could not be found out. A
// lock with a number that nobody knows is taken here and looked for there: a
// copy of a server has all that identifies it, but not that lock.
func (c *Conn) Prove(ctx context.Context) error { return prove(ctx, c.pool, c.Conn) }

func prove(ctx context.Context, pool *pgxpool.Pool, c *pgx.Conn) error {
	if pool == nil {
		return nil
	}
	number := rand.Uint64()
	var locked bool
	if err := c.QueryRow(ctx, showSQL, pgx.QueryExecModeExec, int64(number)).Scan(&locked); err != nil {
		return err
	}
	if !locked {
		return errors.New("a lock of no meaning is taken")
	}
	var (
		database string
		started  int64
		seen     bool
	)
	// One statement in a transaction of its own: it works through any pooler.
	err := pool.QueryRow(ctx, seenSQL, pgx.QueryExecModeExec, int64(number>>32), int64(uint32(number)), int64(c.PgConn().PID())).
		Scan(&database, &started, &seen)
	if err != nil {
		return fmt.Errorf("ask the pool which database it leads to: %w", err)
	}
	if !seen {
		return elsewhere(ctx, c, database, started)
	}
	_, err = c.Exec(ctx, hideSQL, pgx.QueryExecModeExec, int64(number))
	return err
}

// elsewhere says in what c's place differs from the pool's.
func elsewhere(ctx context.Context, c *pgx.Conn, database string, started int64) error {
	var (
		here  string
		since int64
	)
	if err := c.QueryRow(ctx, placeSQL, pgx.QueryExecModeExec).Scan(&here, &since); err != nil {
		return fmt.Errorf("ask the connection which database it leads to: %w", err) // its lock may have gone with it
	}
	address := fmt.Sprintf("%s, port %d", c.Config().Host, c.Config().Port)
	switch {
	case since != started:
		return fmt.Errorf("%w: another server: the one at %s was started at %v, the pool's at %v",
			ErrElsewhere, address, time.UnixMicro(since).UTC(), time.UnixMicro(started).UTC())
	case here != database:
		return fmt.Errorf("%w: database %q at %s, but %q in the pool", ErrElsewhere, here, address, database)
	}
	return fmt.Errorf("%w: what is locked in database %q at %s is not locked in that of the pool, which looks the same",
		ErrElsewhere, here, address)
}
