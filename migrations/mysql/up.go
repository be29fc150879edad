package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sojourn-go/sojourn/internal/mysqlconn"
	"github.com/sojourn-go/sojourn/internal/mysqlreach"
	"github.com/sojourn-go/sojourn/internal/sqlmigrate"
	"github.com/sojourn-go/sojourn/internal/wait"
)

// Up brings the database to the newest version: it makes what is missing. Where
// nothing is, it takes no lock. Any number of processes may call it at once,
// and again after one was interrupted. Up tries a server that cannot be reached
// yet again until ctx ends, or for 30 seconds if ctx has no deadline. A wrong
// password or an unknown database fails at once.
//
// A database that a newer program has migrated is left as it is: nil if this
// program can still use it, else ErrIncompatible. Otherwise it fails with an
// error of this package, of the driver or of ctx.
func Up(ctx context.Context, db *sql.DB, cfg Config) error {
	return up(ctx, db, cfg, FS())
}

func up(ctx context.Context, db *sql.DB, cfg Config, fsys fs.FS) error {
	if db == nil {
		return fmt.Errorf("%w: db is nil", ErrInvalid)
	}
	cfg = cfg.withDefaults()
	n, err := cfg.names()
	if err != nil {
		return err
	}
	steps, err := n.steps(fsys, cfg.Settings)
	if err != nil {
		return fmt.Errorf("migrations/mysql: %w", err)
	}
	if err := mysqlreach.Database(ctx, db.PingContext); err != nil {
		return wait.Because(ctx, n.explain("connect", err))
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return wait.Because(ctx, n.explain("connect", err))
	}
	defer discard(conn)
	if err := mysqlconn.SetUp(ctx, conn, "utf8mb4", tableWait); err != nil {
		return wait.Because(ctx, n.explain("set up the connection", err))
	}
	if done, err := n.done(ctx, conn, len(steps)); done || err != nil {
		return wait.Because(ctx, err)
	}
	if err := n.lock(ctx, conn, cfg.LockWait); err != nil {
		return wait.Because(ctx, err)
	}
	return wait.Because(ctx, n.migrate(ctx, conn, steps))
}

// discard closes a connection instead of giving it back to its pool: its
// settings are not the pool's, and it may have a lock.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close()
}

// lockName is the name of the lock under which a table is migrated. Locks
// belong to the whole server and have at most 64 characters.
const lockName = `concat('sojourn_migrate:', left(sha2(concat(database(), '.', ?), 256), 40))`

// tableWait is in seconds. All others have to wait behind a statement that
// waits for a table.
const tableWait = 5

// lock waits until no other process migrates. The lock ends with the
// connection.
func (n names) lock(ctx context.Context, conn *sql.Conn, limit time.Duration) error {
	if _, err := conn.ExecContext(ctx, fmt.Sprint(`SET SESSION lock_wait_timeout = `, tableWait)); err != nil {
		return n.explain("prepare the connection", err)
	}
	began := time.Now()
	for {
		// In short turns: a server may not notice that its client is gone.
		var got sql.NullInt64
		if err := conn.QueryRowContext(ctx, `SELECT get_lock(`+lockName+`, 1)`, n.table).Scan(&got); err != nil {
			return n.explain("take the lock", err)
		}
		if got.Int64 == 1 {
			return nil
		}
		if limit > 0 && time.Since(began) >= limit {
			return n.errorf(ErrLocked, "waited %v for another process that migrates", limit)
		}
	}
}

// done reports whether there is nothing to do for a program that knows version.
func (n names) done(ctx context.Context, db Querier, version int) (bool, error) {
	st, err := n.inspect(ctx, db)
	if err != nil {
		return false, err
	}
	err = st.usable(n, version)
	if errors.Is(err, ErrNotMigrated) || errors.Is(err, ErrOutdated) {
		return false, nil
	}
	return true, err
}

func (n names) migrate(ctx context.Context, conn *sql.Conn, steps []sqlmigrate.Step) error {
	st, err := n.inspect(ctx, conn)
	if err != nil {
		return err
	}
	err = st.usable(n, len(steps))
	if !errors.Is(err, ErrNotMigrated) && !errors.Is(err, ErrOutdated) || st.version > len(steps) {
		return err // somebody else was first, or it is not ours to change
	}
	todo := steps[st.version:]
	if st.locksMissing() > 0 { // the first step makes them, and nothing else where it has been done
		todo = append(steps[:1:1], todo...)
	}
	for _, step := range todo {
		for _, statement := range step.Statements {
			// A statement that an interrupted migration has run need not run
			// again; the inspection at the end sees whether it was that.
			if _, err := conn.ExecContext(ctx, statement); err != nil && !doneAlready(err) {
				return n.explain(fmt.Sprintf("migration %03d %s", step.Version, step.Name), err)
			}
		}
	}
	if done, err := n.done(ctx, conn, len(steps)); err != nil {
		return err
	} else if !done {
		return n.errorf(ErrOutdated, "it is still not as it should be after all migrations to version %d", len(steps))
	}
	return nil
}
