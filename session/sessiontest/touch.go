package sessiontest

import (
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func touchCases() []testCase {
	return []testCase{
		{name: "touch moves the expiry forward only, up to the deadline", run: touchForward},
		{name: "touch changes nothing else", run: touchNothingElse},
		{name: "of concurrent touches the latest counts", run: touchConcurrently},
		{name: "a session ends at its expiry by the store's clock", run: expiresByClock},
		{name: "a touched session outlives its first expiry", run: touchOutlives},
		{name: "a late touch is written", needs: LateToucher, run: touchLater},
	}
}

func touchForward(e *env) {
	for _, rec := range []session.Record{e.record(), e.foreign()} {
		rec.Expires = rec.Deadline.Add(-time.Hour)
		rec = e.create(rec)
		for _, c := range []struct {
			name           string
			expires, wants time.Time
		}{
			{"an earlier expiry", rec.Expires.Add(-time.Minute), rec.Expires},
			{"the same expiry", rec.Expires, rec.Expires},
			{"no expiry", time.Time{}, rec.Expires},
			{"an expiry that has passed", e.now().Add(-time.Hour), rec.Expires},
			{"an expiry before 1970", time.Unix(-1e9, 0), rec.Expires},
			{"a later expiry", rec.Expires.Add(time.Minute), rec.Expires.Add(time.Minute)},
			{"the first expiry", rec.Expires, rec.Expires.Add(time.Minute)},
			{"an expiry in another zone", rec.Expires.Add(2 * time.Minute).In(time.FixedZone("", 7200)), rec.Expires.Add(2 * time.Minute)},
			{"an expiry after the deadline", rec.Deadline.Add(time.Second), rec.Deadline},
			{"an expiry far after the deadline", time.Unix(1<<60, 0), rec.Deadline},
			{"the deadline", rec.Deadline, rec.Deadline},
			{"the first expiry again", rec.Expires, rec.Deadline},
		} {
			got, err := e.s.Touch(e.ctx, rec.Key, c.expires)
			if err != nil {
				e.Fatalf("Touch with %s: %v", c.name, err)
			}
			e.sameTime("Touch with "+c.name, got, c.wants)
			e.sameTime("Get after Touch with "+c.name, e.live(rec.Key).Expires, c.wants)
		}
	}
}

func touchNothingElse(e *env) {
	rec := e.recordOf(e.unique("user"))
	rec.Expires = rec.Deadline.Add(-time.Hour)
	rec = e.create(rec)
	rec = e.save(rec)
	if _, err := e.peer().Touch(e.ctx, rec.Key, rec.Expires.Add(time.Minute)); err != nil {
		e.Fatalf("Touch by the other node: %v", err)
	}
	want := rec
	want.Expires = rec.Expires.Add(time.Minute)
	got, err := fresh(e.ctx, e.s, rec.Key)
	if err != nil {
		e.Fatalf("Get: %v", err)
	}
	e.same("Get", got, want)

	// The version from before the touch is good for a save, which keeps the
	// touched expiry.
	rec.Expires, rec.Data = time.Time{}, []byte("changed")
	saved := e.save(rec)
	want.Version, want.Data = e.newer("Save", saved, rec.Version), rec.Data
	e.same("Save", saved, want)
	e.same("Get", e.live(rec.Key), want)
}

func touchConcurrently(e *env) {
	rec := e.record()
	rec.Expires = rec.Deadline.Add(-time.Hour)
	rec = e.create(rec)
	var wg sync.WaitGroup
	for i := range 16 {
		store := e.node(i)
		wg.Go(func() {
			last := rec.Expires
			for j := range 8 {
				expires := rec.Expires.Add(time.Duration(1+(i*7+j*5)%100) * time.Second)
				got, err := store.Touch(e.ctx, rec.Key, expires)
				switch {
				case err != nil:
					e.Errorf("Touch: %v", err)
				case got.Before(expires.Add(-e.h.Precision)):
					e.Errorf("Touch returned %v, which is before what it was given: %v", got, expires)
				case got.Before(last):
					e.Errorf("the expiry moved back from %v to %v", last, got)
				}
				last = got
			}
		})
	}
	latest := rec.Expires
	for i := range 16 {
		for j := range 8 {
			if expires := rec.Expires.Add(time.Duration(1+(i*7+j*5)%100) * time.Second); expires.After(latest) {
				latest = expires
			}
		}
	}
	wg.Wait()
	got, err := fresh(e.ctx, e.s, rec.Key)
	if err != nil {
		e.Fatalf("Get: %v", err)
	}
	e.sameTime("Expires", got.Expires, latest)
}

func expiresByClock(e *env) {
	native := e.createSoon(func(near time.Time) session.Record {
		rec := e.record()
		rec.Expires = near
		return rec
	})
	foreign := e.createSoon(func(near time.Time) session.Record {
		rec := e.foreign()
		rec.Expires = near
		return rec
	})
	for _, rec := range []session.Record{native, foreign} {
		e.eventuallyGone(rec.Key)
		// A node knows the store's time only about.
		if c, ok := e.s.(session.Clock); ok && c.Now().Before(rec.Expires.Add(-time.Minute)) {
			e.Errorf("the session expired at %v, long before %v", c.Now(), rec.Expires)
		}
		e.neverLive(rec.Key, "an expired session")
	}
}

func touchOutlives(e *env) {
	for life := time.Second; ; life *= 2 {
		touched := e.record()
		touched.Expires = e.now().Add(life)
		_, err := e.s.Create(e.ctx, touched)
		if err == nil {
			_, err = e.s.Touch(e.ctx, touched.Key, e.now().Add(time.Hour))
		}
		if isAny(err, session.ErrDeadline, session.ErrNotFound) && life < patience/4 {
			continue // it took too long
		}
		if err != nil {
			e.Fatalf("Create and Touch: %v", err)
		}
		untouched := e.record()
		untouched.Expires = touched.Expires
		if _, err := e.s.Create(e.ctx, untouched); err == nil {
			e.eventuallyGone(untouched.Key)
		} else {
			e.refused("Create", err, session.ErrDeadline)
		}
		e.live(touched.Key)
		if _, err := fresh(e.ctx, e.peer(), touched.Key); err != nil {
			e.Errorf("Get by the other node: %v", err)
		}
		return
	}
}

func touchLater(e *env) {
	late := e.s.(session.LateToucher)
	rec := e.record()
	rec.Expires = rec.Deadline.Add(-time.Hour)
	rec = e.create(rec)
	for _, later := range []time.Time{rec.Expires.Add(time.Minute), rec.Expires.Add(10 * time.Minute), rec.Deadline.Add(time.Hour)} {
		if _, err := late.TouchLater(e.ctx, rec.Key, later); err != nil {
			e.Fatalf("TouchLater: %v", err)
		}
	}
	e.eventually("a late touch was written", func() bool {
		got, err := fresh(e.ctx, e.peer(), rec.Key)
		if err != nil {
			e.Fatalf("Get: %v", err)
		}
		return got.Expires.Sub(rec.Deadline).Abs() < e.h.Precision
	})
	if _, err := late.TouchLater(e.ctx, rec.Key, rec.Expires); err != nil {
		e.Fatalf("TouchLater with an earlier expiry: %v", err)
	}
	e.destroy(1, rec.Key)
	_, err := late.TouchLater(e.ctx, rec.Key, rec.Deadline)
	e.refused("TouchLater of a destroyed session", err, session.ErrNotFound)
	e.gone(rec.Key)
}
