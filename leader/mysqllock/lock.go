// Package mysqllock is the lock of an election in MariaDB 10.6 or MySQL 8 and
// later: one of GET_LOCK, on a connection that is used for nothing else.
// [leader.Run] runs the election.
package mysqllock

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/deadpeer"
	"github.com/sojourn-go/sojourn/leader"
)

// New returns a Locker that takes the lock of GET_LOCK called "leader:" and the
// 16 hexadecimal digits of key. Every session is a connection of its own, made
// from a copy of config. It has to lead to the server that takes the writes:
// one that is read-only is refused.
//
// Such locks belong to the whole server: make key with [leader.Key], and the name of
// the database a part of it. They belong to one server alone. Where several take
// writes, as in a Galera cluster, all processes must lead to the same one, or
// each server has a leader.
//
// name is the session's attribute program_name in the performance schema, where
// the server keeps one, cut to 255 bytes; empty stands for that of config.
// Timeouts of config and server do not apply to the session: the work sets its
// own. But the server ends a session that was silent for as long as Open says,
// in whole seconds. So the server finds out that the process is frozen or the
// network gone.
//
// The work must not close the connection. It does not have to expect
// [driver.ErrBadConn] to hide a new one: there is none, and the term ends.
func New(config *mysql.Config, key int64, name string) leader.Locker[*sql.Conn] {
	return &locker{config: config, key: key, name: name}
}

// FromPool is [New] for a program that has a *sql.DB alone, which does not give
// away its config. Each session takes a connection out of the pool, which
// counts towards its limits, and never gives it back: it is closed at the end.
// The read timeout of the DSN applies to it. To have a stopped statement killed
// on the server takes a moment longer, by another connection of the pool.
//
// The work must not keep rows of the connection open.
func FromPool(pool *sql.DB, key int64) leader.Locker[*sql.Conn] {
	return &locker{pool: pool, key: key}
}

type locker struct {
	config *mysql.Config // nil: out of the pool
	pool   *sql.DB
	key    int64
	name   string
}

func (l *locker) Open(ctx context.Context, silence time.Duration) (leader.Session[*sql.Conn], error) {
	if l.pool != nil {
		return (&session{db: l.pool, borrowed: true, lock: lockName(l.key)}).open(ctx, silence)
	}
	if l.config == nil {
		return nil, errors.New("mysqllock: New needs a config, from mysql.ParseDSN or mysql.NewConfig")
	}
	s := &session{config: l.config.Clone(), lock: lockName(l.key)}
	config := l.config.Clone()
	config.ReadTimeout, config.WriteTimeout = 0, 0
	config.RejectReadOnly = false // it would show an error as a broken connection
	config.ConnectionAttributes = attributes(config.ConnectionAttributes, l.name)
	if config.DialFunc != nil || config.Net == "" || config.Net == "tcp" || config.Net == "unix" {
		config.DialFunc = s.dialer(config.DialFunc)
	} // else the driver knows how to dial, and Cut has to do without the wire
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("mysqllock: config: %w", err)
	}
	s.db = sql.OpenDB(connector)
	s.db.SetMaxOpenConns(1)
	return s.open(ctx, silence)
}

func (s *session) open(ctx context.Context, silence time.Duration) (_ leader.Session[*sql.Conn], err error) {
	if s.conn, err = s.db.Conn(ctx); err == nil {
		err = s.prepare(ctx, silence)
	}
	if err != nil {
		return nil, errors.Join(err, s.hangUp())
	}
	return s, nil
}

// maxName bounds a name in bytes: a server refuses to be told too much.
const maxName = 255

// attributes adds the name to the attributes of a config, which are separated by
// commas, with a colon before the value.
func attributes(given, name string) string {
	if name == "" {
		return given
	}
	name = strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune(",:", r) {
			return '?'
		}
		return r
	}, name)
	name = strings.ToValidUTF8(name[:min(len(name), maxName)], "")
	all := []string{"program_name:" + name}
	for attribute := range strings.SplitSeq(given, ",") {
		if attribute != "" && !strings.HasPrefix(strings.TrimSpace(attribute), "program_name:") {
			all = append(all, attribute)
		}
	}
	return strings.Join(all, ",")
}

// session is one connection, which database/sql never replaces: a *sql.Conn
// is bound to the connection it began with.
type session struct {
	config   *mysql.Config // for another connection, to stop what runs on this one
	db       *sql.DB       // of this one connection, unless
	borrowed bool          // it is the caller's
	conn     *sql.Conn
	id       int64 // of the connection, as the server counts them
	lock     string

	locked   bool // TryLock has returned true
	doubtful bool // an attempt has not been answered
	closed   bool
	cut      atomic.Bool

	mu   sync.Mutex
	wire net.Conn
}

func (s *session) dialer(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			deadpeer.Detect(conn)
			s.mu.Lock()
			s.wire = conn
			s.mu.Unlock()
		}
		return conn, err
	}
}

func (s *session) breakWire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire != nil {
		_ = s.wire.Close()
	}
}

// prepare makes sure that the right server is at the other end before anything
// is set there.
func (s *session) prepare(ctx context.Context, silence time.Duration) error {
	var writes bool
	if err := s.conn.QueryRowContext(ctx, identifySQL).Scan(&s.id, &writes); err != nil {
		return err
	}
	if err := s.check(s.id, writes); err != nil {
		return err
	}
	_, err := s.conn.ExecContext(ctx, unlimitSQL(silence))
	return err
}

// check judges what the server has answered about itself.
func (s *session) check(id int64, writes bool) error {
	if id != s.id {
		return fmt.Errorf("%w (connection %d answers for %d)", leader.ErrPooled, id, s.id)
	}
	if !writes {
		return errors.New("the server takes no writes: it is a replica or set to read-only")
	}
	return nil
}

func (s *session) Conn() *sql.Conn { return s.conn }

func (s *session) TryLock(ctx context.Context) (bool, error) {
	if s.locked {
		return false, errors.New("this session has the lock already")
	}
	var (
		id      int64
		writes  bool
		granted sql.NullBool
	)
	s.doubtful = true
	err := s.conn.QueryRowContext(ctx, tryLockSQL(s.lock, s.id)).Scan(&id, &writes, &granted)
	if err != nil {
		return false, err
	}
	s.doubtful = false
	switch err := s.check(id, writes); {
	case err != nil:
		return false, err
	case !granted.Valid:
		return false, errors.New("the server could not try the lock")
	}
	s.locked = granted.Bool
	return s.locked, nil
}

// errInTransaction is the server's answer to SET TRANSACTION inside of one.
const errInTransaction = 1568

func (s *session) Verify(ctx context.Context) error {
	// Statements of the next work would join the transaction of the last. The
	// server tells a user without rights nothing else about it.
	_, err := s.conn.ExecContext(ctx, outsideSQL)
	var answer *mysql.MySQLError
	if errors.As(err, &answer) && answer.Number == errInTransaction {
		return fmt.Errorf("the connection was left in a transaction: %w", err)
	}
	if err != nil {
		return err
	}
	var (
		id                       int64
		writes, autocommit, held bool
	)
	if err := s.conn.QueryRowContext(ctx, verifySQL(s.lock)).Scan(&id, &writes, &autocommit, &held); err != nil {
		return err
	}
	switch err := s.check(id, writes); {
	case err != nil:
		return err
	case !autocommit:
		return errors.New("the connection was left with autocommit off")
	case !held:
		return errors.New("the lock is not held by this session")
	}
	return nil
}

// Close gives the lock back first, as the server ends a session only some time
// after its client has gone. If that fails the server may not even have noticed.
func (s *session) Close(ctx context.Context) error {
	if s.closed {
		return nil
	}
	s.closed = true
	if (s.locked || s.doubtful) && !s.cut.Load() {
		if err := s.release(ctx); err != nil {
			s.breakWire()
			s.kill(ctx)
		}
	}
	return errors.Join(context.Cause(ctx), s.hangUp())
}

// hangUp closes the connection and what database/sql has around it.
func (s *session) hangUp() error {
	if s.borrowed {
		if s.conn != nil {
			_ = s.conn.Raw(func(any) error { return driver.ErrBadConn }) // has the pool drop it
			_ = s.conn.Close()                                           // which says that it is closed
		}
		return nil
	}
	if s.conn != nil {
		// Not its own Close: that would wait for rows that the work has kept.
		_ = s.conn.Raw(func(conn any) error {
			if closer, ok := conn.(interface{ Close() error }); ok {
				_ = closer.Close()
			}
			return nil
		})
	}
	s.breakWire()
	return s.db.Close()
}

// release ends the transaction before the lock, or the next leader would begin
// while this one's rows are still locked.
func (s *session) release(ctx context.Context) error {
	for _, stmt := range []string{"ROLLBACK", "DO release_lock('" + s.lock + "')"} {
		if _, err := s.conn.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	return nil
}

// Cut also has the server end the session: it goes on with a statement whose
// client is gone, and keeps the lock for as long.
func (s *session) Cut(ctx context.Context) {
	s.cut.Store(true)
	s.breakWire()
	s.kill(ctx)
}

// kill ends the session on the server, by another connection, if the lock is
// its: on another server the same number would be a stranger's. It does what is
// possible until ctx ends; the session ends without it too, only later.
func (s *session) kill(ctx context.Context) {
	db := s.db
	if !s.borrowed {
		connector, err := mysql.NewConnector(s.config)
		if err != nil {
			return
		}
		db = sql.OpenDB(connector)
		defer db.Close()
	}
	var held bool
	if err := db.QueryRowContext(ctx, holdsSQL(s.lock, s.id)).Scan(&held); err == nil && held {
		_, _ = db.ExecContext(ctx, fmt.Sprint("KILL ", s.id))
	}
}
