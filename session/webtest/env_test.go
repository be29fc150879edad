package webtest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

const (
	patience = dbtest.Patience
	longest  = 30 * 24 * time.Hour // that a session may last, in all stores here
)

// env is what a case works with.
type env struct {
	*testing.T
	s     session.Store // the first node
	nodes [2]session.Store
	ctx   context.Context
	count atomic.Int64
}

func newEnv(t *testing.T, nodes [2]session.Store) *env {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &env{T: t, s: nodes[0], nodes: nodes, ctx: ctx}
}

// node returns the first node for even numbers and the other one for odd ones.
func (e *env) node(i int) session.Store { return e.nodes[i%2] }

func (e *env) now() time.Time { return e.s.(session.Clock).Now() }

// unique returns a text that no other call returns.
func (e *env) unique(prefix string) string {
	return fmt.Sprintf("%s-%s-%d", prefix, session.NewID(time.Now()).Key(), e.count.Add(1))
}

// expire has a session expire, and waits until it has. A touch that was promised
// before may move the expiry once more.
func (e *env) expire(key session.Key) {
	e.Helper()
	const soon = time.Second // a Save that comes later than that ends the session instead
	e.eventually("the session expires", func() bool {
		rec, err := fresh(e.ctx, e.s, key)
		if err == nil && rec.Expires.After(e.now().Add(2*soon)) {
			rec.Expires = e.now().Add(soon)
			_, err = e.s.Save(e.ctx, rec)
		}
		return errors.Is(err, session.ErrNotFound)
	})
	e.eventuallyGone(key)
}

// live returns the session that key leads to.
func (e *env) live(key session.Key) session.Record {
	e.Helper()
	rec, err := e.s.Get(e.ctx, key)
	if err != nil {
		e.Fatalf("Get: %v; want a live session", err)
	}
	return rec
}

// gone checks that no node has a session for key.
func (e *env) gone(key session.Key) {
	e.Helper()
	_, err := e.s.Get(e.ctx, key)
	e.refused("Get", err, session.ErrNotFound)
	_, err = fresh(e.ctx, e.node(1), key)
	e.refused("Get by the other node", err, session.ErrNotFound)
}

// fresh reads past a cache, if there is one.
func fresh(ctx context.Context, s session.Store, key session.Key) (session.Record, error) {
	if f, ok := s.(session.FreshGetter); ok {
		return f.GetFresh(ctx, key)
	}
	return s.Get(ctx, key)
}

// refused checks that err is want.
func (e *env) refused(what string, err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Errorf("%s: %v; want %q", what, err, want)
	}
}

// sameTime checks that two times are one, as far as the stores keep them.
func (e *env) sameTime(what string, got, want time.Time) {
	e.Helper()
	if d := got.Sub(want).Abs(); d >= time.Microsecond {
		e.Errorf("%s is %v; want %v", what, got, want)
	}
}

// eventually waits for something that has to happen.
func (e *env) eventually(what string, happened func() bool) {
	e.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			e.Fatalf("it never happened that %s", what)
		}
	}
}

// eventuallyGone waits until the session of key has ended by the store's clock
// and is served from no cache.
func (e *env) eventuallyGone(key session.Key) {
	e.Helper()
	e.eventually("the session ended", func() bool {
		_, err := fresh(e.ctx, e.s, key)
		return errors.Is(err, session.ErrNotFound)
	})
	for i := range 2 {
		e.eventually("no cache serves the session", func() bool {
			_, err := e.node(i).Get(e.ctx, key)
			return errors.Is(err, session.ErrNotFound)
		})
	}
	e.gone(key)
}
