package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
)

// conn is a connection that the store keeps, with its prepared statements. It
// is used by one goroutine at a time.
//
// It talks to the driver itself: database/sql would take as long for the
// conversions of a row as SQLite does to find it.
type conn struct {
	sql   *sql.Conn
	texts *queries
	stmts [queryCount]driver.Stmt
	was   map[string]int64 // settings of the caller's
	now   func() time.Time // by which a reader tells who is live
}

// settings of the store's own connections. They do not wait for locks in
// SQLite: the store does, and heeds contexts.
func (s Synchronous) settings() map[string]int64 {
	synchronous := map[Synchronous]int64{SynchronousFull: 2, SynchronousNormal: 1}[s]
	return map[string]int64{"busy_timeout": 0, "synchronous": synchronous}
}

// newConn takes a connection out of the pool.
func newConn(ctx context.Context, db *sql.DB, texts *queries, opts Options) (c *conn, err error) {
	err = retry(ctx, opts.WriteTimeout, func() error {
		c, err = tryConn(ctx, db, texts, opts.Synchronous.settings())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a connection: %w", err)
	}
	return c, nil
}

func tryConn(ctx context.Context, db *sql.DB, texts *queries, settings map[string]int64) (*conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	out := &conn{sql: c, texts: texts, was: map[string]int64{}}
	for name, value := range settings {
		var was int64
		err := c.QueryRowContext(ctx, `PRAGMA `+name).Scan(&was)
		if err == nil {
			out.was[name] = was
			_, err = c.ExecContext(ctx, fmt.Sprintf(`PRAGMA %s = %d`, name, value))
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("set %s: %w", name, err), out.close(ctx))
		}
	}
	return out, nil
}

// close gives the connection back to the pool as it was.
func (c *conn) close(ctx context.Context) error {
	var errs []error
	for _, stmt := range c.stmts {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	for name, value := range c.was {
		_, err := c.sql.ExecContext(ctx, fmt.Sprintf(`PRAGMA %s = %d`, name, value))
		errs = append(errs, err)
	}
	return errors.Join(append(errs, c.sql.Close())...)
}

// exec runs a statement and returns how many rows it changed. Arguments are of
// the types of driver.Value.
func (c *conn) exec(q query, args ...any) (changed int64, err error) {
	err = c.with(q, args, func(stmt driver.Stmt, named []driver.NamedValue) error {
		result, err := stmt.(driver.StmtExecContext).ExecContext(context.Background(), named)
		if err != nil {
			return err
		}
		changed, err = result.RowsAffected()
		return err
	})
	return changed, err
}

// query runs a statement and calls each for its rows, until that fails. each
// may keep the values that it is passed. query ends with ctx; a ctx that cannot
// end is faster.
func (c *conn) query(ctx context.Context, q query, each func([]driver.Value) error, args ...any) error {
	return c.with(q, args, func(stmt driver.Stmt, named []driver.NamedValue) error {
		rows, err := stmt.(driver.StmtQueryContext).QueryContext(ctx, named)
		if err != nil {
			return err
		}
		return sqlrow.Each(ctx, rows, each)
	})
}

func (c *conn) with(q query, args []any, do func(driver.Stmt, []driver.NamedValue) error) error {
	return c.sql.Raw(func(dc any) error {
		if c.stmts[q] == nil {
			stmt, err := dc.(driver.ConnPrepareContext).PrepareContext(context.Background(), c.texts[q])
			if err != nil {
				return err
			}
			c.stmts[q] = stmt
		}
		named := make([]driver.NamedValue, len(args))
		for i, arg := range args {
			named[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
		}
		return do(c.stmts[q], named)
	})
}
