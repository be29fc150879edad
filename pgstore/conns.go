package pgstore

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// conns decides which connection a statement gets. The caller's pool and the
// store's own stand in for each other. So neither an application that holds all
// of its connections nor some that have fallen silent hold up the store.
type conns struct {
	app, own *pgxpool.Pool
	spare    chan struct{} // places in own for statements that have the caller's pool
	cut      context.Context
	doubted  atomic.Pointer[time.Time] // until then the caller's pool comes second
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

func newConns(ctx context.Context, app *pgxpool.Pool, cut context.Context) (*conns, error) {
	own, err := ownPool(ctx, app, ownConns)
	return &conns{app: app, own: own, spare: make(chan struct{}, spareConns), cut: cut}, err
}

// ownPool makes connections of the store's own from the caller's settings.
func ownPool(ctx context.Context, pool *pgxpool.Pool, conns int32) (*pgxpool.Pool, error) {
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

// road is how an attempt gets its connection, and for how long it has the
// connection.
type road struct {
	*conns
	control  bool          // what must work whatever the application does
	own      bool          // the store's own connections come first
	limit    time.Duration // of an attempt, from when it has its connection; 0: none, and only the caller's pool will do
	fixed    bool          // the limit is the same for callers who have less time
	lastWait time.Duration // see lastWait
	lockWait time.Duration // for each lock
	places   chan struct{} // to wait for locks in
}

// until is the road for callers the first of whom gives up at end. They may have
// less time than the options give.
func (r road) until(end time.Time) road {
	if !r.fixed && !end.IsZero() {
		r.limit = min(r.limit, attemptLimit(time.Until(end)))
	}
	return r
}

// try is the road for the n-th attempt. An attempt that had too little time is
// followed by one with more.
func (r road) try(n int) road {
	r.limit <<= min(n-1, 4)
	return r
}

const (
	// briefWait is longer than a batch of another node keeps its rows.
	briefWait = 50 * time.Millisecond
	// firstWait is longer than most transactions that take one lock after another.
	firstWait = 10 * time.Millisecond
	// glance is how long a write without a place to wait in waits for a lock.
	glance = time.Millisecond
)

// waitBriefly is the road for a batch that finds out which rows others hold.
func (r road) waitBriefly() road {
	r.lockWait = briefWait
	return r
}

// waitLonger is the road for the n-th wait for a lock of a write that has a
// place to wait in. Nobody overtakes in the server's queue, and only there. So
// each wait is longer, until it outlasts the transactions that share the lock.
func (r road) waitLonger(n int) road {
	r.own, r.lockWait = true, briefWait<<min(n-1, 3)
	return r
}

// forLocks runs do on the road for a transaction that did not get its locks n
// times.
func (r road) forLocks(ctx context.Context, n int, do func(context.Context, road) error) error {
	if n == 0 {
		r.lockWait = firstWait
		return do(ctx, r)
	}
	select {
	case r.places <- struct{}{}:
		defer func() { <-r.places }()
		return do(ctx, r.waitLonger(n))
	case <-time.After(storekit.Backoff().Before(n)):
		r.lockWait = glance
		return do(ctx, r)
	}
}

// do lends f a connection until f returns or the limit is over. Then it breaks
// the connection, for nothing else ends a wait for an answer.
func (r road) do(ctx context.Context, f func(context.Context, *pgxpool.Conn) error) error {
	all, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.cut, func() { cancel(session.ErrClosed) })()
	err := r.lendFor(all, f)
	if err != nil && ctx.Err() == nil && all.Err() != nil {
		return fmt.Errorf("%w: %w", session.ErrClosed, err)
	}
	return err
}

func (r road) lendFor(ctx context.Context, f func(context.Context, *pgxpool.Conn) error) error {
	if r.limit == 0 {
		conn, err := r.app.Acquire(ctx)
		if err != nil {
			return notDone{error: err}
		}
		defer conn.Release()
		return f(ctx, conn)
	}
	conn, err := r.lend(ctx, r.control, r.own)
	if err != nil {
		return notDone{error: err}
	}
	defer conn.giveBack()
	call, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	err = f(call, conn.Conn)
	if err == nil || !conn.lost() {
		return err
	}
	switch {
	case ctx.Err() == nil && call.Err() != nil:
		r.fellSilent(conn)
		err = fmt.Errorf("no answer within %v: %w", r.limit, err)
	case r.cut.Err() != nil:
		conn.breakIt()
	}
	return lostConn{err}
}

// lostConn marks an error after which the connection is gone.
type lostConn struct{ error }

func (e lostConn) Unwrap() error { return e.error }

// fellSilent breaks conn, and notes that other connections of its pool may have
// fallen silent too.
func (c *conns) fellSilent(conn *lent) {
	conn.breakIt()
	if conn.own {
		c.own.Reset()
	} else {
		c.doubt()
	}
}

// doubt has the caller's pool come second for a moment.
func (c *conns) doubt() {
	until := time.Now().Add(doubtFor)
	c.doubted.Store(&until)
}

func (c *conns) inDoubt() bool {
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
func (c *conns) lend(ctx context.Context, control, own bool) (*lent, error) {
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
			c.doubt() // so that not each statement waits for it
		}
		return other, nil
	}
	return nil, c.none(ctx, err, otherErr)
}

func (c *conns) ofApp(ctx context.Context) (*lent, error) {
	conn, err := c.app.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	return &lent{Conn: conn}, nil
}

func (c *conns) ofOwn(ctx context.Context, control bool) (*lent, error) {
	l := &lent{own: true}
	if !control {
		select {
		case c.spare <- struct{}{}:
			l.place = c.spare
		case <-ctx.Done():
			return nil, wait.Ended(ctx)
		}
	}
	conn, err := c.own.Acquire(ctx)
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
func (c *conns) none(ctx context.Context, err, otherErr error) error {
	if ended := wait.Ended(ctx); ended != nil {
		return fmt.Errorf("%s: %w", c.usage(), ended)
	}
	if err.Error() != otherErr.Error() {
		err = fmt.Errorf("%w; %w", err, otherErr)
	}
	return fmt.Errorf("%s: %w", c.usage(), err)
}

func (c *conns) usage() string {
	app, own := c.app.Stat(), c.own.Stat()
	return fmt.Sprintf("no connection (in use are %d of %d of the pool and %d of %d of the store's own; "+
		"raise the pool's MaxConns or hold connections for less time, and let the server take that many)",
		app.AcquiredConns(), app.MaxConns(), own.AcquiredConns(), own.MaxConns())
}

func (c *conns) close() { c.own.Close() }
