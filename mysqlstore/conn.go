package mysqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode"

	"github.com/sojourn-go/sojourn/internal/mysqlconn"
	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/session"
)

// conn is a connection that the store keeps, set up as it needs it whatever
// the caller's settings are, with its prepared statements. It is used by one
// goroutine at a time.
//
// conn talks to the driver itself: a statement that is neither prepared anew
// for each call nor converted twice costs half as much.
type conn struct {
	sql   *sql.Conn
	texts queries
	stmts map[text]*statement
	uses  uint64
	until time.Time // it is replaced then
	idle  time.Time // since then, in the pool

	// instant says that SYSDATE is the time at which it is evaluated, and that
	// it may be part of what is written. A condition in an UPDATE is then
	// tested when the row is locked.
	instant bool
	packet  int64 // max_allowed_packet
	broken  bool

	// begins says that a statement begins a transaction by itself, which the next
	// COMMIT ends. Otherwise it is one.
	begins bool
}

// maxAge is how old a connection gets before it is replaced, as the driver
// advises. The network may forget an old one, and after a failover it leads to
// the wrong server.
const maxAge = 3 * time.Minute

// charsetFor is the character set of connections on which texts run. The server
// does not convert what the store sends. But clients that look at its list of
// statements see them in UTF-8, and MySQL fails all of these if one cannot be
// converted. Any bytes can be converted out of latin1.
func charsetFor(texts queries) string {
	for _, sql := range texts {
		for _, r := range sql {
			if r > unicode.MaxASCII { // the name of a table
				return "utf8mb4"
			}
		}
	}
	return "latin1"
}

// newConn takes a connection out of the pool.
func newConn(ctx context.Context, db *sql.DB, texts queries, charset string) (*conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, notDone{fmt.Errorf("open a connection: %w", err)}
	}
	out, err := adopt(ctx, c, texts, charset)
	if err != nil {
		drop(c)
		return nil, notDone{fmt.Errorf("set up a connection: %w", err)}
	}
	return out, nil
}

// adopt sets up a connection. If that fails, the caller closes the connection.
func adopt(ctx context.Context, c *sql.Conn, texts queries, charset string) (*conn, error) {
	out := &conn{
		sql: c, texts: texts, stmts: map[text]*statement{},
		until: time.Now().Add(maxAge/2 + rand.N(maxAge/2)),
	}
	return out, out.setUp(ctx, charset)
}

func (c *conn) setUp(ctx context.Context, charset string) error {
	if err := mysqlconn.SetUp(ctx, c.sql, charset, lockWaitSeconds); err != nil {
		return err
	}
	var slept, logs bool
	var format string
	err := c.sql.QueryRowContext(ctx, `
SELECT SLEEP(0.001) = 0, SYSDATE(6) > NOW(6), @@max_allowed_packet, @@log_bin, CONVERT(@@binlog_format USING latin1)`).
		Scan(&slept, &c.instant, &c.packet, &logs, &format)
	if err != nil {
		return err
	}
	level := `READ COMMITTED`
	if logs && strings.EqualFold(format, "STATEMENT") {
		// A replica runs the statements again, at another time, and they may not
		// be written at a lower level (binlog_format in the servers' manuals).
		level, c.instant = `REPEATABLE READ`, false
	}
	_, err = c.sql.ExecContext(ctx, `SET SESSION TRANSACTION ISOLATION LEVEL `+level)
	return err
}

// close ends the connection: as it is set up, it is no good to the caller.
func (c *conn) close() { drop(c.sql) }

func drop(c *sql.Conn) {
	_ = c.Raw(func(any) error { return driver.ErrBadConn }) // has the pool drop it
	_ = c.Close()                                           // which says that it is closed
}

// usable reports whether the connection, which was idle, is still there.
func (c *conn) usable(ctx context.Context) bool {
	now := time.Now()
	if c.broken || now.After(c.until) || now.Sub(c.idle) > mysqlconn.IdleTimeout/2 {
		return false
	}
	return c.sql.Raw(func(dc any) error {
		if r, ok := dc.(driver.SessionResetter); ok {
			return r.ResetSession(ctx) // looks whether the server has closed it
		}
		return nil
	}) == nil
}

// outcome is what a statement that returns no rows did.
type outcome struct{ rows, id int64 }

// exec runs a statement. Arguments are of the types of driver.Value.
func (c *conn) exec(ctx context.Context, q text, args ...any) (out outcome, err error) {
	err = c.with(ctx, q, args, func(stmt driver.Stmt, named []driver.NamedValue) error {
		result, err := stmt.(driver.StmtExecContext).ExecContext(ctx, named)
		if err != nil {
			return err
		}
		if out.rows, err = result.RowsAffected(); err != nil {
			return err
		}
		out.id, err = result.LastInsertId()
		return err
	})
	return out, err
}

// query runs a statement and calls each for its rows, until that fails. The
// bytes that it is passed are the driver's.
func (c *conn) query(ctx context.Context, q text, each func([]driver.Value) error, args ...any) error {
	return c.with(ctx, q, args, func(stmt driver.Stmt, named []driver.NamedValue) error {
		rows, err := stmt.(driver.StmtQueryContext).QueryContext(ctx, named)
		if err != nil {
			return err
		}
		return sqlrow.Each(ctx, rows, each)
	})
}

func (c *conn) with(ctx context.Context, q text, args []any, do func(driver.Stmt, []driver.NamedValue) error) error {
	named := make([]driver.NamedValue, len(args))
	bytes := 0
	for i, arg := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
		if b, ok := arg.([]byte); ok {
			bytes += len(b)
		}
	}
	// The server would close the connection.
	if most := c.packet - packetRest/2; int64(bytes) > most {
		return notDone{fmt.Errorf("%w: %d bytes; the server's max_allowed_packet allows %d", session.ErrTooLarge, bytes, most)}
	}
	return c.raw(func(dc any) error {
		stmt, err := c.prepared(ctx, dc, q)
		if err != nil {
			return notDone{err}
		}
		return do(stmt, named)
	})
}

// statement is one that is prepared, and when it was used last.
type statement struct {
	driver.Stmt
	used uint64
}

// maxStatements bounds what a connection has prepared. A server has a limit for
// all connections together, max_prepared_stmt_count: 16,382 by default.
const maxStatements = 32

func (c *conn) prepared(ctx context.Context, dc any, q text) (driver.Stmt, error) {
	c.uses++
	if s := c.stmts[q]; s != nil {
		s.used = c.uses
		return s.Stmt, nil
	}
	if len(c.stmts) == maxStatements {
		oldest := q
		for t, s := range c.stmts {
			if oldest == q || s.used < c.stmts[oldest].used {
				oldest = t
			}
		}
		_ = c.stmts[oldest].Close() // it only tells the server
		delete(c.stmts, oldest)
	}
	stmt, err := dc.(driver.ConnPrepareContext).PrepareContext(ctx, c.texts.of(q))
	if err != nil {
		return nil, err
	}
	c.stmts[q] = &statement{stmt, c.uses}
	return stmt, nil
}

// run runs a statement that has no arguments.
func (c *conn) run(ctx context.Context, sql string) error {
	return c.raw(func(dc any) error {
		_, err := dc.(driver.ExecerContext).ExecContext(ctx, sql, nil)
		return err
	})
}

// raw marks the connection as broken if nobody answered, or a server that is
// about to close it.
func (c *conn) raw(do func(dc any) error) error {
	err := c.sql.Raw(do)
	if err != nil && !isAnswer(err) {
		c.broken = true
	}
	return err
}

// begin has statements begin transactions from now on, or not.
func (c *conn) begin(ctx context.Context, transactions bool) error {
	if c.begins == transactions {
		return nil
	}
	sql := `SET autocommit = 1`
	if transactions {
		sql = `SET autocommit = 0`
	}
	if err := c.run(ctx, sql); err != nil {
		c.broken = true
		return notDone{err}
	}
	c.begins = transactions
	return nil
}

// transaction runs do and COMMIT, on a connection of gate.begin: its first
// statement begins the transaction, which saves a round trip. An error of do is a
// notDone.
func (c *conn) transaction(ctx context.Context, do func() error) error {
	if err := do(); err != nil {
		// A connection that is cut rolls back too.
		if !c.broken && c.run(ctx, `ROLLBACK`) != nil {
			c.broken = true
		}
		return notDone{err}
	}
	return c.run(ctx, `COMMIT`)
}
