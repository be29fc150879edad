package sessiontest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func endingCases() []testCase {
	return []testCase{
		{name: "every method ends with its context", own: true, run: contextsEnd},
		{name: "a write that waits can be given up", own: true, run: giveUp},
		{name: "every method of a closed store says so", own: true, run: closedSaysSo},
		{name: "close can be called again, and at once", own: true, run: closeAgain},
		{name: "close is not held up beyond its context", own: true, run: closeGivesUp},
		{name: "close lets a write finish that waits for a lock", own: true, run: closeAwaits},
		{name: "close loses no write", own: true, run: closeWhileWriting},
	}
}

// call is a method with arguments that are right as long as rec is live.
type call struct {
	name string
	do   func(ctx context.Context) error
}

func (e *env) calls(s session.Store, rec session.Record) []call {
	user := e.unique("user")
	limit := session.UserLimit{Max: 1, Evict: true}
	calls := []call{
		{"Get", func(ctx context.Context) error { _, err := s.Get(ctx, rec.Key); return err }},
		{"Get of a foreign key", func(ctx context.Context) error { _, err := s.Get(ctx, e.foreign().Key); return err }},
		{"Create", func(ctx context.Context) error { _, err := s.Create(ctx, e.record()); return err }},
		{"Create with a foreign key", func(ctx context.Context) error { _, err := s.Create(ctx, e.foreign()); return err }},
		{"Save", func(ctx context.Context) error { _, err := s.Save(ctx, rec); return err }},
		{"Touch", func(ctx context.Context) error { _, err := s.Touch(ctx, rec.Key, rec.Deadline); return err }},
		{"Renew", func(ctx context.Context) error { _, err := s.Renew(ctx, rec.Key, e.successor(rec), 0); return err }},
		{"Destroy", func(ctx context.Context) error { _, err := s.Destroy(ctx, rec.Key); return err }},
		{"Destroy of nothing", func(ctx context.Context) error { _, err := s.Destroy(ctx); return err }},
	}
	if x, ok := s.(session.Putter); ok {
		calls = append(calls, call{"Put", func(ctx context.Context) error { _, err := x.Put(ctx, rec); return err }})
	}
	if x, ok := s.(session.Lister); ok {
		calls = append(calls,
			call{"Len", func(ctx context.Context) error { _, err := x.Len(ctx); return err }},
			call{"Keys", func(ctx context.Context) (err error) {
				for _, err = range x.Keys(ctx) {
				}
				return err
			}},
			call{"All", func(ctx context.Context) (err error) {
				for _, err = range x.All(ctx) {
				}
				return err
			}})
	}
	if x, ok := s.(session.Clearer); ok {
		calls = append(calls, call{"Clear", func(ctx context.Context) error { _, err := x.Clear(ctx); return err }})
	}
	if x, ok := s.(session.UserIndex); ok {
		calls = append(calls,
			call{"ListUser", func(ctx context.Context) error { _, err := x.ListUser(ctx, user, session.Record{}, 1000); return err }},
			call{"CountUser", func(ctx context.Context) error { _, err := x.CountUser(ctx, user); return err }},
			call{"DestroyUser", func(ctx context.Context) error { _, err := x.DestroyUser(ctx, rec.User); return err }},
			call{"CreateLimited", func(ctx context.Context) error {
				_, _, err := x.CreateLimited(ctx, e.recordOf(rec.User), limit)
				return err
			}},
			call{"RenewLimited", func(ctx context.Context) error {
				_, _, err := x.RenewLimited(ctx, rec.Key, e.successor(rec), 0, limit)
				return err
			}})
	}
	if x, ok := s.(session.Pruner); ok {
		calls = append(calls, call{"PruneNow", func(ctx context.Context) error { _, err := x.PruneNow(ctx); return err }})
	}
	if x, ok := s.(session.FreshGetter); ok {
		calls = append(calls, call{"GetFresh", func(ctx context.Context) error { _, err := x.GetFresh(ctx, rec.Key); return err }})
	}
	if x, ok := s.(session.NodeWaiter); ok {
		calls = append(calls, call{"WaitForAllNodes", func(ctx context.Context) error { return x.WaitForAllNodes(ctx) }},
			call{"DestroyOnAllNodes", func(ctx context.Context) error { _, err := x.DestroyOnAllNodes(ctx, rec.Key); return err }})
	}
	if x, ok := s.(session.LateToucher); ok {
		calls = append(calls, call{"TouchLater", func(ctx context.Context) error {
			_, err := x.TouchLater(ctx, rec.Key, rec.Deadline)
			return err
		}})
	}
	if x, ok := s.(session.Explainer); ok {
		calls = append(calls,
			call{"Fate", func(ctx context.Context) error { _, err := x.Fate(ctx, rec.Key); return err }},
			call{"Fate of a foreign key", func(ctx context.Context) error { _, err := x.Fate(ctx, e.foreign().Key); return err }})
	}
	return calls
}

func contextsEnd(e *env) {
	rec := e.recordOf(e.unique("user"))
	rec.Expires = rec.Deadline.Add(-time.Minute)
	rec = e.create(rec)
	e.live(rec.Key)
	cancelled, cancel := context.WithCancelCause(e.ctx)
	cancel(errors.New("the reason"))
	late, cancelLate := context.WithDeadline(e.ctx, time.Now().Add(-time.Second))
	defer cancelLate()
	for _, c := range e.calls(e.s, rec) {
		e.refused(c.name+" with a cancelled context", c.do(cancelled), context.Canceled)
		e.refused(c.name+" past its context's deadline", c.do(late), context.DeadlineExceeded)
		got, err := fresh(e.ctx, e.s, rec.Key)
		if err != nil {
			e.Fatalf("Get after %s: %v", c.name, err)
		}
		e.same("after "+c.name, got, rec)
	}
	if has(e.s, Lister) {
		e.wantListed(rec)
	}
}

func giveUp(e *env) {
	e.needHold()
	for _, w := range lateWritesOf(e.s) {
		if w.unseen {
			continue
		}
		rec := e.create(e.recordOf(e.unique("user")))
		next := e.successor(rec)
		ctx, cancel := context.WithCancel(e.ctx)
		unlock := e.h.Hold(e.T, e.s, rec.Key)
		unlockOnce := sync.OnceFunc(func() { unlock(false) })
		e.Cleanup(unlockOnce)
		done := make(chan error, 1)
		go func() { done <- w.do(ctx, e.s, rec, next) }()
		e.eventually("the write waited for the lock", func() bool { return e.h.Waiting(e.T, e.s) > 0 })
		cancel()
		var err error
		select {
		case err = <-done:
		case <-e.ctx.Done():
			unlockOnce()
			e.Fatalf("%s waited on after its context had ended", w.name)
		}
		unlockOnce()
		e.refused(w.name, err, context.Canceled)
		if !errors.Is(err, session.ErrUnknown) {
			// It says that nothing was changed, so nothing may change later.
			saved := e.save(rec)
			e.same("Save after "+w.name+" was given up", saved, session.Record{
				Key: rec.Key, Version: e.newer("Save", saved, rec.Version), Created: rec.Created, Expires: rec.Expires,
				Deadline: rec.Deadline, User: rec.User, Data: rec.Data,
			})
			e.gone(next.Key)
		}
	}
}

func (e *env) close(s session.Store) {
	e.Helper()
	if err := s.Close(e.ctx); err != nil {
		e.Fatalf("Close: %v", err)
	}
}

func closedSaysSo(e *env) {
	rec := e.recordOf(e.unique("user"))
	rec = e.create(rec)
	e.live(rec.Key)
	e.close(e.s)
	for _, c := range e.calls(e.s, rec) {
		e.refused(c.name, c.do(e.ctx), session.ErrClosed)
	}
	if c, ok := e.s.(session.Clock); ok {
		if c.Now().IsZero() || c.Longest() == 0 {
			e.Error("a closed store does not tell the time or the longest lifetime")
		}
	}
	if s, ok := e.s.(session.Statser); ok && s.Stats().Creates != 1 {
		e.Errorf("a closed store's stats count %d creates; want 1", s.Stats().Creates)
	}
	if p, ok := e.s.(session.Pruner); ok {
		p.StartPruning()
		if err := p.StopPruning(e.ctx); err != nil {
			e.refused("StopPruning", err, session.ErrClosed)
		}
	}
	e.close(e.s)
}

func closeAgain(e *env) {
	e.create(e.record())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := e.s.Close(e.ctx); err != nil {
				e.Errorf("Close: %v", err)
			}
		})
	}
	wg.Wait()
	_, err := e.s.Create(e.ctx, e.record())
	e.refused("Create", err, session.ErrClosed)
	e.close(e.s)
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	if err := e.s.Close(ctx); err != nil {
		e.refused("Close with a cancelled context", err, context.Canceled)
	}
}

func closeGivesUp(e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	if err := e.s.Close(ctx); err != nil {
		e.refused("Close with a cancelled context", err, context.Canceled)
	}
	_, err := e.s.Create(e.ctx, e.record())
	e.refused("Create", err, session.ErrClosed)
	e.close(e.s)
}

func closeAwaits(e *env) {
	e.needHold()
	rec := e.create(e.record())
	reader := e.peer()
	var closing sync.WaitGroup
	changed := rec
	changed.Data = []byte("changed")
	err := e.held(rec, false, false, func() error {
		_, err := e.s.Save(e.ctx, changed)
		return err
	}, func() {
		closing.Go(func() {
			if err := e.s.Close(e.ctx); err != nil {
				e.Errorf("Close: %v", err)
			}
		})
	})
	closing.Wait()
	if err != nil {
		e.refused("Save", err, session.ErrClosed, session.ErrUnknown)
	}
	if reader == e.s {
		return
	}
	got, readErr := fresh(e.ctx, reader, rec.Key)
	if readErr != nil {
		e.Fatalf("Get: %v", readErr)
	}
	switch saved := got.Version > rec.Version; {
	case err == nil && !saved:
		e.Error("an acknowledged Save is lost")
	case err != nil && !errors.Is(err, session.ErrUnknown) && saved:
		e.Errorf("a refused Save took place: %v", err)
	}
}

// closeWhileWriting: each write either takes place and says so, or says that
// it does not or might.
func closeWhileWriting(e *env) {
	const writers = 32
	reader := e.peer()
	type outcome struct {
		rec session.Record // as it was acknowledged last
		err error          // of the write after that
		key session.Key    // of what that write would have created
	}
	outcomes := make([]outcome, writers)
	for i := range writers {
		outcomes[i].rec = e.create(e.record())
	}
	created := make([][]session.Key, 4)
	var wg sync.WaitGroup
	var written atomic.Int64
	enough := make(chan struct{})
	for i := range created {
		wg.Go(func() {
			for {
				rec, err := e.s.Create(e.ctx, e.record())
				if err != nil {
					e.refused("a Create during Close", err, session.ErrClosed, session.ErrUnknown)
					return
				}
				created[i] = append(created[i], rec.Key)
			}
		})
	}
	for i := range writers {
		o := &outcomes[i]
		wg.Go(func() {
			for n := 1; o.err == nil; n++ {
				var got session.Record
				if n%4 == 0 {
					next := e.successor(o.rec)
					o.key = next.Key
					got, o.err = e.s.Renew(e.ctx, o.rec.Key, next, 0)
				} else {
					o.key = session.Key{}
					got, o.err = e.s.Save(e.ctx, o.rec)
				}
				if o.err == nil {
					o.rec = got
				}
				if written.Add(1) == 4*writers {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-e.ctx.Done():
		e.Fatalf("writes did not get on: %d of %d", written.Load(), 4*writers)
	}
	e.close(e.s)
	wg.Wait()
	for _, key := range slices.Concat(created...) {
		if reader == e.s {
			break
		}
		if _, err := fresh(e.ctx, reader, key); err != nil {
			e.Errorf("an acknowledged Create is lost: %v", err)
		}
	}
	for _, o := range outcomes {
		e.refused("a write during Close", o.err, session.ErrClosed, session.ErrUnknown)
		if reader == e.s {
			continue
		}
		unknown := errors.Is(o.err, session.ErrUnknown)
		got, err := fresh(e.ctx, reader, o.rec.Key)
		switch {
		case err != nil && unknown && !o.key.IsZero():
			if _, err := fresh(e.ctx, reader, o.key); err != nil {
				e.Errorf("neither the old nor the renewed session is there: %v", err)
			}
			continue
		case err != nil:
			e.Errorf("an acknowledged write is lost: %v", err)
			continue
		case unknown && got.Version > o.rec.Version:
			continue
		}
		e.same("Get by the other node after Close", got, o.rec)
		if !o.key.IsZero() {
			_, err = fresh(e.ctx, reader, o.key)
			e.refused("Get of what a refused Renew would have made", err, session.ErrNotFound)
		}
	}
}
