package direct

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/pooled"
)

// defaultSettings are given to the server while connecting, so that they hold
// from the first moment and after a RESET ALL, whatever the role has set.
func defaultSettings() map[string]string {
	return map[string]string{
		"statement_timeout":                   "0",
		"lock_timeout":                        "0",
		"idle_in_transaction_session_timeout": "0",
		"idle_session_timeout":                "0",
		"DateStyle":                           "ISO", // the only one that the driver reads
		// How the server finds out that we are gone: while a statement runs, while
		// nothing happens, and while an answer is not taken.
		"client_connection_check_interval": "1s",
		"tcp_keepalives_idle":              "5",
		"tcp_keepalives_interval":          "2",
		"tcp_keepalives_count":             "3",
		"tcp_user_timeout":                 "10s",
	}
}

// Source makes connections from one configuration. It is safe for concurrent
// use.
type Source struct {
	config *pgx.ConnConfig
	before func(context.Context, *pgx.ConnConfig) error
	after  func(context.Context, *pgx.Conn) error
	pinned bool          // before may not change where it leads
	pool   *pgxpool.Pool // nil: of a configuration alone

	mu       sync.Mutex
	settings map[string]string // without those that the server has refused
}

// New returns a source of connections made from a copy of config, which must
// come from [pgx.ParseConfig].
func New(config *pgx.ConnConfig) *Source {
	s := &Source{settings: defaultSettings()}
	if config != nil {
		s.config = config.Copy()
	}
	return s
}

// FromPool is [New] with the configuration of a pool, its BeforeConnect and
// AfterConnect included. The connections are not the pool's: they count towards
// none of its limits and outlive it.
func FromPool(pool *pgxpool.Pool) *Source {
	config := pool.Config()
	return &Source{
		pool:     pool,
		config:   config.ConnConfig,
		before:   config.BeforeConnect,
		after:    config.AfterConnect,
		settings: defaultSettings(),
	}
}

// Options say what a connection is for.
type Options struct {
	// Name is shown as application_name in pg_stat_activity, cut to what Postgres
	// keeps. Default: that of the configuration, or Fallback.
	Name, Fallback string
	// Proven has a connection of a source that has a pool prove that it leads to
	// the database that the pool leads to: see [Conn.Prove].
	Proven bool
	// Silence is for how long the server waits for the next statement, inside of a
	// transaction and outside, before it ends the session. It must not be below a
	// second; 0 means for ever.
	Silence time.Duration
	// NoCancel keeps pgx from asking the server, over a connection of its own, to
	// stop what ran on a connection that broke.
	NoCancel bool
}

// Connect opens a connection. It fails with [pooled.Err] if it finds a pooler.
// If config has several hosts, they share the time that ctx leaves.
func (s *Source) Connect(ctx context.Context, opts Options) (*Conn, error) {
	if s.config == nil {
		return nil, errors.New("config is nil; it must come from pgx.ParseConfig")
	}
	conn, err := s.dial(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := conn.prepare(ctx, s.after, opts.Silence); err != nil {
		// ctx has often ended by now, and the goodbye is a courtesy.
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return nil, errors.Join(err, conn.Close(bye))
	}
	return conn, nil
}

// Config returns what a connection is made with now, for those who connect by
// themselves. They call [Source.After] and may call [Source.Prove].
func (s *Source) Config(ctx context.Context) (*pgx.ConnConfig, error) {
	config := s.config.Copy()
	if s.before != nil {
		if err := s.before(ctx, config); err != nil {
			return nil, fmt.Errorf("before connect: %w", err)
		}
		if s.pinned {
			pin(config, s.config.Copy())
		}
	}
	return config, nil
}

// After calls AfterConnect of the pool. It reports whether there is a pool.
func (s *Source) After(ctx context.Context, conn *pgx.Conn) (pool bool, err error) {
	if s.after != nil {
		if err := s.after(ctx, conn); err != nil {
			return true, fmt.Errorf("after connect: %w", err)
		}
	}
	return s.pool != nil, nil
}

// Prove is [Conn.Prove] for a connection that was made with [Source.Config].
func (s *Source) Prove(ctx context.Context, conn *pgx.Conn) error { return prove(ctx, s.pool, conn) }

// dial makes the connection, without the settings that the server refuses.
func (s *Source) dial(ctx context.Context, opts Options) (*Conn, error) {
	config, err := s.Config(ctx)
	if err != nil {
		return nil, err
	}
	if config.RuntimeParams == nil {
		config.RuntimeParams = map[string]string{}
	}
	name := cmp.Or(opts.Name, config.RuntimeParams["application_name"], opts.Fallback)
	config.RuntimeParams["application_name"] = applicationName(name, "")
	s.mu.Lock()
	maps.Copy(config.RuntimeParams, s.settings)
	for _, idle := range []string{"idle_in_transaction_session_timeout", "idle_session_timeout"} {
		if _, known := s.settings[idle]; known {
			config.RuntimeParams[idle] = millis(opts.Silence)
		}
	}
	s.mu.Unlock()
	// A host that does not answer has to leave time for the others.
	if deadline, ok := ctx.Deadline(); ok {
		share := time.Until(deadline) / time.Duration(1+len(config.Fallbacks))
		if config.ConnectTimeout <= 0 || config.ConnectTimeout > share {
			config.ConnectTimeout = share
		}
	}
	config.ValidateConnect = writable(config.ValidateConnect)
	opened := new(atomic.Bool)
	config.DialFunc = dialer(config.DialFunc, opened, opts.NoCancel)

	for {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err == nil {
			opened.Store(true)
			c := &Conn{Conn: conn, wire: wireOf(conn), name: name}
			if opts.Proven {
				c.pool = s.pool
			}
			return c, nil
		}
		setting, byPooler := s.refusal(err)
		switch {
		case byPooler:
			return nil, fmt.Errorf("%w: %w", pooled.Err, err)
		case setting == "":
			return nil, err
		}
		delete(config.RuntimeParams, setting)
	}
}

// millis is d as the server's settings have it, which count in milliseconds.
func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// refusal finds out which of our settings a server has refused, to do without it
// from now on, or whether it was a pooler that did.
func (s *Source) refusal(err error) (setting string, byPooler bool) {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return "", false
	}
	switch pgErr.Code {
	case "08P01": // PgBouncer, of any setting that it does not track
		return "", strings.Contains(pgErr.Message, "startup parameter")
	case "42704", "22023", "42501", "55P02": // unknown to an old server, not there on its platform, reserved
		s.mu.Lock()
		defer s.mu.Unlock()
		for name := range s.settings {
			if strings.Contains(pgErr.Message, `"`+name+`"`) {
				delete(s.settings, name)
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
