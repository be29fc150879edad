package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/redacted"
	"github.com/sojourn-go/sojourn/internal/sqlstore"
	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
	"github.com/sojourn-go/sojourn/session"
)

var _ interface {
	session.Store
	session.Clock
	session.Putter
	session.Lister
	session.Clearer
	session.UserIndex
	session.Pruner
	session.Explainer
	session.DataLimiter
	session.Statser
} = (*Store)(nil)

// placeholder makes what embeds it print as a placeholder.
type placeholder = redacted.Value

// Store keeps sessions in an SQLite database. Use Open or New to make one. All
// methods may be called concurrently.
type Store struct {
	placeholder
	opts   Options
	engine *sqlstore.Engine

	points, scans *readers
	writer        *writer
	pass          chan struct{} // held by the pass under way

	stop    context.CancelFunc
	writing sync.WaitGroup
	owned   *sql.DB // set by Open
}

// scanners is how many connections are for what may take long.
const scanners = 2

// maxPause bounds the pause between two steps that end many sessions.
const maxPause = 20 * time.Millisecond

// New returns a store on the table that Up of migrations/sqlite has made. The
// pool stays the caller's and must outlive the store. ctx bounds New only. It is
// ErrSettings if Options differ from what the processes have agreed on.
//
// The store keeps connections of the pool for itself and sets up those as it
// needs them: one to write, others to read. New checks what it cannot set, and
// is ErrUnsuitable unless
//
//   - the database is in WAL mode, or in memory and shared by the pool's
//     connections,
//   - the pool may have at least four connections,
//   - its connections have a busy_timeout, without which the caller's own writes
//     would fail whenever the store writes.
//
// A pool that was opened with the DSN function is suitable. The driver's other
// settings do not matter to the store.
func New(ctx context.Context, db *sql.DB, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, wrap("new", err)
	}
	s, err := newStore(ctx, db, opts)
	return s, wrap("new", err)
}

func newStore(ctx context.Context, db *sql.DB, opts Options) (*Store, error) {
	names, err := migrations.NamesOf(opts.Table)
	if err != nil {
		return nil, err
	}
	most := db.Stats().MaxOpenConnections
	if most > 0 && most < 4 {
		return nil, fmt.Errorf("%w: it is limited to %d connections; the store needs at least 4 (SetMaxOpenConns)", ErrUnsuitable, most)
	}
	points, scans := opts.Readers, scanners
	if most > 0 && points+scans+1 > most/2 {
		points, scans = max(1, most/2-2), 1
	}
	if err := checkPool(ctx, db, opts); err != nil {
		return nil, err
	}
	texts := newQueries(names)
	c, err := newConn(ctx, db, texts, opts)
	if err != nil {
		return nil, err
	}
	s := &Store{opts: opts, pass: make(chan struct{}, 1)}
	s.points = newReaders(db, texts, points, opts, s.Now)
	s.scans = newReaders(db, texts, scans, opts, s.Now)
	s.engine = &sqlstore.Engine{
		Database: database{s},
		Limits:   opts.limits,
		Now:      s.Now,
		// Other processes look now and then whether they may write.
		Pause:   func(took time.Duration) time.Duration { return min(max(took, prunePause), maxPause) },
		Wrap:    wrap,
		Log:     opts.Logger.Named("sqlitestore").With(zap.String("table", opts.Table)),
		OnError: opts.OnError,
	}
	s.writer = newWriter(s, c)
	if err := s.check(ctx, c); err != nil {
		return nil, errors.Join(err, s.points.close(ctx), c.close(ctx))
	}
	s.start()
	return s, nil
}

// check finds out before the first request whether the store can read and
// write.
func (s *Store) check(ctx context.Context, writing *conn) error {
	if err := retry(ctx, s.opts.WriteTimeout, s.writer.begin); err != nil {
		return fmt.Errorf("begin to write: %w", err)
	}
	_, err := writing.exec(tryWrite)
	s.writer.rollback()
	if err != nil {
		return fmt.Errorf("try to write: %w", err)
	}
	// Another connection than the one that writes has to see the same tables.
	err = s.points.do(ctx, func(c *conn) error {
		return migrations.Validate(ctx, c.sql, s.opts.migrations())
	})
	if errors.Is(err, migrations.ErrNotMigrated) && migrations.Validate(ctx, writing.sql, s.opts.migrations()) == nil {
		return fmt.Errorf("%w: each of its connections has a database of its own; use Open, or DSN with a file", ErrUnsuitable)
	}
	return err
}

// checkPool looks at a connection as the caller gets it.
func checkPool(ctx context.Context, db *sql.DB, opts Options) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // it goes back to the pool
	return retry(ctx, opts.WriteTimeout, func() error {
		if err := migrations.Validate(ctx, c, opts.migrations()); err != nil {
			return err
		}
		agreed, err := migrations.LoadSettings(ctx, c, opts.migrations())
		if err != nil {
			return err
		}
		if opts.RetireGrace != 0 && opts.RetireGrace != agreed.RetireGrace {
			return fmt.Errorf("%w: Options.RetireGrace is %v, but they agreed on %v in the database; SetSettings of migrations/sqlite changes that",
				ErrSettings, opts.RetireGrace, agreed.RetireGrace)
		}
		var mode string
		var timeout int64
		if err := c.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&mode); err != nil {
			return fmt.Errorf("read journal_mode: %w", err)
		}
		if err := c.QueryRowContext(ctx, `PRAGMA busy_timeout`).Scan(&timeout); err != nil {
			return fmt.Errorf("read busy_timeout: %w", err)
		}
		switch {
		case mode != "wal" && mode != "memory":
			return fmt.Errorf("%w: its journal_mode is %s instead of wal: with another one, reads and writes wait for each other", ErrUnsuitable, mode)
		case timeout == 0:
			return fmt.Errorf("%w: its busy_timeout is 0: its other writes would fail whenever the store writes", ErrUnsuitable)
		}
		return nil
	})
}

func (s *Store) start() {
	var running context.Context
	running, s.stop = context.WithCancel(context.Background())
	s.writing.Go(func() { s.writer.run(running) })
	if s.opts.PruneInterval > 0 {
		s.StartPruning()
	}
}

// Now implements session.Clock: it is the machine's clock.
func (s *Store) Now() time.Time { return time.Now().UTC().Round(0) }

// Longest implements session.Clock.
func (s *Store) Longest() time.Duration { return s.opts.Longest }

// database is what the engine asks of the store.
type database struct{ s *Store }

var _ sqlstore.Database = database{}

// Write has the writer run f.
func (d database) Write(ctx context.Context, w sqlstore.Work, f func(sqlstore.Tx) error) error {
	return d.s.writer.Do(ctx, &op{do: func(t *tx) error { return f(t) }, data: w.Data, ends: w.Ends})
}

func (d database) Read(ctx context.Context, f func(sqlstore.Reader) error) error {
	return d.s.points.do(ctx, func(c *conn) error { return f(reader{c}) })
}

func (d database) Scan(ctx context.Context, f func(sqlstore.Reader) error) error {
	return d.s.scan(ctx, func(c *conn) error { return f(reader{c}) })
}

func (d database) Refuse() { d.s.writer.Close() }

func (d database) Drain() { d.s.writing.Wait() }

func (d database) Release() error {
	s, ctx := d.s, context.Background() // nothing here waits for others
	errs := []error{s.points.close(ctx), s.scans.close(ctx), s.writer.conn.close(ctx)}
	if s.owned != nil {
		errs = append(errs, s.owned.Close())
	}
	s.stop()
	return errors.Join(errs...)
}

// GiveUp makes what has no lock yet fail.
func (d database) GiveUp() { d.s.stop() }

// scan calls f with a connection for what may take long.
func (s *Store) scan(ctx context.Context, f func(*conn) error) error {
	if err := s.engine.Begun(ctx); err != nil {
		return err
	}
	return s.scans.do(ctx, f)
}

// write has the writer call f and returns what it returned, once that is
// committed. f may be called again.
func write[T any](ctx context.Context, s *Store, f func(*tx) (T, error)) (T, error) {
	var none T
	if err := s.engine.Begun(ctx); err != nil {
		return none, err
	}
	result := new(T) // the writer's until it is finished
	err := s.writer.Do(ctx, &op{do: func(t *tx) (err error) {
		*result, err = f(t)
		return err
	}})
	if err != nil {
		return none, err
	}
	return *result, nil
}
