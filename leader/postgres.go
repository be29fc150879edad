package leader

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/direct"
)

// Postgres returns a Locker that takes the session-level advisory lock key. Every
// session is a connection of its own, made from a copy of config, which must come
// from [pgx.ParseConfig] and has to lead to the primary directly: a standby is
// refused, a pooler is [ErrPooled].
//
// name is shown as application_name in pg_stat_activity, with " (leader)" behind
// it while the session leads; it is cut to what Postgres keeps, and empty stands
// for that of config. Timeouts of config, role and database do not apply to the
// session: the work sets its own.
//
// Advisory locks belong to one database and are shared with everything else
// there: make key with [Key].
func Postgres(config *pgx.ConnConfig, key int64, name string) Locker[*pgx.Conn] {
	return &postgres{source: direct.New(config), key: key, name: name}
}

// PostgresFromPool is [Postgres] with the configuration of a pool, its
// BeforeConnect and AfterConnect included. The connections are not the pool's:
// they count towards none of its limits and outlive them.
func PostgresFromPool(pool *pgxpool.Pool, key int64, name string) Locker[*pgx.Conn] {
	return &postgres{source: direct.FromPool(pool), key: key, name: name}
}

type postgres struct {
	source *direct.Source
	key    int64
	name   string
}

func (l *postgres) Open(ctx context.Context) (Session[*pgx.Conn], error) {
	conn, err := l.source.Connect(ctx, direct.Options{Name: l.name, Fallback: "leader"})
	if err != nil {
		return nil, err
	}
	return &postgresSession{conn: conn, key: l.key}, nil
}

// postgresSession runs its own statements without preparing them, as its
// connection does.
type postgresSession struct {
	conn   *direct.Conn
	key    int64
	locked bool
}

func (s *postgresSession) Conn() *pgx.Conn { return s.conn.Conn }

func (s *postgresSession) TryLock(ctx context.Context) (bool, error) {
	if s.locked {
		return false, errors.New("this session has the lock already")
	}
	var (
		pid             int64
		writes, granted bool
	)
	err := s.conn.QueryRow(ctx, tryLockSQL, pgx.QueryExecModeExec, s.key, int64(s.conn.PgConn().PID())).
		Scan(&pid, &writes, &granted)
	if err != nil {
		return false, err
	}
	if err := s.conn.Check(pid, writes); err != nil || !granted {
		return false, err
	}
	s.locked = true
	err = s.conn.Rename(ctx, " (leader)")
	return err == nil, err
}

func (s *postgresSession) Verify(ctx context.Context) error {
	// Statements of the next work would join the transaction of the last.
	if status := s.conn.PgConn().TxStatus(); status != 'I' && !s.conn.IsClosed() {
		return errors.New("the connection was left in a transaction")
	}
	var (
		pid          int64
		writes, held bool
	)
	classid, objid := halves(s.key)
	err := s.conn.QueryRow(ctx, verifySQL, pgx.QueryExecModeExec, classid, objid).Scan(&pid, &writes, &held)
	if err != nil {
		return err
	}
	if err := s.conn.Check(pid, writes); err != nil {
		return err
	}
	if !held {
		return errors.New("the lock is not held by this session")
	}
	return nil
}

func (s *postgresSession) Close(ctx context.Context) error { return s.conn.Close(ctx) }

// Cut leaves it to pgx, which finds the connection broken, to ask the server to
// stop the statement.
func (s *postgresSession) Cut(context.Context) { s.conn.Cut() }
