package leader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
)

// Term is one stretch of leadership, given to the work. Its methods may be
// called by several goroutines, also after the term has ended.
type Term[C any] struct {
	// Number counts the terms of this call of [Run], from 1.
	Number int64
	// Since is when the lock was found to be ours.
	Since time.Time

	session Session[C]
	opts    Options
	leading context.Context
	cancel  context.CancelCauseFunc
	busy    chan struct{} // holds a token while somebody uses the session
}

// usingTerm is the context key under which Do leaves its term for f.
type usingTerm struct{}

// Do calls f with the connection that holds the lock, for f alone. What f does
// there is fenced: when the session ends, the lock and f's statements end with
// it, so no other leader can have begun before. Work that goes over any other
// connection has no such protection.
//
// The context of f ends with ctx, with the term, and after limit, which must be
// positive. While f runs nobody verifies the lock, so limit is also for how long
// a dead connection may go unnoticed: when it is exceeded the term ends with
// [ErrLost]. The lock is verified as soon as f has returned; when Do returns nil
// it was held all the time.
//
// f must leave the connection outside of any transaction and must not keep it.
// Do returns an error of f, which by itself does not end the term. A broken
// connection does, and with most drivers a ctx that ends while a statement runs
// breaks it. Do waits while another one uses the connection; a Do inside f's
// context is an error. Once the term has ended, Do returns the cause.
func (t *Term[C]) Do(ctx context.Context, limit time.Duration, f func(ctx context.Context, conn C) error) error {
	if limit <= 0 {
		return fmt.Errorf("leader: Term.Do: limit is %v; it must be positive", limit)
	}
	if ctx.Value(usingTerm{}) == t {
		return errors.New("leader: Term.Do: called inside of another Do of the same term")
	}
	select {
	case <-t.leading.Done():
	case <-ctx.Done():
	case t.busy <- struct{}{}:
		defer func() { <-t.busy }()
	}
	if err := cmp.Or(context.Cause(t.leading), context.Cause(ctx)); err != nil {
		return fmt.Errorf("leader: Term.Do: not started: %w", err)
	}

	err := t.use(ctx, limit, f)
	if lost := t.lost(); lost != nil {
		if err == nil {
			return lost
		}
		return fmt.Errorf("%w; what ran then failed with: %w", lost, err)
	}
	// Not under the term's context: a shutdown would tear down the connection on
	// which f has just succeeded.
	gone := limited(context.WithoutCancel(ctx), "verify", t.opts.Timeout, t.session.Verify)
	switch {
	case gone == nil:
		return err
	case err == nil:
		return t.lose(gone)
	default:
		return t.lose(fmt.Errorf("%w; then: %w", err, gone))
	}
}

// use runs f within the term, ctx and limit.
func (t *Term[C]) use(ctx context.Context, limit time.Duration, f func(context.Context, C) error) error {
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, usingTerm{}, t))
	defer cancel(nil)
	defer context.AfterFunc(t.leading, func() { cancel(context.Cause(t.leading)) })()

	over := fmt.Errorf("a call of Term.Do took longer than its limit of %v", limit)
	ctx, stop := context.WithTimeoutCause(ctx, limit, over)
	defer stop()
	// f may ignore its context; the term ends on time all the same.
	defer context.AfterFunc(ctx, func() {
		if context.Cause(ctx) == over {
			t.lose(over)
		}
	})()

	finished := false
	defer func() {
		switch {
		case !finished: // a panic: nobody knows what state the connection is in
			t.lose(errors.New("a call of Term.Do did not return"))
		case context.Cause(ctx) == over:
			t.lose(over)
		}
	}()
	err := f(ctx, t.session.Conn())
	finished = true
	return err
}

// lose ends the term unless it has ended already.
func (t *Term[C]) lose(cause error) error {
	lost := fmt.Errorf("%w: %w", ErrLost, cause)
	t.cancel(lost)
	return lost
}

// lost returns the cause when the term ended because the lock may be gone.
func (t *Term[C]) lost() error {
	if cause := context.Cause(t.leading); errors.Is(cause, ErrLost) {
		return cause
	}
	return nil
}

// keep watches over the lock until the term ends or work has returned, then
// gives it back. It owns the session's end.
func (t *Term[C]) keep(returned <-chan struct{}, r *reporter) {
	t.watch(returned)
	if lost := t.lost(); lost != nil {
		r.lost(t.Number, lost)
	} else if !closedWithin(returned, resignGrace) {
		r.stuck(t.Number)
	}
	t.cancel(nil) // no Do begins from here on

	select {
	case t.busy <- struct{}{}:
	default:
		ctx, stop := context.WithTimeout(context.WithoutCancel(t.leading), t.opts.Timeout)
		t.session.Cut(ctx)
		stop()
		t.busy <- struct{}{} // the Do that uses it returns now that it is broken
	}
	hangUp(t.leading, t.session, t.opts.Timeout, r)
	<-t.busy
}

// watch verifies the lock from time to time, whenever no Do uses the session.
func (t *Term[C]) watch(returned <-chan struct{}) {
	timer := time.NewTimer(wait.Jitter(t.opts.Verify))
	defer timer.Stop()
	for {
		select {
		case <-t.leading.Done():
			return
		case <-returned:
			return
		case <-timer.C:
		}
		select {
		case <-t.leading.Done():
			return
		case <-returned:
			return
		case t.busy <- struct{}{}:
		}
		err := limited(t.leading, "verify", t.opts.Timeout, t.session.Verify)
		<-t.busy
		if err != nil {
			t.lose(err)
			return
		}
		timer.Reset(wait.Jitter(t.opts.Verify))
	}
}

// closedWithin reports whether c was closed before d had passed.
func closedWithin(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}
