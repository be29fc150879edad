package sessiontest

import (
	"context"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// lateWrite is a write that needs a live session, which was rec when it began.
type lateWrite struct {
	name string
	// unseen writes may wait in other ways than for the lock.
	unseen bool
	do     func(ctx context.Context, s session.Store, rec, next session.Record) error
}

func lateWritesOf(s session.Store) []lateWrite {
	writes := []lateWrite{
		{name: "Save", do: func(ctx context.Context, s session.Store, rec, _ session.Record) error {
			_, err := s.Save(ctx, rec)
			return err
		}},
		{name: "Touch", unseen: true, do: func(ctx context.Context, s session.Store, rec, _ session.Record) error {
			_, err := s.Touch(ctx, rec.Key, rec.Deadline)
			return err
		}},
		{name: "Renew", do: func(ctx context.Context, s session.Store, rec, next session.Record) error {
			_, err := s.Renew(ctx, rec.Key, next, time.Minute)
			return err
		}},
	}
	if has(s, Putter) {
		writes = append(writes, lateWrite{name: "Put", do: func(ctx context.Context, s session.Store, rec, _ session.Record) error {
			_, err := s.(session.Putter).Put(ctx, rec)
			return err
		}})
	}
	if has(s, UserIndex) {
		writes = append(writes, lateWrite{name: "RenewLimited", do: func(ctx context.Context, s session.Store, rec, next session.Record) error {
			_, _, err := s.(session.UserIndex).RenewLimited(ctx, rec.Key, next, 0, session.UserLimit{Max: 2})
			return err
		}})
	}
	return writes
}

// held runs write while the row of rec is locked, and returns its result. When
// write waits, it does what is to be done meanwhile and ends the lock.
func (e *env) held(rec session.Record, unseen, expire bool, write func() error, meanwhile ...func()) error {
	e.Helper()
	release := e.h.Hold(e.T, e.s, rec.Key)
	// A failure in between must not leave the lock.
	once := sync.OnceFunc(func() { release(expire) })
	defer once()
	done := make(chan error, 1)
	go func() { done <- write() }()
	start := time.Now()
	e.eventually("the write waited for the lock", func() bool {
		select {
		case err := <-done:
			e.Fatalf("the write did not wait for the lock: %v", err)
		default:
		}
		return e.h.Waiting(e.T, e.s) > 0 || unseen && time.Since(start) > 300*time.Millisecond
	})
	for _, f := range meanwhile {
		f()
	}
	once()
	return <-done
}

func (e *env) needHold() {
	if e.h.Hold == nil {
		e.Skip("Harness.Hold is nil")
	}
}

func waitedPastExpiry(e *env) {
	e.needHold()
	for _, w := range lateWritesOf(e.s) {
		for _, rec := range []session.Record{e.record(), e.foreign()} {
			rec.User = e.unique("user")
			rec = e.create(rec)
			next := e.successor(rec)
			err := e.held(rec, w.unseen, true, func() error { return w.do(e.ctx, e.s, rec, next) })
			e.refused(w.name, err, session.ErrNotFound)
			e.gone(rec.Key)
			e.gone(next.Key)
		}
	}
	rec := e.create(e.record())
	var n int64
	err := e.held(rec, false, true, func() (err error) {
		n, err = e.s.Destroy(e.ctx, rec.Key)
		return err
	})
	if n != 0 || err != nil {
		e.Errorf("Destroy of a session that expired meanwhile = %d, %v; want 0, nil", n, err)
	}
	e.gone(rec.Key)
}

func waitedForLock(e *env) {
	e.needHold()
	for _, w := range lateWritesOf(e.s) {
		rec := e.create(e.recordOf(e.unique("user")))
		next := e.successor(rec)
		if err := e.held(rec, w.unseen, false, func() error { return w.do(e.ctx, e.s, rec, next) }); err != nil {
			e.Errorf("%s: %v", w.name, err)
		}
	}
}

func destroyWaited(e *env) {
	e.needHold()
	rec := e.create(e.record())
	var n int64
	err := e.held(rec, false, false, func() (err error) {
		n, err = e.s.Destroy(e.ctx, rec.Key)
		return err
	})
	if n != 1 || err != nil {
		e.Errorf("Destroy = %d, %v; want 1, nil", n, err)
	}
	e.gone(rec.Key)
}
