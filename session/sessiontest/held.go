package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/sojourn-go/sojourn/session"
)

func heldCases() []testCase {
	return []testCase{
		{name: "data is the caller's again once a write has returned", run: dataReturns},
		{name: "data is the caller's again once a write is given up", run: dataReturnsEarly},
		{name: "what waits is bounded, and let go of when its callers give up", own: true, run: waitingIsBounded},
	}
}

func dataReturns(e *env) {
	for _, keep := range []bool{false, true} { // Renew with the same user, and with another
		data := []byte(e.unique(private))
		want := bytes.Clone(data)
		scribble := func(what string, rec session.Record, err error) session.Record {
			e.Helper()
			if err != nil {
				e.Fatalf("%s: %v", what, err)
			}
			for i := range data {
				data[i] = '#'
			}
			got, err := e.s.Get(e.ctx, rec.Key)
			if err != nil || !bytes.Equal(got.Data, want) || !bytes.Equal(rec.Data, want) {
				e.Errorf("%s returned %q; Get = %q, %v; want %q", what, rec.Data, got.Data, err, want)
			}
			copy(data, want)
			return rec
		}
		rec := e.recordOf(e.unique("user"))
		rec.Data = data
		made, err := e.s.Create(e.ctx, rec)
		rec = scribble("Create", made, err)
		rec.Data = data
		made, err = e.s.Save(e.ctx, rec)
		rec = scribble("Save", made, err)
		next := e.successor(rec)
		next.Data = data
		if !keep {
			next.User = e.unique("user")
		}
		made, err = e.s.Renew(e.ctx, rec.Key, next, 0)
		scribble("Renew", made, err)
		if p, ok := e.s.(session.Putter); ok {
			rec := e.foreign()
			for range 2 {
				rec.Data = data
				made, err := p.Put(e.ctx, rec)
				scribble("Put", made, err)
			}
		}
		if u, ok := e.s.(session.UserIndex); ok {
			rec := e.recordOf(e.unique("user"))
			rec.Data = data
			made, _, err := u.CreateLimited(e.ctx, rec, session.UserLimit{Max: 2})
			rec = scribble("CreateLimited", made, err)
			next := e.successor(rec)
			next.Data = data
			made, _, err = u.RenewLimited(e.ctx, rec.Key, next, 0, session.UserLimit{Max: 2})
			scribble("RenewLimited", made, err)
		}
	}
}

// dataReturnsEarly: the write may happen, but then with the data that it was
// given.
func dataReturnsEarly(e *env) {
	e.needHold()
	rec := e.create(e.record())
	was, becomes := rec.Data, []byte(e.unique(private))
	rec.Data = bytes.Clone(becomes)
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	given := make(chan error, 1)
	err := e.held(rec, false, false, func() error {
		_, err := e.s.Save(ctx, rec)
		given <- err
		return err
	}, func() {
		cancel()
		if err := <-given; !errors.Is(err, context.Canceled) {
			e.Errorf("Save that was given up: %v", err)
		}
		for i := range rec.Data {
			rec.Data[i] = '#'
		}
	})
	if err == nil {
		e.Error("Save did not wait")
	}
	got, err := fresh(e.ctx, e.s, rec.Key)
	if err != nil || !bytes.Equal(got.Data, was) && !bytes.Equal(got.Data, becomes) {
		e.Errorf("Get = %q, %v; want %q or %q", got.Data, err, was, becomes)
	}
	got.Data = []byte("after")
	for {
		_, err := e.s.Save(e.ctx, got)
		if err == nil {
			return
		}
		if !errors.Is(err, session.ErrConflict) { // the first may have been under way still
			e.Fatalf("Save afterwards: %v", err)
		}
		if got, err = fresh(e.ctx, e.s, rec.Key); err != nil {
			e.Fatalf("Get: %v", err)
		}
	}
}

// waitingIsBounded: many want to write a session that cannot be written.
func waitingIsBounded(e *env) {
	e.needHold()
	if !e.h.Queues {
		e.Skip("Harness.Queues is not set")
	}
	const (
		writers = 1000
		size    = 64 << 10
		most    = 32 << 20 // more than any queue holds by default
	)
	stats := func() session.QueueStats { return e.s.(session.Statser).Stats().Queue }
	rec := e.create(e.record())
	saving := rec
	saving.Data = make([]byte, min(size, e.h.MaxData))
	hold := e.h.Hold(e.T, e.s, rec.Key)
	release := sync.OnceFunc(func() { hold(false) })
	defer release()
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	given := make(chan error, writers)
	for range writers {
		go func() { _, err := e.s.Save(ctx, saving); given <- err }()
	}
	e.eventually("all wait", func() bool { return stats().Writes+stats().Waiting == writers })
	if st := stats(); st.Bytes < 0 || st.Bytes > most {
		e.Errorf("it holds %d MB for %d writes that wait", st.Bytes>>20, writers)
	}
	cancel()
	for range writers {
		if err := <-given; !errors.Is(err, context.Canceled) {
			e.Fatalf("Save that was given up: %v", err)
		}
	}
	e.eventually("nothing is kept", func() bool { st := stats(); return st.Writes == 0 && st.Bytes == 0 && st.Waiting == 0 })
	release()
	got, err := fresh(e.ctx, e.s, rec.Key)
	if err == nil {
		_, err = e.s.Save(e.ctx, got)
	}
	if err != nil {
		e.Errorf("Save afterwards: %v", err)
	}
}
