package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlitecode"
	"github.com/sojourn-go/sojourn/internal/sqlmigrate"
	"github.com/sojourn-go/sojourn/internal/wait"
)

// Up brings the database to the newest version: it makes what is missing. Where
// nothing is, it takes no lock. Any number of processes may call it at once.
//
// A database that a newer program has migrated is left as it is: nil if this
// program can still use it, else ErrIncompatible. Otherwise it fails with an
// error of this package, of the driver or of ctx, and has changed nothing.
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
		return fmt.Errorf("migrations/sqlite: %w", err)
	}
	if cfg.LockWait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cfg.LockWait, fmt.Errorf("%w for %v: %w", ErrLocked, cfg.LockWait, context.DeadlineExceeded))
		defer cancel()
	}
	var busy error // of the last attempt that found the lock taken
	for try := 1; ; try++ {
		err := n.attempt(ctx, db, steps)
		if code := sqlitecode.Of(err); code != sqlitecode.Busy && code != sqlitecode.Locked {
			if busy != nil && errors.Is(err, context.DeadlineExceeded) {
				err = busy // the limit cut an attempt short: that says less
			}
			return wait.Because(ctx, err)
		}
		busy = err
		if !wait.Sleep(ctx, rand.N(time.Duration(min(try, 20))*5*time.Millisecond)) {
			return wait.Because(ctx, err)
		}
	}
}

func (n names) attempt(ctx context.Context, db *sql.DB, steps []sqlmigrate.Step) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return n.explain("connect", err)
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	if done, err := n.done(ctx, conn, len(steps)); done || err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
		return n.explain("begin", err)
	}
	err = n.migrate(ctx, conn, steps)
	if err == nil {
		_, err = conn.ExecContext(ctx, `COMMIT`)
		if err == nil {
			return nil
		}
		err = n.explain("commit", err)
	}
	// The context may have ended. There is nothing to roll back when SQLite did
	// so by itself.
	_, _ = conn.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`)
	return err
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
	if err := st.usable(n, len(steps)); !errors.Is(err, ErrNotMigrated) && !errors.Is(err, ErrOutdated) {
		return err // somebody else was first, or it is not ours
	}
	for _, step := range steps[st.version:] {
		for _, statement := range step.Statements {
			if _, err := conn.ExecContext(ctx, statement); err != nil {
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
