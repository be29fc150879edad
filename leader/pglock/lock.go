// Package pglock is the lock of an election in Postgres: a session's advisory
// lock, on a connection that is used for nothing else. [leader.Run] runs the
// election.
package pglock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/leader"
)

// New returns a Locker that takes the session-level advisory lock key. Every
// session is a connection of its own, made from a copy of config, which must
// come from [pgx.ParseConfig]. It has to lead to the primary directly: a
// standby is refused, a pooler is [leader.ErrPooled].
//
// name is shown as application_name in pg_stat_activity, with " (leader)" behind
// it while the session leads; it is cut to what Postgres keeps, and empty stands
// for that of config. Timeouts of config, role and database do not apply to the
// session: the work sets its own. But the server ends a session that was silent
// for as long as Open says: nobody else would lead while the process of a leader
// is frozen.
//
// Advisory locks belong to one database and are shared with everything else
// there: make key with [leader.Key].
func New(config *pgx.ConnConfig, key int64, name string) leader.Locker[*pgx.Conn] {
	return &locker{source: direct.New(config), key: key, name: name}
}

// FromPool is [New] with the configuration of a pool, its
// BeforeConnect and AfterConnect included. The connections are not the pool's:
// they count towards none of its limits and outlive them.
func FromPool(pool *pgxpool.Pool, key int64, name string) leader.Locker[*pgx.Conn] {
	return &locker{source: direct.FromPool(pool), key: key, name: name}
}

// Around is [FromPool] for a pool that goes through a pooler, or may lead
// elsewhere in time. dsn says where the database is. Where dsn is silent (user,
// password, TLS, the database's name), the pool's configuration counts.
// BeforeConnect is called with both together and may change all but the hosts,
// ports and database of dsn. An empty dsn is the pool's own way. The error is
// one of dsn.
//
// Each session proves that it leads to the database that the pool leads to, when
// it is opened and before it leads: otherwise it is [ErrElsewhere]. That takes a
// connection out of the pool for one short statement.
func Around(pool *pgxpool.Pool, dsn string, key int64, name string) (leader.Locker[*pgx.Conn], error) {
	source, err := direct.Around(pool, dsn)
	if err != nil {
		return nil, fmt.Errorf("pglock: %w", err)
	}
	return &locker{source: source, key: key, name: name, proven: true}, nil
}

// ErrElsewhere says that a session of [Around] leads to another database than the
// pool, and in what they differ. Run tries again, for names of hosts come to mean
// others.
var ErrElsewhere = direct.ErrElsewhere

type locker struct {
	source *direct.Source
	key    int64
	name   string
	proven bool
}

func (l *locker) Open(ctx context.Context, silence time.Duration) (leader.Session[*pgx.Conn], error) {
	conn, err := l.source.Connect(ctx, direct.Options{Name: l.name, Fallback: "leader", Silence: silence, Proven: l.proven})
	if err != nil {
		return nil, err
	}
	return &session{conn: conn, key: l.key}, nil
}

// session runs its own statements without preparing them, as its
// connection does.
type session struct {
	conn   *direct.Conn
	key    int64
	locked bool
}

func (s *session) Conn() *pgx.Conn { return s.conn.Conn }

func (s *session) TryLock(ctx context.Context) (bool, error) {
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
	if err := s.conn.Prove(ctx); err != nil {
		return false, err
	}
	s.locked = true
	err = s.conn.Rename(ctx, " (leader)")
	return err == nil, err
}

func (s *session) Verify(ctx context.Context) error {
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

func (s *session) Close(ctx context.Context) error { return s.conn.Close(ctx) }

// Cut leaves it to pgx, which finds the connection broken, to ask the server to
// stop the statement.
func (s *session) Cut(context.Context) { s.conn.Cut() }

// halves splits a key the way pg_locks shows it.
func halves(key int64) (classid, objid int64) {
	return int64(uint64(key) >> 32), int64(uint32(key))
}
