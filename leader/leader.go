package leader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
)

// Locker opens sessions that can take one and the same lock. C is the type of
// the connection that the work gets. It must be safe for concurrent use.
type Locker[C any] interface {
	// Open makes a connection of its own, never one of a pool: any other user
	// of that would share the lock. The server has to end the session once
	// nothing was heard of it for as long as silence, also in a transaction.
	Open(ctx context.Context, silence time.Duration) (Session[C], error)
}

// Session is one connection that can hold the lock. Ending it, in whatever way,
// gives the lock back. All methods but Cut are called by one goroutine at a
// time, and never while the connection is in use by somebody else.
type Session[C any] interface {
	// TryLock takes the lock if it is free and never waits for it. After an
	// error the lock may have been granted all the same, so the session is then
	// closed. It is not called again once it has returned true: such locks may
	// be re-entrant.
	TryLock(ctx context.Context) (bool, error)
	// Verify returns nil when the server says that this very session holds the
	// lock and could still write, else what is wrong.
	Verify(ctx context.Context) error
	// Conn is the connection that holds the lock.
	Conn() C
	// Close ends the session in good order, waiting no longer than ctx; the
	// connection is closed in any case. It may be called again and after Cut.
	Close(ctx context.Context) error
	// Cut breaks the connection while it is in use and asks the server, for no
	// longer than ctx, to stop the statement. It may be called at any time from
	// any goroutine.
	Cut(ctx context.Context)
}

// resignGrace is how long a stopped work may hold on to its session. It keeps
// the usual shutdown free of overlap and is short enough for the next leader to
// start within two seconds.
const resignGrace = time.Second

// Run takes part in the election until ctx ends, calling work whenever this
// process leads. It blocks, and when it returns work has returned, the session
// is closed and no goroutine is left.
//
// work gets a context that ends when the term does: with [ErrLost] in its cause
// as soon as the lock may be gone, or with the cause of ctx. work must return
// soon after, and Run waits for it. The lock does not wait. If the lock is
// lost, the session is cut at once. If ctx ends and work has not returned
// within one second, its session is cut then. Statements that run on a session
// that is cut fail. When work returns by itself, with nil or an error, Run
// gives the lock back, logs the error, and competes again after a pause. The
// pause is about Poll, and doubles up to MaxBackoff with each failure in a row.
// A panic of work ends Run with the lock given back.
//
// Run returns nil once ctx has ended. It returns an error only for what time
// does not heal: options out of range, before anything is started, and
// [ErrPooled]. All other failures are retried, logged and shown in the [State].
func Run[C any](ctx context.Context, locker Locker[C], opts Options, work func(leading context.Context, term *Term[C]) error) error {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return err
	}
	if locker == nil || work == nil {
		return errors.New("leader: Run needs a locker and a work")
	}
	e := &elector[C]{locker: locker, opts: opts, work: work, report: newReporter(opts)}
	for ctx.Err() == nil {
		s, err := e.campaign(ctx)
		switch {
		case ctx.Err() != nil && err != nil:
			return nil
		case err != nil:
			return err
		}
		wait.Sleep(ctx, e.lead(ctx, s))
	}
	return nil
}

// MinSilence is how long a session may be silent at the very least, in every
// database. A healthy process needs less from one statement to the next, and a
// frozen one holds up the others for no longer.
const MinSilence = 10 * time.Second

type elector[C any] struct {
	locker Locker[C]
	opts   Options
	work   func(context.Context, *Term[C]) error
	report *reporter

	terms  int64
	failed int // terms in a row that ended in a failure
}

// campaign competes until a session holds the lock. It fails only when ctx ends
// or when there is no point in going on.
func (e *elector[C]) campaign(ctx context.Context) (Session[C], error) {
	failures := 0
	for {
		s, polled, err := e.follow(ctx)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			e.report.disconnected()
			return nil, err
		}
		e.report.cannotCompete(err)
		if errors.Is(err, ErrPooled) {
			return nil, err
		}
		if polled {
			failures = 0
		}
		// The first failure is most often an old connection: try a new one at once.
		if failures++; failures > 1 {
			wait.Sleep(ctx, e.opts.backoff(failures-2))
		}
	}
}

// follow opens a session and polls with it until it holds the lock. polled says
// that it had waited at least once, so that a caller which retries at once does
// not spin. A session that failed is closed, because it may hold the lock.
func (e *elector[C]) follow(ctx context.Context) (s Session[C], polled bool, err error) {
	err = limited(ctx, "connect", e.opts.ConnectTimeout, func(ctx context.Context) (err error) {
		s, err = e.locker.Open(ctx, e.opts.silence())
		return err
	})
	if err != nil {
		return nil, false, err
	}
	for {
		granted := false
		err = limited(ctx, "lock", e.opts.Timeout, func(ctx context.Context) (err error) {
			granted, err = s.TryLock(ctx)
			return err
		})
		if err == nil && granted {
			// Some servers say yes to every lock: the proof is that it is listed.
			err = limited(ctx, "verify", e.opts.Timeout, s.Verify)
		}
		if err != nil {
			hangUp(ctx, s, e.opts.Timeout, e.report)
			return nil, polled, err
		}
		if granted {
			return s, polled, nil
		}
		e.report.following()
		if !wait.Sleep(ctx, wait.Jitter(e.opts.Poll)) {
			hangUp(ctx, s, e.opts.Timeout, e.report)
			return nil, true, context.Cause(ctx)
		}
		polled = true
	}
}

// lead runs work for one term on a session that holds the lock and returns how
// long to wait before competing again.
func (e *elector[C]) lead(ctx context.Context, s Session[C]) time.Duration {
	e.terms++
	leading, cancel := context.WithCancelCause(ctx)
	t := &Term[C]{
		Number:  e.terms,
		Since:   time.Now(),
		session: s,
		opts:    e.opts,
		leading: leading,
		cancel:  cancel,
		busy:    make(chan struct{}, 1),
	}
	e.report.leading(t.Number)

	returned, kept := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(kept)
		t.keep(returned, e.report)
	}()
	var end error // why leading had ended when work returned; nil: it had not
	err := func() error {
		defer func() { // also when work panics or ends its goroutine
			end = context.Cause(leading)
			close(returned)
			<-kept
		}()
		return e.work(leading, t)
	}()
	if end != nil && (errors.Is(err, end) || errors.Is(err, leading.Err())) {
		err = nil // work says that its term has ended, which is no news
	}
	failed := err != nil || errors.Is(end, ErrLost)
	if !failed || time.Since(t.Since) > e.opts.MaxBackoff {
		e.failed = 0
		e.report.forgetTerms()
	}
	if failed {
		e.failed++
	}
	e.report.ended(t.Number, err)
	return e.opts.backoff(e.failed)
}

// hangUp ends a session that nobody uses. It outlives ctx, which has often ended.
func hangUp[C any](ctx context.Context, s Session[C], limit time.Duration, r *reporter) {
	if ctx.Err() != nil { // the caller that stopped it waits for this
		limit = min(limit, resignGrace)
	}
	if err := limited(context.WithoutCancel(ctx), "close", limit, s.Close); err != nil {
		r.closeFailed(err)
	}
}

// backoff is the wait after n failures in a row: Poll doubled n times, capped,
// jittered.
func (o Options) backoff(n int) time.Duration {
	return wait.Backoff{First: o.Poll, Most: max(o.MaxBackoff, o.Poll)}.Before(n + 1)
}

// limited runs f and names in its error what was not done in time.
func limited(ctx context.Context, what string, limit time.Duration, f func(context.Context) error) error {
	call, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(call)
	switch {
	case err == nil:
		return nil
	case call.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("leader: %s: no answer within %v: %w", what, limit, err)
	default:
		return fmt.Errorf("leader: %s: %w", what, err)
	}
}
