package mysqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/mysqlreach"
	"github.com/sojourn-go/sojourn/internal/redacted"
	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/leader"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
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

// Store keeps sessions in a MySQL or MariaDB database. Use New to make one. All
// methods may be called concurrently.
type Store struct {
	placeholder
	opts     Options
	engine   *sqlstore.Engine
	clock    *clock
	longest  atomic.Int64 // see Longest
	database string

	conns                       *pool
	reads, scans, writes, waits *gate

	creates, saves, touches, destroys *lane

	leading atomic.Pointer[leader.State]

	running context.Context
	stop    context.CancelCauseFunc
	lanes   sync.WaitGroup
	loops   sync.WaitGroup
}

// scanners is how many connections are for what may take long.
const scanners = 2

// New returns a store on the table that Up of migrations/mysql has made. The
// pool stays the caller's and must outlive the store. ctx bounds New only. New
// tries a server that cannot be reached yet again until ctx ends, or for 30
// seconds if ctx has no deadline. A wrong password or an unknown database fails
// at once.
//
// The store keeps connections of the pool for itself, up to as many as Options
// say, and sets them up as it needs them. So it works whatever the DSN, the user
// and the server say about time zones, character sets, sql_mode, isolation,
// autocommit and the like. After some minutes, and when the store is closed, it
// closes them instead of giving them back.
//
// New fails with ErrUnsuitable if the pool may have fewer than eight
// connections, or belongs to another driver than
// github.com/go-sql-driver/mysql. It fails with ErrSettings if Options differ
// from what the nodes have agreed on, and else with an error of
// migrations/mysql or of the driver.
func New(ctx context.Context, db *sql.DB, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, wrap("new", err)
	}
	s, err := newStore(ctx, db, opts)
	return s, wrap("new", err)
}

func newStore(ctx context.Context, db *sql.DB, opts Options) (*Store, error) {
	most := db.Stats().MaxOpenConnections
	if most > 0 && most < leastConns {
		return nil, fmt.Errorf("%w: the *sql.DB is limited to %d connections; the store needs at least %d (SetMaxOpenConns)", ErrUnsuitable, most, leastConns)
	}
	if err := mysqlreach.Database(ctx, db.PingContext); err != nil {
		return nil, err
	}
	s := &Store{clock: newClock()}
	opts, texts, err := s.look(ctx, db, opts)
	if err != nil {
		return nil, err
	}
	s.opts = opts
	s.engine = &sqlstore.Engine{
		Database: database{s},
		Fast:     fast{s},
		Limits:   s.limits,
		Now:      s.Now,
		Refresh:  s.refresh,
		Wrap:     wrap,
		Log:      opts.Logger.Named("mysqlstore").With(zap.String("table", opts.Table)),
		OnError:  opts.OnError,
	}
	s.conns = &pool{db: db, texts: texts, charset: charsetFor(texts)}
	parts := opts.shares(most)
	s.reads, s.writes = newGate(s.conns, parts.reads), newGate(s.conns, parts.writes)
	s.scans, s.waits = newGate(s.conns, parts.scans), newGate(s.conns, parts.waits)
	for range clockSamples {
		if err := s.refresh(ctx); err != nil {
			s.conns.close()
			return nil, err
		}
	}
	if err := s.writes.do(ctx, func(c *conn) error { _, err := c.exec(ctx, one(tryWrite)); return err }); err != nil {
		s.conns.close()
		return nil, fmt.Errorf("try to write: %w", err)
	}
	s.start(parts.flights)
	return s, nil
}

// look finds out what the database is like and what the nodes have agreed on.
func (s *Store) look(ctx context.Context, db *sql.DB, opts Options) (Options, queries, error) {
	c, err := newConn(ctx, db, nil, "utf8mb4")
	if err != nil {
		return opts, nil, err
	}
	defer c.close()
	if err := migrations.Validate(ctx, c.sql, opts.migrations()); err != nil {
		return opts, nil, err
	}
	agreed, err := migrations.LoadSettings(ctx, c.sql, opts.migrations())
	if err != nil {
		return opts, nil, err
	}
	for _, c := range []struct {
		field         string
		given, stored time.Duration
	}{
		{"Longest", opts.Longest, agreed.LongestLifetime},
		{"RetireGrace", opts.RetireGrace, agreed.RetireGrace},
	} {
		if c.given != 0 && c.given != c.stored {
			return opts, nil, fmt.Errorf("%w: Options.%s is %v, but the nodes agreed on %v in the database; SetSettings of migrations/mysql changes that",
				ErrSettings, c.field, c.given, c.stored)
		}
	}
	if opts, err = opts.fit(c.packet); err != nil {
		return opts, nil, err
	}
	// The database that a connection has selected may change, so all names are
	// in full.
	if err := c.sql.QueryRowContext(ctx, `SELECT DATABASE()`).Scan(&s.database); err != nil {
		return opts, nil, fmt.Errorf("ask for the database: %w", err)
	}
	in := "`" + strings.ReplaceAll(s.database, "`", "``") + "`."
	n, err := migrations.NamesOf(opts.Table)
	return opts, newQueries(names{in + n.Sessions, in + n.Meta, in + n.Users}), err
}

func (s *Store) start(flights int) {
	s.running, s.stop = context.WithCancelCause(context.Background())
	s.creates, s.saves = newLane(s, createManner(), flights), newLane(s, saveManner(), flights)
	s.touches, s.destroys = newLane(s, touchManner(), flights), newLane(s, destroyManner(), flights)
	for _, l := range s.allLanes() {
		s.lanes.Go(func() { l.run(s.running) })
	}
	s.loops.Go(func() { s.refreshLoop(s.running) })
	if s.opts.PruneInterval > 0 {
		s.StartPruning()
	}
}

func (s *Store) allLanes() []*lane { return []*lane{s.creates, s.saves, s.touches, s.destroys} }

// database is what the engine asks of the store.
type database struct{ s *Store }

var _ sqlstore.Database = database{}

func (d database) Write(ctx context.Context, w sqlstore.Work, f func(sqlstore.Tx) error) error {
	if w.Data != nil {
		*w.Data = bytes.Clone(*w.Data)
	}
	ctx, leave, err := d.s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := d.s.within(ctx, w.What)
	defer cancel()
	conns := d.s.writes
	if w.Waits {
		conns = d.s.waits
	}
	return d.s.untilKnown(ctx, nil, nil, func(lost error) error {
		return conns.begin(ctx, func(c *conn) error {
			return c.transaction(ctx, func() error { return f(&tx{conn: c, s: d.s, ctx: ctx, lost: lost}) })
		})
	})
}

func (d database) Read(ctx context.Context, f func(sqlstore.Reader) error) error {
	return d.s.read(ctx, func(c *conn) error { return f(reader{c}) })
}

func (d database) Scan(ctx context.Context, f func(sqlstore.Reader) error) error {
	return d.s.ask(ctx, d.s.scans, func(c *conn) error { return f(reader{c}) })
}

func (d database) Refuse() {
	for _, l := range d.s.allLanes() {
		l.Close()
	}
}

func (d database) Drain() { d.s.lanes.Wait() }

func (d database) Release() error {
	s := d.s
	s.stop(session.ErrClosed)
	s.loops.Wait()
	for _, g := range []*gate{s.reads, s.scans, s.writes, s.waits} {
		g.Close()
	}
	s.conns.close()
	return nil
}

func (d database) GiveUp() { d.s.stop(session.ErrClosed) }

// enter begins a call that Close waits for, unless ctx has ended; leave ends
// it. When Close gives up, it ends the context that enter returns.
func (s *Store) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	left, err := s.engine.Enter(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(s.running, func() { cancel(context.Cause(s.running)) })
	return ctx, func() { unlink(); cancel(nil); left() }, nil
}

// Now implements session.Clock: it is the database's clock, as this node knows
// it.
func (s *Store) Now() time.Time { return s.clock.now().UTC().Round(0) }

// Longest implements session.Clock.
func (s *Store) Longest() time.Duration { return time.Duration(s.longest.Load()) }

// limits returns the limits as they are now: nodes may agree on another longest
// lifetime.
func (s *Store) limits() storekit.Limits {
	return storekit.Limits{MaxData: s.opts.MaxData, MaxUser: s.opts.MaxUser, MostUser: migrations.MaxUser, Longest: s.Longest(), Slack: storekit.ClockSlack}
}

// The database's clock is read several times at first, so that one answer that
// took long does no harm, and once in a while.
const (
	clockSamples  = 3
	clockInterval = 30 * time.Second
)

// refresh reads the database's clock, what the nodes have agreed on, and which
// node pruned last.
func (s *Store) refresh(ctx context.Context) error {
	return s.read(ctx, func(c *conn) error {
		sent := time.Now()
		f, err := c.facts(ctx)
		if err == nil {
			s.clock.observe(sent, f.now, time.Now())
			s.longest.Store(int64(f.longest))
			s.engine.NoteTurn(f.latest)
		}
		return err
	})
}

func (s *Store) refreshLoop(ctx context.Context) {
	for wait.Sleep(ctx, clockInterval/2+rand.N(clockInterval)) {
		call, cancel := s.within(ctx, "reading the clock and the settings")
		err := s.refresh(call)
		cancel()
		if err != nil && s.engine.Begun(ctx) == nil {
			s.engine.BackgroundError("read the clock and the settings", err)
		}
	}
}
