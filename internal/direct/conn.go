package direct

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/pooled"
)

// TakesWrites is the expression for whether the server takes writes now.
// It does not depend on the search_path.
const TakesWrites = `(pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'off' AND NOT pg_catalog.pg_is_in_recovery())`

const (
	identifySQL = `SELECT pg_catalog.pg_backend_pid(), ` + TakesWrites

	// unlimit: no timeout of the role, the database or a connect hook may end the
	// session, but ours may for one that is silent. It sets those that this server
	// knows.
	unlimitSQL = `
SELECT pg_catalog.count(pg_catalog.set_config(s.name, CASE WHEN s.name LIKE 'idle%' THEN $1::text ELSE '0' END, false))
  FROM pg_catalog.pg_settings AS s
 WHERE s.name OPERATOR(pg_catalog.=) ANY (ARRAY['statement_timeout', 'lock_timeout', 'transaction_timeout',
                  'idle_in_transaction_session_timeout', 'idle_session_timeout'])`

	renameSQL = `SELECT pg_catalog.set_config('application_name', $1, false)`
)

// Conn is a connection of its own. Its statements run in one round trip without
// being prepared: that works through any pooler, so that a pooler is found out,
// and leaves nothing behind for others to trip over.
type Conn struct {
	*pgx.Conn
	wire net.Conn
	name string
	pool *pgxpool.Pool // that has to lead to the same database, or nil
}

// prepare makes sure of who is at the other end before anything is set there.
func (c *Conn) prepare(ctx context.Context, after func(context.Context, *pgx.Conn) error, silence time.Duration) error {
	var (
		pid    int64
		writes bool
	)
	if err := c.QueryRow(ctx, identifySQL, pgx.QueryExecModeExec).Scan(&pid, &writes); err != nil {
		return err
	}
	if err := c.Check(pid, writes); err != nil {
		return err
	}
	if after != nil {
		if err := after(ctx, c.Conn); err != nil {
			return fmt.Errorf("after connect: %w", err)
		}
	}
	if _, err := c.Exec(ctx, unlimitSQL, pgx.QueryExecModeExec, millis(silence)); err != nil {
		return err
	}
	return c.Prove(ctx)
}

// Check judges the server process that has answered, from its pg_backend_pid and
// [TakesWrites].
func (c *Conn) Check(pid int64, writes bool) error {
	if pid != int64(c.PgConn().PID()) {
		return fmt.Errorf("%w (server process %d answers for %d)", pooled.Err, pid, c.PgConn().PID())
	}
	if !writes {
		return errors.New("the server takes no writes: it is a standby or set to read-only")
	}
	return nil
}

// Rename puts role behind the connection's name in pg_stat_activity.
func (c *Conn) Rename(ctx context.Context, role string) error {
	_, err := c.Exec(ctx, renameSQL, pgx.QueryExecModeExec, applicationName(c.name, role))
	return err
}

// Close ends the connection in good order, for no longer than ctx, and breaks it
// then. Nothing is left of it when Close returns. It may be called again, and
// after Cut.
func (c *Conn) Close(ctx context.Context) error {
	err := c.Conn.Close(ctx)
	// A connection that broke in a statement is cleaned up in the background.
	cleaned := c.PgConn().CleanupDone()
	select {
	case <-cleaned:
		return err
	case <-ctx.Done():
	}
	c.wire.Close()
	select {
	case <-cleaned:
	case <-time.After(cancelTimeout): // all that can still be under way
	}
	return cmp.Or(err, context.Cause(ctx))
}

// Cut breaks the connection under whoever is using it. It may be called at any
// time from any goroutine. pgx finds the connection broken and, unless
// NoCancel is set, asks the server to stop the statement.
func (c *Conn) Cut() { c.wire.Close() }
