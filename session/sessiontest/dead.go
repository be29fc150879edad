package sessiontest

import (
	"cmp"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// deadCases are about sessions that have ended and writes that come late.
func deadCases() []testCase {
	cases := []testCase{
		{name: "a write that waited for a lock past the expiry is refused", own: true, run: waitedPastExpiry},
		{name: "a write that waited for a lock takes place", own: true, run: waitedForLock},
		{name: "a destroy that waited for a lock ends the session", own: true, run: destroyWaited},
		{name: "nothing is written to a session whose row is gone", run: rowGone},
		{name: "a key whose hour has passed is refused", run: pastBuckets},
		{name: "what has ended leaves neither its user nor its data", own: true, run: nothingRemains},
	}
	for name, kill := range map[string]func(*env, session.Record) session.Record{
		"destroyed":                        killDestroy,
		"destroyed by the other node":      killByPeer,
		"expired idle":                     killExpire,
		"renewed without grace":            killRenew,
		"renewed and past its grace":       killRenewGrace,
		"renewed to one that is destroyed": killRenewDestroy,
		"past its deadline":                killDeadline,
		"ended by a save":                  killSave,
	} {
		cases = append(cases, testCase{
			name: "a session that is " + name + " stays dead",
			run: func(e *env) {
				for _, rec := range []session.Record{e.record(), e.foreign()} {
					rec.User = e.unique("user")
					e.staysDead(kill(e, rec))
				}
			},
		})
	}
	return cases
}

// Each kill creates a session and returns it as it was before it died.

func killDestroy(e *env, rec session.Record) session.Record {
	rec = e.create(rec)
	e.destroy(1, rec.Key)
	return rec
}

func killByPeer(e *env, rec session.Record) session.Record {
	rec = e.create(rec)
	e.live(rec.Key)
	if n, err := e.peer().Destroy(e.ctx, rec.Key); n != 1 || err != nil {
		e.Errorf("Destroy by the other node = %d, %v; want 1, nil", n, err)
	}
	e.eventuallyGone(rec.Key)
	return rec
}

func killExpire(e *env, rec session.Record) session.Record {
	rec = e.create(rec)
	e.h.Expire(e.T, e.s, rec.Key)
	return rec
}

func killRenew(e *env, rec session.Record) session.Record {
	rec = e.create(rec)
	e.destroy(1, e.renew(rec, 0).Key)
	return rec
}

func killRenewGrace(e *env, rec session.Record) session.Record {
	rec = e.create(rec)
	next := e.renew(rec, 200*time.Millisecond)
	e.eventuallyGone(rec.Key)
	e.destroy(1, next.Key)
	return rec
}

func killRenewDestroy(e *env, rec session.Record) session.Record {
	rec = e.create(rec)
	e.destroy(1, e.renew(rec, time.Hour).Key)
	return rec
}

func killDeadline(e *env, rec session.Record) session.Record {
	rec = e.createSoon(func(near time.Time) session.Record {
		brief := e.recordUntil(near)
		if rec.Key.Bucket == 0 {
			brief.Key = rec.Key
		}
		brief.User = rec.User
		return brief
	})
	e.eventuallyGone(rec.Key)
	return rec
}

func killSave(e *env, rec session.Record) session.Record {
	rec = e.create(rec)
	ended := rec
	ended.Expires = e.now().Add(-time.Second)
	e.save(ended)
	return rec
}

// staysDead does to a dead session what requests under way may do, once as it
// was and once with its time extended.
func (e *env) staysDead(was session.Record) {
	e.Helper()
	e.gone(was.Key)
	extended := was
	extended.Deadline = e.now().Add(3 * time.Hour)
	extended.Expires = extended.Deadline
	for _, rec := range []session.Record{was, extended} {
		for _, version := range []int64{was.Version, was.Version + 1} {
			late := rec
			late.Version = version
			for i, store := range []session.Store{e.s, e.peer()} {
				late.Key = was.Key
				e.lateWrites(store, late)
				if i == 0 {
					e.gone(was.Key)
				}
			}
		}
		e.destroy(0, was.Key)
		e.gone(was.Key)
	}
	if u, ok := e.s.(session.UserIndex); ok && was.User != "" {
		if n, err := u.CountUser(e.ctx, was.User); n != 0 || err != nil {
			e.Errorf("CountUser = %d, %v; want 0, nil", n, err)
		}
		if recs, err := u.ListUser(e.ctx, was.User, session.Record{}, 1000); len(recs) != 0 || err != nil {
			e.Errorf("ListUser = %v, %v; want none, nil", recs, err)
		}
	}
}

func (e *env) lateWrites(store session.Store, late session.Record) {
	e.Helper()
	// A renewed key in its grace period answers that there is a conflict.
	dead := []error{session.ErrNotFound, session.ErrConflict}
	used := []error{session.ErrExists, session.ErrDeadline, session.ErrInvalid}

	_, err := store.Save(e.ctx, late)
	e.refused("late Save", err, dead...)
	_, err = store.Touch(e.ctx, late.Key, e.now().Add(time.Hour))
	e.refused("late Touch", err, session.ErrNotFound)
	next := e.record()
	next.Version, next.User = late.Version, late.User
	_, err = store.Renew(e.ctx, late.Key, next, time.Minute)
	e.refused("late Renew", err, dead...)
	e.gone(next.Key)
	_, err = store.Create(e.ctx, late)
	e.refused("late Create", err, used...)
	onto := e.create(e.record())
	again := late
	again.Version = onto.Version
	_, err = store.Renew(e.ctx, onto.Key, again, 0)
	e.refused("late Renew to the dead key", err, used...)
	e.live(onto.Key)
	if p, ok := store.(session.Putter); ok {
		_, err = p.Put(e.ctx, late)
		e.refused("late Put", err, session.ErrNotFound)
	}
	if l, ok := store.(session.LateToucher); ok && store == e.s {
		_, err = l.TouchLater(e.ctx, late.Key, e.now().Add(time.Hour))
		e.refused("late TouchLater", err, session.ErrNotFound)
	}
	if u, ok := store.(session.UserIndex); ok && late.User != "" {
		_, _, err = u.CreateLimited(e.ctx, late, session.UserLimit{Max: 10, Evict: true})
		e.refused("late CreateLimited", err, used...)
		_, _, err = u.RenewLimited(e.ctx, late.Key, next, 0, session.UserLimit{Max: 10, Evict: true})
		e.refused("late RenewLimited", err, dead...)
	}
}

func rowGone(e *env) {
	if e.h.Vanish == nil {
		e.Skip("Harness.Vanish is nil")
	}
	for _, dead := range []bool{false, true} {
		for _, rec := range []session.Record{e.record(), e.foreign()} {
			rec = e.create(rec)
			e.live(rec.Key)
			if dead {
				e.destroy(1, rec.Key)
			}
			e.h.Vanish(e.T, e.s, rec.Key)
			e.gone(rec.Key)
			_, err := e.s.Save(e.ctx, rec)
			e.refused("Save", err, session.ErrNotFound)
			e.neverLive(rec.Key, "a session whose row is gone")
		}
	}

	// The row of a successor may be gone before that of the old session.
	old := e.create(e.record())
	next := e.renew(old, time.Hour)
	e.h.Vanish(e.T, e.s, next.Key)
	e.gone(old.Key)
	e.destroy(0, old.Key, next.Key)
	e.gone(old.Key)

	// And the row of a session in the middle of a chain.
	first := e.create(e.record())
	middle := e.renew(first, time.Hour)
	e.renew(middle, time.Hour)
	e.h.Vanish(e.T, e.s, middle.Key)
	if _, err := e.s.Destroy(e.ctx, first.Key); err != nil {
		e.Errorf("Destroy of a chain with a gap: %v", err)
	}
	_, err := e.s.Save(e.ctx, first)
	e.refused("Save to the start of a chain with a gap", err, session.ErrNotFound, session.ErrConflict)
}

// pastBuckets: what was retired is unknown, so its key must be refused for what
// it says about itself.
func pastBuckets(e *env) {
	for _, age := range []time.Duration{time.Hour, 25 * time.Hour, 49 * time.Hour, e.h.Longest} {
		retired := e.recordUntil(e.now().Add(-age))
		_, err := e.s.Create(e.ctx, retired)
		e.refused("Create", err, session.ErrDeadline)
		extended := retired
		extended.Deadline = e.now().Add(time.Hour)
		_, err = e.s.Create(e.ctx, extended)
		e.refused("Create with a new deadline", err, session.ErrInvalid)
		if p, ok := e.s.(session.Putter); ok {
			for _, deadline := range []time.Time{retired.Deadline, extended.Deadline, {}} {
				put := retired
				put.Deadline = deadline
				_, err = p.Put(e.ctx, put)
				e.refused("Put", err, session.ErrDeadline, session.ErrInvalid, session.ErrNotFound)
			}
		}
		e.neverLive(retired.Key, "a retired session")
	}
}

// nothingRemains ends sessions in every way, some of them together.
func nothingRemains(e *env) {
	if e.h.Remains == nil {
		e.Skip("Harness.Remains is nil")
	}
	const together = 8
	ended := map[string][]session.Key{}
	live := func(how string, rec session.Record) session.Record {
		rec.User, rec.Data = cmp.Or(rec.User, e.unique("user")), []byte("secret")
		rec = e.create(rec)
		if !e.h.Remains(e.T, e.s, rec.Key) {
			e.Error("a live session has neither user nor data")
		}
		ended[how] = append(ended[how], rec.Key)
		return rec
	}
	for _, made := range []func() session.Record{e.record, e.foreign} {
		e.destroy(1, live("Destroy", made()).Key)
		e.renew(live("Renew", made()), 0)
		e.renew(live("Renew with a grace period", made()), time.Minute)
		rec := live("Save", made())
		rec.Expires = e.now().Add(-time.Second)
		e.save(rec)
		if has(e.s, Putter) {
			rec := live("Put", made())
			rec.Expires = e.now().Add(-time.Second)
			e.put(rec)
		}
		if has(e.s, UserIndex) {
			rec := live("DestroyUser", made())
			if n, err := e.users().DestroyUser(e.ctx, rec.User); n != 1 || err != nil {
				e.Errorf("DestroyUser = %d, %v; want 1, nil", n, err)
			}
			rec = live("a limit", made())
			e.createLimited(e.recordOf(rec.User), session.UserLimit{Max: 1, Evict: true}, rec.Key)
		}
	}
	var saves sync.WaitGroup
	for range together {
		rec := live("Saves together", e.record())
		live("Destroy of several", e.record())
		rec.Expires = e.now().Add(-time.Second)
		saves.Go(func() { e.save(rec) })
	}
	saves.Wait()
	e.destroy(together, ended["Destroy of several"]...)
	if has(e.s, Clearer) {
		live("Clear", e.record())
		e.clear()
	}
	for how, keys := range ended {
		for _, key := range keys {
			if e.h.Remains(e.T, e.s, key) {
				e.Errorf("%s has left the user or the data of %v", how, key)
			}
		}
	}
}
