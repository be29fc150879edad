package nodestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/mysqlreach"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/internal/worker"
	"github.com/sojourn-go/sojourn/session"
)

// Store keeps sessions in the table of a Node application. Use New to make one.
// All methods may be called concurrently.
type Store struct {
	placeholder
	db      *sql.DB
	layout  Layout
	opts    Options
	dialect *dialect
	table   table
	q       *queries
	extra   []string // the columns of Options.Extra, in order
	log     *zap.Logger
	now     func() time.Time

	pruning  worker.Worker
	timed    atomic.Bool   // it prunes by time
	anew     chan struct{} // the wait for that begins again
	asked    chan struct{} // a pass is due at once
	closed   atomic.Bool
	closing  sync.Once
	finished chan struct{}
	closeErr error // valid once finished is closed

	using    sync.RWMutex // held while a statement starts
	released bool         // the prepared statements are gone
}

// New returns a store on the table that layout describes. It looks at the table
// first and is ErrUnsuitable, with the column's name, where it does not fit. The
// pool stays the caller's and must outlive the store; for Postgres make it with
// stdlib.OpenDBFromPool of pgx. ctx bounds New only.
//
// The table may have other columns, as long as every NOT NULL one has a default
// or is named in Options.Extra. In Postgres the document may be in a json,
// jsonb or text column and the expiry in a timestamp with or without time zone.
// In MySQL the document may be in a text or JSON column. The column of IDs
// needs a unique index of its own.
func New(ctx context.Context, db *sql.DB, layout Layout, opts Options) (*Store, error) {
	return newStore(ctx, db, layout, opts, time.Now)
}

func newStore(ctx context.Context, db *sql.DB, layout Layout, opts Options, now func() time.Time) (*Store, error) {
	layout = layout.split()
	if err := layout.validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults(layout)
	if err := opts.validate(layout); err != nil {
		return nil, err
	}
	s := &Store{
		db:      db,
		layout:  layout,
		opts:    opts,
		dialect: layout.Dialect.dialect(),
		extra:   slices.Sorted(maps.Keys(opts.Extra)),
		log:     opts.Logger.Named("nodestore").With(zap.Stringer("layout", layout)),
		now:     now,

		anew:     make(chan struct{}, 1),
		asked:    make(chan struct{}, 1),
		finished: make(chan struct{}),
	}
	if err := s.open(ctx); err != nil {
		return nil, wrap("new", err)
	}
	switch {
	case opts.PruneInterval > 0:
		s.StartPruning()
	case opts.PruneRequests > 0:
		s.pruning.Start(s.prune)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := mysqlreach.Database(ctx, s.db.PingContext); err != nil {
		return err
	}
	if s.opts.CreateTable {
		if err := s.createTable(ctx); err != nil {
			return fmt.Errorf("create the table: %w", err)
		}
	}
	var err error
	if s.table, err = inspect(ctx, s.db, s.layout, s.extra); err != nil {
		return err
	}
	if err := s.checkConnection(ctx); err != nil {
		return err
	}
	s.q = newQueries(s.layout, s.table, s.extra, s.opts.PruneBatch)
	if s.dialect.prepares {
		for _, q := range s.q.all() {
			if q.stmt, err = s.db.PrepareContext(ctx, q.text); err != nil {
				return errors.Join(fmt.Errorf("prepare a statement: %w", err), s.release())
			}
		}
	}
	if err := s.checkPrefix(ctx); err != nil {
		return errors.Join(fmt.Errorf("look for the prefix: %w", err), s.release())
	}
	return nil
}

// checkPrefix warns of a table that has rows, but none of the layout's prefix. Those
// that begin with it come after it in the order of the column.
func (s *Store) checkPrefix(ctx context.Context) error {
	if s.layout.IDPrefix == "" {
		return nil
	}
	rows, own := false, false
	for _, q := range []*query{s.q.pageAll.first, s.q.pageAll.next} {
		err := s.query(ctx, q, values{"after": s.layout.IDPrefix, "limit": int64(100)}, func() {}, func(r *sql.Rows) error {
			key, _, err := scanID(r)
			rows, own = true, own || s.mine(key)
			return err
		})
		if err != nil {
			return err
		}
	}
	if rows && !own {
		s.log.Warn("is Layout.IDPrefix the Node application's? The table has sessions, but none with it: they are none here, and those of Go are none there",
			zap.String("prefix", s.layout.IDPrefix))
	}
	return nil
}

// checkConnection looks at what a connection of the pool is set to.
func (s *Store) checkConnection(ctx context.Context) error {
	var setting string
	switch {
	case s.layout.Dialect == MySQL:
		// A server that is not strict writes what fits, and says nothing.
		err := s.db.QueryRowContext(ctx, `SELECT @@SESSION.sql_mode LIKE '%STRICT_TRANS_TABLES%' OR @@SESSION.sql_mode LIKE '%STRICT_ALL_TABLES%'`).Scan(&setting)
		if err != nil {
			return fmt.Errorf("read sql_mode: %w", err)
		}
		if setting != "1" {
			return unsuitable("the connection's sql_mode is not strict, so that MySQL would cut what does not fit; add sql_mode=%%27STRICT_ALL_TABLES%%27 to the DSN")
		}
	case s.layout.Dialect == Postgres && s.layout.Expires == ExpiryDate && s.table.zoneless:
		err := s.db.QueryRowContext(ctx, `SELECT source FROM pg_catalog.pg_settings WHERE name = 'TimeZone'`).Scan(&setting)
		if err != nil {
			return fmt.Errorf("read where TimeZone is set: %w", err)
		}
		if setting == "client" || setting == "session" {
			s.log.Warn("the column of expiries has no time zone and the connection sets TimeZone by itself: the Node application's must be the same")
		}
	}
	return nil
}

// release gives the prepared statements back.
func (s *Store) release() error {
	s.using.Lock()
	defer s.using.Unlock()
	s.released = true
	var errs []error
	for _, q := range s.q.all() {
		if q.stmt != nil {
			errs = append(errs, q.stmt.Close())
		}
	}
	return errors.Join(errs...)
}

// Close stops the pruning and makes every later call session.ErrClosed. It waits
// for the pruning and for statements under way, no longer than ctx lasts, and may
// be called again. It leaves the *sql.DB open, unless Options.CloseDB is set.
func (s *Store) Close(ctx context.Context) error {
	s.closing.Do(func() {
		s.closed.Store(true)
		go func() {
			defer close(s.finished)
			_ = s.pruning.Close(context.Background()) // which does not end
			s.closeErr = s.release()
			if s.opts.CloseDB {
				s.closeErr = errors.Join(s.closeErr, s.db.Close())
			}
		}()
	})
	select {
	case <-s.finished:
		return wrap("close", s.closeErr)
	case <-ctx.Done():
		return wrap("close", wait.Ended(ctx))
	}
}

// done is the end of every call: it names the operation in its error, and tells
// the debug log.
func (s *Store) done(op string, start time.Time, err error, ids ...string) error {
	err = wrap(op, err)
	if entry := s.log.Check(zap.DebugLevel, "call"); entry != nil {
		fields := []zap.Field{zap.String("operation", op), zap.Duration("took", time.Since(start)), zap.Error(err)}
		for _, id := range ids {
			fields = append(fields, zap.Stringer("session", session.ForeignKey(s.layout.Package, id)))
		}
		entry.Write(fields...)
	}
	return err
}

// begun is the start of every call.
func (s *Store) begun(ctx context.Context) error {
	if s.closed.Load() {
		return session.ErrClosed
	}
	return before(wait.Ended(ctx))
}

// clock is the application's clock, as the packages for Node use theirs: in
// whole milliseconds.
func (s *Store) clock() time.Time { return s.now().Truncate(time.Millisecond).UTC() }
