package sessiontest

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func narrowCases() []testCase {
	return []testCase{
		{name: "smaller limits hide nothing that exists", own: true, run: narrowed},
	}
}

// narrowed uses sessions that nobody could create under the limits of now.
func narrowed(e *env) {
	if e.h.Narrow == nil {
		e.Skip("the harness cannot make limits smaller")
	}
	user := strings.Repeat("u", 60)
	make := func(foreign bool) session.Record {
		rec := e.recordUntil(e.now().Add(e.h.Longest - time.Hour))
		if foreign {
			rec.Key = e.foreign().Key
		}
		rec.User, rec.Data = user, bytes.Repeat([]byte("x"), 1000)
		return e.create(rec)
	}
	var recs []session.Record
	for _, foreign := range []bool{false, true} {
		for range 6 {
			recs = append(recs, make(foreign))
		}
	}
	s := e.h.Narrow(e.T, e.s)
	closeLater(e.T, s)
	if c, ok := s.(session.Clock); ok && c.Longest() > time.Hour {
		e.Fatalf("the longest lifetime is %v", c.Longest())
	}

	for _, rec := range recs {
		got, err := s.Get(e.ctx, rec.Key)
		if err != nil {
			e.Fatalf("Get: %v", err)
		}
		e.same("Get", got, rec)
		got, err = fresh(e.ctx, s, rec.Key)
		if err != nil {
			e.Fatalf("GetFresh: %v", err)
		}
		e.same("GetFresh", got, rec)
		if explainer, ok := s.(session.Explainer); ok {
			if fate, err := explainer.Fate(e.ctx, rec.Key); fate != session.FateLive || err != nil {
				e.Errorf("Fate = %v, %v; want live", fate, err)
			}
		}
	}
	n := len(recs)
	if lister, ok := s.(session.Lister); ok {
		if got, err := lister.Len(e.ctx); got != int64(n) || err != nil {
			e.Errorf("Len = %d, %v; want %d", got, err, n)
		}
	}
	index, hasIndex := s.(session.UserIndex)
	if hasIndex {
		list, err := index.ListUser(e.ctx, user, session.Record{}, 1000)
		if len(list) != n || err != nil {
			e.Errorf("ListUser = %d sessions, %v; want %d", len(list), err, n)
		}
		if got, err := index.CountUser(e.ctx, user); got != int64(n) || err != nil {
			e.Errorf("CountUser = %d, %v; want %d", got, err, n)
		}
	}

	for i := 0; i < n; i += n / 2 { // the native ones, then the foreign ones
		saved, touched, put, renewed, destroyed := recs[i], recs[i+1], recs[i+2], recs[i+3], recs[i+4]
		saved.Data = []byte("short")
		if _, err := s.Save(e.ctx, saved); err != nil {
			e.Errorf("Save of less: %v", err)
		}
		if to, err := s.Touch(e.ctx, touched.Key, touched.Deadline); err != nil || to.Before(touched.Deadline.Add(-time.Second)) {
			e.Errorf("Touch = %v, %v; want %v", to, err, touched.Deadline)
		}
		if putter, ok := s.(session.Putter); ok {
			if got, err := putter.Put(e.ctx, session.Record{Key: put.Key, Data: []byte("short")}); err != nil || got.Version <= put.Version {
				e.Errorf("Put = version %d, %v; it was %d", got.Version, err, put.Version)
			}
		}
		next := session.Record{Key: session.NewID(renewed.Deadline).Key(), Version: renewed.Version, Deadline: renewed.Deadline}
		if got, err := s.Renew(e.ctx, renewed.Key, next, 0); err != nil {
			e.Errorf("Renew with the same deadline: %v", err)
		} else {
			e.sameTime("Renew: Deadline", got.Deadline, renewed.Deadline)
		}
		if got, err := s.Destroy(e.ctx, destroyed.Key); got != 1 || err != nil {
			e.Errorf("Destroy = %d, %v; want 1", got, err)
		}
		_, err := fresh(e.ctx, e.s, destroyed.Key)
		e.refused("Get of what was destroyed", err, session.ErrNotFound)
	}

	// What is new is refused.
	long := recs[5]
	_, err := s.Save(e.ctx, long)
	e.refused("Save of as much", err, session.ErrTooLarge)
	rec := session.Record{Deadline: e.now().Add(2 * time.Hour)}
	rec.Key = session.NewID(rec.Deadline).Key()
	_, err = s.Create(e.ctx, rec)
	e.refused("Create with a lifetime of before", err, session.ErrDeadline)

	if hasIndex {
		want := int64(n - 4) // without the destroyed, and the renewed, which has no user now
		if got, err := index.DestroyUser(e.ctx, user); got != want || err != nil {
			e.Errorf("DestroyUser = %d, %v; want %d", got, err, want)
		}
		if _, err := e.s.Get(e.ctx, recs[0].Key); !errors.Is(err, session.ErrNotFound) {
			e.eventuallyGone(recs[0].Key)
		}
	}
}
