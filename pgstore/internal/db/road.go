package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Road is how an attempt gets its connection, and for how long it has the
// connection.
type Road struct {
	*Conns
	Control  bool          // what must work whatever the application does
	OwnFirst bool          // the store's own connections are asked before the caller's
	LockWait time.Duration // for each lock
	Places   chan struct{} // to wait for locks in

	limit    time.Duration // of an attempt, from when it has its connection; 0: none, and only the caller's pool will do
	fixed    bool          // the limit is the same for callers who have less time
	lastWait time.Duration // see lastWait
}

// Roads returns the road for what may use the caller's pool, and the one for
// what must not queue behind the caller's queries.
func (c *Conns) Roads() (app, control Road) {
	app = Road{
		Conns: c, LockWait: briefWait, Places: make(chan struct{}, waiters),
		limit: attemptLimit(c.opts.WriteTimeout), fixed: c.opts.Unhurried, lastWait: lastWait(c.opts.WriteTimeout),
	}
	if app.fixed {
		app.limit = c.opts.WriteTimeout
	}
	control = app
	control.Control, control.Places = true, make(chan struct{}, waiters)
	return app, control
}

// Unbounded is the road for a read that takes as long as its caller lets it.
func (c *Conns) Unbounded() Road { return Road{Conns: c} }

const (
	shortestAttempt = time.Second
	longestAttempt  = 2500 * time.Millisecond
)

// attemptLimit is how long an attempt may wait for an answer before another
// connection is tried, given the time that is left for all attempts. Later
// attempts get more. Who has less time than the shortest attempt ends it with its
// context.
func attemptLimit(all time.Duration) time.Duration {
	return max(shortestAttempt, min(all/4, longestAttempt))
}

// Until is the road for callers the first of whom gives up at end. They may have
// less time than the options give.
func (r Road) Until(end time.Time) Road {
	if !r.fixed && !end.IsZero() {
		r.limit = min(r.limit, attemptLimit(time.Until(end)))
	}
	return r
}

// EndsAt is Until for a write that waits for no lock when end is near.
func (r Road) EndsAt(end time.Time) Road {
	r = r.Until(end)
	r.lastWait = lastWait(time.Until(end))
	return r
}

// Try is the road for the n-th attempt. An attempt that had too little time is
// followed by one with more.
func (r Road) Try(n int) Road {
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

// WaitBriefly is the road for a batch that finds out which rows others hold.
func (r Road) WaitBriefly() Road {
	r.LockWait = briefWait
	return r
}

// WaitLonger is the road for the n-th wait for a lock of a write that has a
// place to wait in. Nobody overtakes in the server's queue, and only there. So
// each wait is longer, until it outlasts the transactions that share the lock.
func (r Road) WaitLonger(n int) Road {
	r.OwnFirst, r.LockWait = true, briefWait<<min(n-1, 3)
	return r
}

// ForLocks runs do on the road for a transaction that did not get its locks n
// times.
func (r Road) ForLocks(ctx context.Context, n int, do func(context.Context, Road) error) error {
	if n == 0 {
		r.LockWait = firstWait
		return do(ctx, r)
	}
	select {
	case r.Places <- struct{}{}:
		defer func() { <-r.Places }()
		return do(ctx, r.WaitLonger(n))
	case <-time.After(storekit.Backoff().Before(n)):
		r.LockWait = glance
		return do(ctx, r)
	}
}

// Do lends f a connection until f returns or the limit is over. Then it breaks
// the connection, for nothing else ends a wait for an answer.
func (r Road) Do(ctx context.Context, f func(context.Context, *pgxpool.Conn) error) error {
	all, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.Cut, func() { cancel(session.ErrClosed) })()
	err := r.lendFor(all, f)
	if err != nil && ctx.Err() == nil && all.Err() != nil {
		return fmt.Errorf("%w: %w", session.ErrClosed, err)
	}
	return err
}

func (r Road) lendFor(ctx context.Context, f func(context.Context, *pgxpool.Conn) error) error {
	if r.limit == 0 {
		conn, err := r.App.Acquire(ctx)
		if err != nil {
			return notDone{error: err}
		}
		defer conn.Release()
		return f(ctx, conn)
	}
	conn, err := r.lend(ctx, r.Control, r.OwnFirst)
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
	case r.Cut.Err() != nil:
		conn.breakIt()
	}
	return lostConn{err}
}

const (
	answerTime = 500 * time.Millisecond

	// longestHold is how long a transaction may last where the server can bound
	// it. A transaction that waits for one lock at a time needs less.
	longestHold = 8 * time.Second
)

// lastWait is how long before its end a write waits for a lock for the last
// time. all is how long the write may take; a busy machine takes long for an
// answer too.
func lastWait(all time.Duration) time.Duration { return min(answerTime+all/8, all/2) }

// limits returns how long the server lets a statement wait for a lock and run,
// and the transaction last. They end before ctx does: the server must have time
// to say what came of it, or the outcome would be unknown.
func (r Road) limits(ctx context.Context) []any {
	wait, run, hold := r.LockWait, time.Duration(0), time.Duration(0) // without a bound
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		run = max(left-answerTime, left/2, time.Millisecond)
		wait, hold = min(wait, run), longestHold
	}
	return []any{millis(wait), millis(run), millis(hold)}
}

// millis is d as the server wants it. It does not take fractions.
func millis(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// MayWait reports whether there is time to wait for a lock once more.
func (r Road) MayWait(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(end) > r.lastWait)
}
