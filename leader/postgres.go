package leader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgresSettings are given to the server while connecting, so that they hold
// from the first moment and after a RESET ALL, whatever the role has set.
func postgresSettings() map[string]string {
	return map[string]string{
		"statement_timeout":                   "0",
		"lock_timeout":                        "0",
		"idle_in_transaction_session_timeout": "0",
		"idle_session_timeout":                "0",
		// How the server finds out that we are gone: while a statement runs, while
		// nothing happens, and while an answer is not taken.
		"client_connection_check_interval": "1s",
		"tcp_keepalives_idle":              "5",
		"tcp_keepalives_interval":          "2",
		"tcp_keepalives_count":             "3",
		"tcp_user_timeout":                 "10s",
	}
}

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
	l := &postgres{key: key, name: name, settings: postgresSettings()}
	if config != nil {
		l.config = config.Copy()
	}
	return l
}

// PostgresFromPool is [Postgres] with the configuration of a pool, its
// BeforeConnect and AfterConnect included. The connections are not the pool's:
// they count towards none of its limits and outlive them.
func PostgresFromPool(pool *pgxpool.Pool, key int64, name string) Locker[*pgx.Conn] {
	config := pool.Config()
	return &postgres{
		config:   config.ConnConfig,
		before:   config.BeforeConnect,
		after:    config.AfterConnect,
		key:      key,
		name:     name,
		settings: postgresSettings(),
	}
}

type postgres struct {
	config *pgx.ConnConfig
	before func(context.Context, *pgx.ConnConfig) error
	after  func(context.Context, *pgx.Conn) error
	key    int64
	name   string

	mu       sync.Mutex
	settings map[string]string // without those that the server has refused
}

func (l *postgres) Open(ctx context.Context) (Session[*pgx.Conn], error) {
	if l.config == nil {
		return nil, errors.New("config is nil; it must come from pgx.ParseConfig")
	}
	conn, name, err := l.connect(ctx)
	if err != nil {
		return nil, err
	}
	s := &postgresSession{conn: conn, wire: conn.PgConn().Conn(), key: l.key, name: name}
	if err := s.prepare(ctx, l.after); err != nil {
		// ctx has often ended by now, and the goodbye is a courtesy.
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return nil, errors.Join(err, s.Close(bye))
	}
	return s, nil
}

// connect makes the connection, without the settings that the server refuses.
func (l *postgres) connect(ctx context.Context) (conn *pgx.Conn, name string, err error) {
	config := l.config.Copy()
	if l.before != nil {
		if err := l.before(ctx, config); err != nil {
			return nil, "", fmt.Errorf("before connect: %w", err)
		}
	}
	if config.RuntimeParams == nil {
		config.RuntimeParams = map[string]string{}
	}
	name = cmp.Or(l.name, config.RuntimeParams["application_name"], "leader")
	config.RuntimeParams["application_name"] = applicationName(name, "")
	l.mu.Lock()
	maps.Copy(config.RuntimeParams, l.settings)
	l.mu.Unlock()
	config.ValidateConnect = writable(config.ValidateConnect)
	opened := new(atomic.Bool)
	config.DialFunc = dialer(config.DialFunc, opened)

	for {
		conn, err = pgx.ConnectConfig(ctx, config)
		if err == nil {
			opened.Store(true)
			return conn, name, nil
		}
		setting, pooled := l.refusal(err)
		switch {
		case pooled:
			return nil, "", fmt.Errorf("%w: %w", ErrPooled, err)
		case setting == "":
			return nil, "", err
		}
		delete(config.RuntimeParams, setting)
	}
}

// refusal finds out which of our settings a server has refused, to do without it
// from now on, or whether it was a pooler that did.
func (l *postgres) refusal(err error) (setting string, pooled bool) {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return "", false
	}
	switch pgErr.Code {
	case "08P01": // PgBouncer, of any setting that it does not track
		return "", strings.Contains(pgErr.Message, "startup parameter")
	case "42704", "22023", "42501", "55P02": // unknown to an old server, not there on its platform, reserved
		l.mu.Lock()
		defer l.mu.Unlock()
		for name := range l.settings {
			if strings.Contains(pgErr.Message, `"`+name+`"`) {
				delete(l.settings, name)
				return name, false
			}
		}
	}
	return "", false
}

// writable refuses servers that do not take writes, before asking what config
// wants of a server.
func writable(next pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn); err != nil || next == nil {
			return err
		}
		return next(ctx, conn)
	}
}

// applicationName puts role behind name and shortens name so that Postgres, which
// keeps 63 bytes and printable ASCII, does not cut the role off.
func applicationName(name, role string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, name)
	return name[:min(len(name), 63-len(role))] + role
}

// postgresSession runs its own statements in one round trip without preparing
// them: that works through any pooler, so that a pooler is found out, and
// leaves nothing behind for the work to trip over.
type postgresSession struct {
	conn   *pgx.Conn
	wire   net.Conn
	key    int64
	name   string
	locked bool
}

func (s *postgresSession) Conn() *pgx.Conn { return s.conn }

// prepare makes sure of who is at the other end before anything is set there.
func (s *postgresSession) prepare(ctx context.Context, after func(context.Context, *pgx.Conn) error) error {
	var (
		pid    int64
		writes bool
	)
	if err := s.conn.QueryRow(ctx, identifySQL, pgx.QueryExecModeExec).Scan(&pid, &writes); err != nil {
		return err
	}
	if err := s.check(pid, writes); err != nil {
		return err
	}
	if after != nil {
		if err := after(ctx, s.conn); err != nil {
			return fmt.Errorf("after connect: %w", err)
		}
	}
	_, err := s.conn.Exec(ctx, unlimitSQL, pgx.QueryExecModeExec)
	return err
}

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
	if err := s.check(pid, writes); err != nil || !granted {
		return false, err
	}
	s.locked = true
	_, err = s.conn.Exec(ctx, nameSQL, pgx.QueryExecModeExec, applicationName(s.name, " (leader)"))
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
	if err := s.check(pid, writes); err != nil {
		return err
	}
	if !held {
		return errors.New("the lock is not held by this session")
	}
	return nil
}

// check judges the server process that answered.
func (s *postgresSession) check(pid int64, writes bool) error {
	if pid != int64(s.conn.PgConn().PID()) {
		return fmt.Errorf("%w (server process %d answers for %d)", ErrPooled, pid, s.conn.PgConn().PID())
	}
	if !writes {
		return errors.New("the server takes no writes: it is a standby or set to read-only")
	}
	return nil
}

func (s *postgresSession) Close(ctx context.Context) error {
	err := s.conn.Close(ctx)
	// A connection that broke in a statement is cleaned up in the background.
	cleaned := s.conn.PgConn().CleanupDone()
	select {
	case <-cleaned:
		return err
	case <-ctx.Done():
	}
	s.wire.Close()
	select {
	case <-cleaned:
	case <-time.After(cancelTimeout): // all that can still be under way
	}
	return cmp.Or(err, context.Cause(ctx))
}

// Cut leaves it to pgx, which finds the connection broken, to ask the server to
// stop the statement.
func (s *postgresSession) Cut(context.Context) { s.wire.Close() }
