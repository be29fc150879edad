package db

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Conns decides which connection a statement gets. The caller's pool and the
// store's own stand in for each other. So neither an application that holds all
// of its connections nor some that have fallen silent hold up the store.
type Conns struct {
	App, Own *pgxpool.Pool   // the caller's pool, and the store's own
	Spare    chan struct{}   // places in Own for statements that have the caller's pool
	Text     bool            // results come as text, whose form is a setting
	Cut      context.Context // ends when Break is called
	Retries  atomic.Uint64   // reads and transactions that were repeated

	opts     Options
	breakAll context.CancelCauseFunc
	doubted  atomic.Pointer[time.Time] // until then the caller's pool comes second
}

// Options are about all connections of a store.
type Options struct {
	Channel                   string // of notifications
	ReadTimeout, WriteTimeout time.Duration
	// Unhurried has a write wait for an answer for as long as the write may take
	// at all.
	Unhurried bool
}

const (
	ownConns   = 8
	spareConns = 4
	// waiters is how many statements of a kind wait for locks at a time.
	waiters = 2

	ownIdle = 2 * time.Minute

	// otherAfter is for how long a statement waits for the one pool before it
	// asks the other too. starvedAfter is for how long it waits for one alone
	// when the other has failed.
	otherAfter   = 100 * time.Millisecond
	starvedAfter = time.Second
	doubtFor     = time.Second
)

// New makes a pool of the store's own beside app. Close closes it.
func New(ctx context.Context, app *pgxpool.Pool, opts Options) (*Conns, error) {
	own, err := OwnPool(ctx, app, ownConns)
	if err != nil {
		return nil, err
	}
	mode := app.Config().ConnConfig.DefaultQueryExecMode
	c := &Conns{
		App: app, Own: own, Spare: make(chan struct{}, spareConns), opts: opts,
		Text: mode == pgx.QueryExecModeExec || mode == pgx.QueryExecModeSimpleProtocol,
	}
	c.Cut, c.breakAll = context.WithCancelCause(context.Background())
	return c, nil
}

// Break breaks the connections that statements wait on, at once and from then
// on. The statements fail with session.ErrClosed.
func (c *Conns) Break() { c.breakAll(session.ErrClosed) }

// OwnPool makes connections of the store's own from the caller's settings.
func OwnPool(ctx context.Context, pool *pgxpool.Pool, conns int32) (*pgxpool.Pool, error) {
	config := pool.Config()
	config.MaxConns, config.MinConns, config.MinIdleConns = conns, 0, 0
	config.MaxConnIdleTime = min(config.MaxConnIdleTime, ownIdle)
	// These hooks are about the caller's use of the pool, not the store's.
	config.BeforeAcquire = nil //lint:ignore SA1019 the caller may use it still, and it would come along
	config.PrepareConn, config.AfterRelease, config.BeforeClose, config.ShouldPing = nil, nil, nil, nil
	config.PingTimeout = ownPing
	config.ConnConfig.ConnectTimeout = min(cmp.Or(config.ConnConfig.ConnectTimeout, ownConnect), ownConnect)
	direct.Harden(config)
	return pgxpool.NewWithConfig(ctx, config)
}

const (
	ownPing    = 250 * time.Millisecond // another connection costs little
	ownConnect = 5 * time.Second        // at most, for each host
)

// fellSilent breaks conn, and notes that other connections of its pool may have
// fallen silent too.
func (c *Conns) fellSilent(conn *lent) {
	conn.breakIt()
	if conn.own {
		c.Own.Reset()
	} else {
		c.Doubt()
	}
}

// Doubt has the caller's pool come second for a moment.
func (c *Conns) Doubt() {
	until := time.Now().Add(doubtFor)
	c.doubted.Store(&until)
}

func (c *Conns) inDoubt() bool {
	until := c.doubted.Load()
	return until != nil && time.Now().Before(*until)
}

// lent is a connection of one of the pools.
type lent struct {
	*pgxpool.Conn
	own   bool
	place chan struct{} // nil: none to give back
}

func (l *lent) giveBack() {
	l.Release()
	if l.place != nil {
		<-l.place
	}
}

func (l *lent) lost() bool { return l.Conn.Conn().IsClosed() }

// breakIt ends a lost connection at once: pgx would go on with it for up to 15
// s.
func (l *lent) breakIt() { direct.Break(l.Conn.Conn()) }

// lend returns a connection of the pool that is asked first or, if that does
// not give one soon, of whichever gives one first.
func (c *Conns) lend(ctx context.Context, control, own bool) (*lent, error) {
	ofOwn := func(ctx context.Context) (*lent, error) { return c.ofOwn(ctx, control) }
	first, second := c.ofApp, ofOwn
	if appFirst := !control && !own && !c.inDoubt(); !appFirst {
		first, second = ofOwn, c.ofApp
	}
	waits, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		other    *lent
		otherErr error
		answered = make(chan struct{})
	)
	soon := time.AfterFunc(otherAfter, func() {
		defer close(answered)
		if other, otherErr = second(waits); otherErr == nil {
			cancel()
			return
		}
		time.AfterFunc(starvedAfter, cancel)
	})
	conn, err := first(waits)
	switch asked := !soon.Stop(); {
	case err == nil && !asked:
		return conn, nil
	case err == nil:
		cancel()
		<-answered
		if other != nil {
			other.giveBack()
		}
		return conn, nil
	case asked:
		time.AfterFunc(starvedAfter, cancel)
		<-answered
	default: // it was refused at once
		limited, stop := context.WithTimeout(ctx, starvedAfter)
		other, otherErr = second(limited)
		stop()
	}
	switch {
	case other != nil && ctx.Err() != nil:
		other.giveBack()
	case other != nil:
		if !control && other.own {
			c.Doubt() // so that not each statement waits for it
		}
		return other, nil
	}
	return nil, c.none(ctx, err, otherErr)
}

func (c *Conns) ofApp(ctx context.Context) (*lent, error) {
	conn, err := c.App.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	return &lent{Conn: conn}, nil
}

func (c *Conns) ofOwn(ctx context.Context, control bool) (*lent, error) {
	l := &lent{own: true}
	if !control {
		select {
		case c.Spare <- struct{}{}:
			l.place = c.Spare
		case <-ctx.Done():
			return nil, wait.Ended(ctx)
		}
	}
	conn, err := c.Own.Acquire(ctx)
	if err != nil {
		if l.place != nil {
			<-l.place
		}
		return nil, err
	}
	l.Conn = conn
	return l, nil
}

// none says why there is no connection, and what helps.
func (c *Conns) none(ctx context.Context, err, otherErr error) error {
	if ended := wait.Ended(ctx); ended != nil {
		return fmt.Errorf("%s: %w", c.usage(), ended)
	}
	if err.Error() != otherErr.Error() {
		err = fmt.Errorf("%w; %w", err, otherErr)
	}
	return fmt.Errorf("%s: %w", c.usage(), err)
}

func (c *Conns) usage() string {
	app, own := c.App.Stat(), c.Own.Stat()
	return fmt.Sprintf("no connection (in use are %d of %d of the pool and %d of %d of the store's own; "+
		"raise the pool's MaxConns or hold connections for less time, and let the server take that many)",
		app.AcquiredConns(), app.MaxConns(), own.AcquiredConns(), own.MaxConns())
}

// Close closes the store's own pool.
func (c *Conns) Close() { c.Own.Close() }
