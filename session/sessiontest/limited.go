package sessiontest

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func limitedCases() []testCase {
	cases := []testCase{
		{name: "a limit per user refuses", run: limitRefuses},
		{name: "a limit per user evicts the oldest", run: limitEvicts},
		{name: "a limit that fails ends nothing", run: limitFails},
		{name: "a limit per user does not count the renewed session", run: limitRenew},
		{name: "a limit that evicts holds against concurrent sessions", run: limitEvictsConcurrently},
		{name: "a limit that refuses holds against concurrent sessions", run: limitRefusesConcurrently},
	}
	for i := range cases {
		cases[i].needs = UserIndex
	}
	return cases
}

func (e *env) createLimited(rec session.Record, limit session.UserLimit, evicted ...session.Key) session.Record {
	e.Helper()
	got, keys, err := e.users().CreateLimited(e.ctx, rec, limit)
	if err != nil {
		e.Fatalf("CreateLimited: %v", err)
	}
	e.wantKeys(keys, evicted)
	return got
}

// wantKeys compares keys, of which foreign ones may have got their bucket.
func (e *env) wantKeys(got, want []session.Key) {
	e.Helper()
	sameHash := func(a, b session.Key) bool { return a.Hash == b.Hash }
	if !slices.EqualFunc(got, want, sameHash) {
		e.Errorf("%v were evicted; want %v", got, want)
	}
	for _, key := range got {
		e.gone(key)
	}
}

func limitRefuses(e *env) {
	user := e.unique("user")
	limit := session.UserLimit{Max: 2}
	rec := e.recordOf(user)
	a := e.createLimited(rec, limit)
	rec.Version, rec.Expires = e.newer("CreateLimited", a, 0), rec.Deadline
	e.same("CreateLimited", a, rec)
	b := e.createAfter(a, e.recordOf(user))
	c := e.recordOf(user)
	_, _, err := e.users().CreateLimited(e.ctx, c, limit)
	e.refused("CreateLimited", err, session.ErrUserLimit)
	e.gone(c.Key)
	e.wantUser(user, a, b)

	// Another user has another limit, and the dead do not count.
	e.createLimited(e.recordOf(e.unique("user")), limit)
	e.h.Expire(e.T, e.s, b.Key)
	c = e.createLimited(c, limit)
	e.wantUser(user, a, c)
	e.renew(a, time.Hour)
	_, _, err = e.users().CreateLimited(e.ctx, e.recordOf(user), limit)
	e.refused("CreateLimited", err, session.ErrUserLimit)
	e.destroy(1, c.Key)
	e.createLimited(e.recordOf(user), limit)

	// No limit is none, and a plain Create knows none.
	e.createLimited(e.recordOf(user), session.UserLimit{})
	e.createLimited(e.recordOf(user), session.UserLimit{Evict: true})
	e.create(e.recordOf(user))
	_, _, err = e.users().CreateLimited(e.ctx, e.recordOf(user), session.UserLimit{Max: -1})
	e.refused("CreateLimited with a negative limit", err, session.ErrInvalid)
}

func limitEvicts(e *env) {
	user := e.unique("user")
	limit := session.UserLimit{Max: 3, Evict: true}
	foreign := e.foreign()
	foreign.User = user
	a := e.createLimited(foreign, limit)
	b := e.createAfter(a, e.recordOf(user))
	c := e.createAfter(b, e.recordOf(user))
	// What counts is the age, not the last use.
	a = e.save(a)
	if _, err := e.s.Touch(e.ctx, a.Key, a.Deadline); err != nil {
		e.Fatalf("Touch: %v", err)
	}
	bystander := e.create(e.recordOf(e.unique("user")))
	e.eventually("time passed", func() bool { return e.now().Sub(c.Created) > 2*e.h.Precision })
	d := e.createLimited(e.recordOf(user), limit, a.Key)
	e.wantUser(user, b, c, d)
	e.neverLive(a.Key, "an evicted session")

	f := e.createAfter(d, e.recordOf(user))
	e.eventually("time passed", func() bool { return e.now().Sub(f.Created) > 2*e.h.Precision })
	g := e.createLimited(e.recordOf(user), session.UserLimit{Max: 2, Evict: true}, b.Key, c.Key, d.Key)
	e.wantUser(user, f, g)
	h := e.createLimited(e.recordOf(user), session.UserLimit{Max: 1, Evict: true}, f.Key, g.Key)
	e.wantUser(user, h)
	e.live(bystander.Key)
}

func limitFails(e *env) {
	user := e.unique("user")
	limit := session.UserLimit{Max: 1, Evict: true}
	a := e.create(e.recordOf(user))
	used := e.create(e.record())

	again := used
	again.User = user
	_, _, err := e.users().CreateLimited(e.ctx, again, limit)
	e.refused("CreateLimited", err, session.ErrExists)
	late := e.recordUntil(e.now().Add(-time.Hour))
	late.User = user
	_, _, err = e.users().CreateLimited(e.ctx, late, limit)
	e.refused("CreateLimited", err, session.ErrDeadline)

	old := e.create(e.record())
	next := e.successor(old)
	next.User, next.Version = user, 9
	_, _, err = e.users().RenewLimited(e.ctx, old.Key, next, 0, limit)
	e.refused("RenewLimited of another version", err, session.ErrConflict)
	next.Version = old.Version
	_, _, err = e.users().RenewLimited(e.ctx, e.record().Key, next, 0, limit)
	e.refused("RenewLimited of an unknown session", err, session.ErrNotFound)
	_, _, err = e.users().RenewLimited(e.ctx, old.Key, next, -1, limit)
	e.refused("RenewLimited with a negative grace", err, session.ErrInvalid)
	_, _, err = e.users().RenewLimited(e.ctx, old.Key, next, 0, session.UserLimit{Max: -1})
	e.refused("RenewLimited with a negative limit", err, session.ErrInvalid)
	e.same("Get", e.live(old.Key), old)
	e.gone(next.Key)
	e.wantUser(user, a)
}

func limitRenew(e *env) {
	user := e.unique("user")
	a := e.create(e.recordOf(user))
	b := e.createAfter(a, e.recordOf(user))
	refuse, evict := session.UserLimit{Max: 2}, session.UserLimit{Max: 2, Evict: true}

	// A session of the user takes its own place.
	next := e.successor(a)
	a2, evicted, err := e.users().RenewLimited(e.ctx, a.Key, next, time.Hour, refuse)
	if err != nil {
		e.Fatalf("RenewLimited: %v", err)
	}
	e.wantKeys(evicted, nil)
	want := a
	want.Key, want.Version = next.Key, e.newer("RenewLimited", a2, a.Version)
	e.same("RenewLimited", a2, want)
	e.same("Get by the old key", e.live(a.Key), a2)
	e.wantUser(user, a2, b)

	// A login does not find one.
	anonymous := e.createAfter(b, e.record())
	login := e.successor(anonymous)
	login.User = user
	_, _, err = e.users().RenewLimited(e.ctx, anonymous.Key, login, 0, refuse)
	e.refused("RenewLimited", err, session.ErrUserLimit)
	e.same("Get of the anonymous session", e.live(anonymous.Key), anonymous)
	e.gone(login.Key)
	c, evicted, err := e.users().RenewLimited(e.ctx, anonymous.Key, login, 0, evict)
	if err != nil {
		e.Fatalf("RenewLimited: %v", err)
	}
	e.wantKeys(evicted, []session.Key{a2.Key})
	e.gone(a.Key)
	e.gone(anonymous.Key)
	e.wantUser(user, b, c)

	// The oldest is renewed: it stays the oldest and is not its own victim.
	b2, evicted, err := e.users().RenewLimited(e.ctx, b.Key, e.successor(b), 0, session.UserLimit{Max: 1, Evict: true})
	if err != nil {
		e.Fatalf("RenewLimited: %v", err)
	}
	e.wantKeys(evicted, []session.Key{c.Key})
	e.wantUser(user, b2)
}

const competitors, places = 50, 5

// compete makes sessions of one user at once, by creation and by login, and
// returns the results.
func (e *env) compete(user string, limit session.UserLimit) (recs []session.Record, evicted []session.Key, errs []error) {
	e.Helper()
	var counting, wg sync.WaitGroup
	var done atomic.Bool
	e.peer()
	counting.Go(func() {
		for !done.Load() {
			if n, err := e.users().CountUser(e.ctx, user); n > places || err != nil {
				e.Errorf("CountUser = %d, %v; want at most %d, nil", n, err, places)
				return
			}
		}
	})
	var mu sync.Mutex
	for i := range competitors {
		store := []session.UserIndex{e.users(), e.peerUsers()}[i%2]
		var old session.Record
		if i%3 == 0 {
			old = e.create(e.record())
		}
		wg.Go(func() {
			rec := e.recordOf(user)
			var keys []session.Key
			var err error
			if i%3 == 0 {
				rec.Version = old.Version
				rec, keys, err = store.RenewLimited(e.ctx, old.Key, rec, 0, limit)
			} else {
				rec, keys, err = store.CreateLimited(e.ctx, rec, limit)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			recs, evicted = append(recs, rec), append(evicted, keys...)
		})
	}
	wg.Wait()
	done.Store(true)
	counting.Wait()
	return recs, evicted, errs
}

func limitEvictsConcurrently(e *env) {
	user := e.unique("user")
	recs, evicted, errs := e.compete(user, session.UserLimit{Max: places, Evict: true})
	if len(errs) > 0 {
		e.Errorf("%d sessions were refused: %v", len(errs), errs[0])
	}
	alive := map[[32]byte]bool{}
	for _, rec := range recs {
		alive[rec.Key.Hash] = true
	}
	for _, key := range evicted {
		if !alive[key.Hash] {
			e.Errorf("%v was evicted twice, or is none of these sessions", key)
		}
		delete(alive, key.Hash)
		e.gone(key)
	}
	if len(alive) != places {
		e.Errorf("%d sessions are left; want %d", len(alive), places)
	}
	left, err := e.users().ListUser(e.ctx, user, session.Record{}, 1000)
	if err != nil || len(left) != places {
		e.Errorf("ListUser = %d sessions, %v; want %d, nil", len(left), err, places)
	}
	for _, rec := range left {
		if !alive[rec.Key.Hash] {
			e.Errorf("%v is live but was reported as evicted", rec.Key)
		}
	}
}

func limitRefusesConcurrently(e *env) {
	user := e.unique("user")
	recs, evicted, errs := e.compete(user, session.UserLimit{Max: places})
	for _, err := range errs {
		e.refused("CreateLimited or RenewLimited", err, session.ErrUserLimit)
	}
	if len(recs) != places || len(evicted) != 0 {
		e.Errorf("%d sessions were made and %d evicted; want %d and 0", len(recs), len(evicted), places)
	}
	for _, rec := range recs {
		e.live(rec.Key)
	}
}
