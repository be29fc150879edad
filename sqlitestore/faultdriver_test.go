package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"
	"testing"

	"modernc.org/sqlite"
)

// commitFault makes commits fail as on a disk with faults.
type commitFault struct {
	mu     sync.Mutex
	before int // how many fail without being done
	after  int // how many fail although they are done
}

func (f *commitFault) set(before, after int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func (f *commitFault) next() (before, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.before > 0:
		f.before--
		return true, false
	case f.after > 0:
		f.after--
		return false, true
	}
	return false, false
}

// diskError is SQLITE_IOERR_FSYNC as the driver reports it.
type diskError struct{}

func (diskError) Error() string { return "disk I/O error (1034)" }
func (diskError) Code() int     { return 10 | 4<<8 }

// faultyDB is a pool whose commits the fault decides about.
func faultyDB(t testing.TB, path string, f *commitFault) *sql.DB {
	t.Helper()
	db := sql.OpenDB(&faultyConnector{dsn: DSN(path), fault: f})
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

type faultyConnector struct {
	dsn   string
	fault *commitFault
}

func (c *faultyConnector) Driver() driver.Driver { return &sqlite.Driver{} }

func (c *faultyConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.Driver().Open(c.dsn)
	if err != nil {
		return nil, err
	}
	return &faultyConn{Conn: conn, fault: c.fault}, nil
}

type faultyConn struct {
	driver.Conn
	fault *commitFault
}

func (c *faultyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil || query != "COMMIT" {
		return stmt, err
	}
	return &faultyCommit{Stmt: stmt, fault: c.fault}, nil
}

func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

type faultyCommit struct {
	driver.Stmt
	fault *commitFault
}

func (s *faultyCommit) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	before, after := s.fault.next()
	if before {
		return nil, diskError{}
	}
	result, err := s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
	if after && err == nil {
		return nil, diskError{}
	}
	return result, err
}
