package migrations

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/internal/reach"
)

// connect opens the connection that Up does everything on. It is closed in any
// case: that is what gives the locks back, whatever went wrong.
func connect(ctx context.Context, source *direct.Source, cfg Config) (*pgx.Conn, error) {
	settings := map[string]string{
		"application_name":                    "sojourn migrations",
		"search_path":                         pgx.Identifier{cfg.Schema}.Sanitize(),
		"lock_timeout":                        millis(cfg.LockTimeout),
		"statement_timeout":                   millis(cfg.StatementTimeout),
		"idle_in_transaction_session_timeout": "0",
		"default_transaction_isolation":       "read committed",
	}
	var conn *pgx.Conn
	err := reach.Database(ctx, func(ctx context.Context) error {
		c, err := source.Config(ctx)
		if err != nil {
			return err
		}
		if c.RuntimeParams == nil {
			c.RuntimeParams = map[string]string{}
		}
		// Given at the start they also survive tern's RESET ALL.
		maps.Copy(c.RuntimeParams, settings)
		// Nothing is prepared, so nothing prepared can be outdated by a change.
		c.DefaultQueryExecMode = pgx.QueryExecModeExec
		conn, err = pgx.ConnectConfig(ctx, c)
		return err
	})
	if err != nil {
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && strings.Contains(pgErr.Message, "startup parameter") {
			return nil, fmt.Errorf("%w: %w", ErrNotDirect, err)
		}
		return nil, fmt.Errorf("migrations: connect: %w", err)
	}
	if err := checkServer(ctx, conn); err != nil {
		closeConn(ctx, conn)
		return nil, err
	}
	if err := prepare(ctx, conn, source, settings); err != nil {
		closeConn(ctx, conn)
		return nil, fmt.Errorf("migrations: connect: %w", err)
	}
	return conn, nil
}

// prepare runs the hook of a pool, which may change the role. Then it makes
// sure that the settings are ours and that the pool leads to the same database.
func prepare(ctx context.Context, conn *pgx.Conn, source *direct.Source, settings map[string]string) error {
	hooked, err := source.After(ctx, conn)
	if err != nil || !hooked {
		return err
	}
	for name, value := range settings {
		if _, err := conn.Exec(ctx, `SELECT pg_catalog.set_config($1, $2, false)`, name, value); err != nil {
			return err
		}
	}
	return source.Prove(ctx, conn)
}

func millis(d time.Duration) string {
	if d < 0 {
		return "0"
	}
	return strconv.FormatInt(int64((d+time.Millisecond-1)/time.Millisecond), 10)
}

func checkServer(ctx context.Context, conn *pgx.Conn) error {
	var version int
	var pid uint32
	err := conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('server_version_num')::integer,
		pg_catalog.pg_backend_pid()`).Scan(&version, &pid)
	if err != nil {
		return fmt.Errorf("migrations: connect: %w", err)
	}
	if err := checkVersion(version); err != nil {
		return err
	}
	if pid != conn.PgConn().PID() {
		return fmt.Errorf("%w: the process that answers is not the one that was connected to; give Up the server's own address", ErrNotDirect)
	}
	return nil
}

// checkVersion takes the server's version as server_version_num has it.
func checkVersion(version int) error {
	if version < 140000 {
		return fmt.Errorf("%w: the server is PostgreSQL %d, 14 is the oldest that works", ErrUnsupported, version/10000)
	}
	return nil
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // there is nothing left to lose on it
}

// ternKey is the lock that every user of tern takes in a database, for
// whatever they migrate.
const ternKey = 9628173550095224

// lock takes the lock of migrations, tern's lock and the lock of the
// partitions. It asks again and again instead of waiting in the server: a
// waiter there has a snapshot, and another migration's CREATE INDEX
// CONCURRENTLY would wait for that.
func lock(ctx context.Context, conn *pgx.Conn, n Names, cfg Config) error {
	waitCtx := ctx
	if cfg.LockWait > 0 {
		var cancel context.CancelFunc
		waitCtx, cancel = context.WithTimeout(ctx, cfg.LockWait)
		defer cancel()
	}
	waiting := false
	for _, key := range []int64{n.MigrateKey, ternKey, n.DDLKey} {
		for {
			var got bool
			if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_try_advisory_lock($1::bigint)`, key).Scan(&got); err != nil {
				return pgschema.Explain(n, "take the migration lock", err)
			}
			if got {
				break
			}
			if !waiting {
				cfg.Logger.Info("waiting for another migration", zap.String("schema", n.Schema), zap.String("table", n.Table))
				waiting = true
			}
			select {
			case <-time.After(50*time.Millisecond + rand.N(100*time.Millisecond)):
			case <-waitCtx.Done():
				if err := context.Cause(ctx); err != nil {
					return fmt.Errorf("migrations: wait for another migration: schema %q, table %q: %w", n.Schema, n.Table, err)
				}
				return pgschema.Errorf(n, ErrLocked, "it did not end within %s", cfg.LockWait)
			}
		}
	}
	return nil
}
