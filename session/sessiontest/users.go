package sessiontest

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

func userCases() []testCase {
	cases := []testCase{
		{name: "sessions are listed by their user, oldest first", run: userList},
		{name: "sessions of a user are listed in pages", run: userPages},
		{name: "users that look alike are different", run: userAlike},
		{name: "the user index knows live sessions only", run: userLiveOnly},
		{name: "the user index refuses the empty user", run: userEmpty},
		{name: "destroy by user ends all sessions but those excepted", run: userDestroy},
		{name: "a renewed key excepts what it was renewed to", run: userExceptRenewed},
		{name: "destroy by user catches renewals under way", run: userDestroyAgainstRenew},
		{name: "destroy by user catches what was created before", run: userDestroyAgainstCreate},
		{name: "destroys by user and by key count each session once", run: userDestroyAgainstDestroy},
	}
	for i := range cases {
		cases[i].needs = UserIndex
	}
	return cases
}

func (e *env) users() session.UserIndex { return e.s.(session.UserIndex) }

func (e *env) peerUsers() session.UserIndex { return e.peer().(session.UserIndex) }

// wantUser checks which sessions user has, in that order.
func (e *env) wantUser(user string, want ...session.Record) {
	e.Helper()
	for _, u := range []session.UserIndex{e.users(), e.peerUsers()} {
		if n, err := u.CountUser(e.ctx, user); n != int64(len(want)) || err != nil {
			e.Errorf("CountUser(%q) = %d, %v; want %d, nil", user, n, err, len(want))
		}
		recs, err := u.ListUser(e.ctx, user, session.Record{}, 1000)
		if err != nil || len(recs) != len(want) {
			e.Errorf("ListUser(%q) = %d sessions, %v; want %d, nil", user, len(recs), err, len(want))
			continue
		}
		for i := range recs {
			if recs[i].Key.Hash == want[i].Key.Hash {
				recs[i].Key = want[i].Key // a foreign key may have got its bucket
			}
			e.same("ListUser", recs[i], want[i])
		}
	}
}

// createAfter creates a session that is younger than old.
func (e *env) createAfter(old, rec session.Record) session.Record {
	e.Helper()
	e.eventually("time passed", func() bool { return e.now().Sub(old.Created) > 2*e.h.Precision })
	return e.create(rec)
}

func userList(e *env) {
	user := e.unique("user")
	e.wantUser(user)
	a := e.create(e.recordOf(user))
	foreign := e.foreign()
	foreign.User = user
	b := e.createAfter(a, foreign)
	brief := e.recordUntil(e.now().Add(time.Hour))
	brief.User = user
	c := e.createAfter(b, brief)
	e.create(e.record())
	e.create(e.recordOf(e.unique("user")))
	e.wantUser(user, a, b, c)

	// Writes to a session do not move it.
	a.Data = []byte("changed")
	a = e.save(a)
	e.wantUser(user, a, b, c)
	// A renewal for the same user is the same session, if by another key.
	a = e.renew(a, time.Hour)
	e.wantUser(user, a, b, c)
	e.destroy(1, b.Key)
	e.wantUser(user, a, c)

	recs, err := e.users().ListUser(e.ctx, user, session.Record{}, 1000)
	if err != nil {
		e.Fatalf("ListUser: %v", err)
	}
	for _, rec := range recs {
		e.live(rec.Key)
		e.destroy(1, rec.Key)
	}
	e.wantUser(user)
}

// userPages creates sessions at the same time, so that some begin in one moment.
func userPages(e *env) {
	const sessions, anonymous = 40, 3
	user := e.unique("user")
	var wg sync.WaitGroup
	for i := range sessions + anonymous {
		wg.Go(func() {
			rec := e.recordOf(user)
			if i >= sessions {
				rec.User = ""
			}
			if _, err := e.node(i).Create(e.ctx, rec); err != nil {
				e.Errorf("Create: %v", err)
			}
		})
	}
	wg.Wait()
	list := func(after session.Record, most int) []session.Record {
		e.Helper()
		page, err := e.peerUsers().ListUser(e.ctx, user, after, most)
		if err != nil || len(page) > most {
			e.Fatalf("ListUser = %d sessions, %v; want up to %d", len(page), err, most)
		}
		return page
	}
	whole := list(session.Record{}, sessions+1)
	if len(whole) != sessions || !slices.IsSortedFunc(whole, func(a, b session.Record) int { return a.Created.Compare(b.Created) }) {
		e.Fatalf("ListUser = %d sessions, or they are not in order; want %d", len(whole), sessions)
	}
	for _, most := range []int{1, 7, sessions} {
		var walked []session.Record
		for after := (session.Record{}); ; {
			page := list(after, most)
			walked = append(walked, page...)
			if len(page) < most {
				break
			}
			after = page[most-1]
		}
		if len(walked) != sessions {
			e.Errorf("pages of %d have %d sessions; want %d", most, len(walked), sessions)
			continue
		}
		for i := range walked {
			e.same("a session in a page", walked[i], whole[i])
		}
	}
	// What the page before ended with need not be there any more.
	e.destroy(1, whole[9].Key)
	if page := list(whole[9], 1); len(page) != 1 || page[0].Key != whole[10].Key {
		e.Errorf("after one that has ended come %v; want %v", page, whole[10].Key)
	}
	for _, most := range []int{0, -1} {
		_, err := e.users().ListUser(e.ctx, user, session.Record{}, most)
		e.refused("ListUser", err, session.ErrInvalid)
	}
}

func userAlike(e *env) {
	base := e.unique("Ué")
	alike := []string{
		base, base + " ", " " + base, base + "\t", "u" + base[1:], base[:1] + "e\u0301" + base[3:], base[:1] + "e" + base[3:],
		base + "'", base + "%", base[:len(base)-1] + "_", base + "\\", base + "\u200b",
	}
	for _, user := range alike {
		e.create(e.recordOf(user))
	}
	for i, user := range alike {
		if n, err := e.users().DestroyUser(e.ctx, user); n != 1 || err != nil {
			e.Errorf("DestroyUser(%q) = %d, %v; want 1, nil", user, n, err)
		}
		for _, other := range alike[i+1:] {
			if n, err := e.users().CountUser(e.ctx, other); n != 1 || err != nil {
				e.Errorf("CountUser(%q) = %d, %v; want 1, nil", other, n, err)
			}
		}
	}
}

func userLiveOnly(e *env) {
	user, other := e.unique("user"), e.unique("user")
	live := e.create(e.recordOf(user))
	e.destroy(1, e.create(e.recordOf(user)).Key)
	e.h.Expire(e.T, e.s, e.create(e.recordOf(user)).Key)
	ended := e.create(e.recordOf(user))
	ended.Expires = e.now().Add(-time.Second)
	e.save(ended)

	// A session that was renewed for another user is that user's.
	moved := e.create(e.recordOf(user))
	next := e.successor(moved)
	next.User = other
	next, err := e.s.Renew(e.ctx, moved.Key, next, time.Hour)
	if err != nil {
		e.Fatalf("Renew: %v", err)
	}
	e.wantUser(user, live)
	e.wantUser(other, next)
	if n, err := e.users().DestroyUser(e.ctx, user); n != 1 || err != nil {
		e.Errorf("DestroyUser = %d, %v; want 1, nil", n, err)
	}
	e.same("Get of the session that moved", e.live(moved.Key), next)
	e.wantUser(user)
}

func userEmpty(e *env) {
	anonymous := e.create(e.record())
	_, err := e.users().ListUser(e.ctx, "", session.Record{}, 1000)
	e.refused("ListUser", err, session.ErrInvalid)
	_, err = e.users().CountUser(e.ctx, "")
	e.refused("CountUser", err, session.ErrInvalid)
	_, err = e.users().DestroyUser(e.ctx, "")
	e.refused("DestroyUser", err, session.ErrInvalid)
	for _, limit := range []session.UserLimit{{}, {Max: 1}, {Max: 1, Evict: true}} {
		rec := e.record()
		_, _, err = e.users().CreateLimited(e.ctx, rec, limit)
		e.refused("CreateLimited", err, session.ErrInvalid)
		e.gone(rec.Key)
		_, _, err = e.users().RenewLimited(e.ctx, anonymous.Key, e.successor(anonymous), 0, limit)
		e.refused("RenewLimited", err, session.ErrInvalid)
	}
	e.same("Get of an anonymous session", e.live(anonymous.Key), anonymous)
}

func userDestroy(e *env) {
	user := e.unique("user")
	native := e.create(e.recordOf(user))
	foreign := e.foreign()
	foreign.User = user
	foreign = e.createAfter(native, foreign)
	var others []session.Key
	for range 5 {
		others = append(others, e.create(e.recordOf(user)).Key)
	}
	bystander := e.create(e.recordOf(e.unique("user")))
	n, err := e.users().DestroyUser(e.ctx, user, native.Key, foreign.Key, e.record().Key, bystander.Key, native.Key)
	if n != 5 || err != nil {
		e.Errorf("DestroyUser = %d, %v; want 5, nil", n, err)
	}
	for _, key := range others {
		e.gone(key)
	}
	e.wantUser(user, native, foreign)
	e.live(bystander.Key)

	if n, err = e.peerUsers().DestroyUser(e.ctx, user); n != 2 || err != nil {
		e.Errorf("DestroyUser = %d, %v; want 2, nil", n, err)
	}
	e.wantUser(user)
	for _, key := range []session.Key{native.Key, foreign.Key} {
		e.eventuallyGone(key)
		e.neverLive(key, "a session whose user was destroyed")
	}
	for range 2 {
		if n, err = e.users().DestroyUser(e.ctx, user); n != 0 || err != nil {
			e.Errorf("DestroyUser = %d, %v; want 0, nil", n, err)
		}
	}
	e.live(e.create(e.recordOf(user)).Key)
	e.live(bystander.Key)
}

func userExceptRenewed(e *env) {
	user := e.unique("user")
	for _, grace := range []time.Duration{0, time.Hour} {
		a := e.create(e.recordOf(user))
		other := e.create(e.recordOf(user))
		b := e.renew(a, grace)
		c := e.renew(b, grace)
		for _, kept := range []session.Key{a.Key, b.Key, c.Key} {
			if _, err := e.users().DestroyUser(e.ctx, user, kept, kept); err != nil {
				e.Errorf("DestroyUser: %v", err)
			}
			e.same("Get of what is excepted", e.live(c.Key), c)
		}
		e.gone(other.Key)
		if n, err := e.users().DestroyUser(e.ctx, user, other.Key); n != 1 || err != nil {
			e.Errorf("DestroyUser but for a dead key = %d, %v; want 1, nil", n, err)
		}
		e.gone(c.Key)
	}
	// A key of another user excepts nothing, nor does one that led to another user.
	a := e.create(e.recordOf(user))
	next := e.successor(a)
	next.User = e.unique("another user")
	b, err := e.s.Renew(e.ctx, a.Key, next, 0)
	if err != nil {
		e.Fatalf("Renew: %v", err)
	}
	c := e.create(e.recordOf(user))
	if n, err := e.users().DestroyUser(e.ctx, user, a.Key, b.Key, session.Key{}); n != 1 || err != nil {
		e.Errorf("DestroyUser but for keys of another user = %d, %v; want 1, nil", n, err)
	}
	e.gone(c.Key)
	e.live(b.Key)
}

func userDestroyAgainstRenew(e *env) {
	const sessions = 8
	e.peer()
	for round := range rounds.Of(12) {
		user := e.unique("user")
		var wg, renewing sync.WaitGroup
		var done atomic.Bool
		keys := make([][]session.Key, sessions)
		for i := range sessions {
			rec := e.create(e.recordOf(user))
			keys[i] = append(keys[i], rec.Key)
			store := e.node(i)
			renewing.Add(1)
			started := sync.OnceFunc(renewing.Done)
			wg.Go(func() {
				defer started()
				for !done.Load() {
					next, err := store.Renew(e.ctx, rec.Key, e.successor(rec), time.Duration(round%2)*time.Hour)
					if err != nil {
						e.refused("Renew", err, session.ErrNotFound)
						return
					}
					rec = next
					keys[i] = append(keys[i], rec.Key)
					started()
				}
			})
		}
		renewing.Wait()
		if n, err := e.users().DestroyUser(e.ctx, user); n != sessions || err != nil {
			e.Errorf("DestroyUser = %d, %v; want %d, nil", n, err, sessions)
		}
		// Whoever still renews has found a session that should be dead.
		done.Store(true)
		wg.Wait()
		for _, key := range slices.Concat(keys...) {
			if _, err := fresh(e.ctx, e.s, key); !isAny(err, session.ErrNotFound) {
				e.Errorf("Get after DestroyUser: %v; want %v", err, session.ErrNotFound)
			}
		}
		e.wantUser(user)
	}
}

func userDestroyAgainstCreate(e *env) {
	const creators = 8
	user := e.unique("user")
	var mu sync.Mutex
	var created []session.Key
	var done atomic.Bool
	var wg, creating sync.WaitGroup
	for i := range creators {
		store := e.node(i)
		creating.Add(1)
		started := sync.OnceFunc(creating.Done)
		wg.Go(func() {
			defer started()
			for n := 0; !done.Load() && n < rounds.Of(300); n++ {
				rec, err := e.logIn(store, user, n%2 == 0)
				if err != nil {
					e.Errorf("Create or Renew: %v", err)
					return
				}
				mu.Lock()
				created = append(created, rec.Key)
				mu.Unlock()
				started()
			}
		})
	}
	creating.Wait()
	for range rounds.Of(6) {
		mu.Lock()
		before := slices.Clone(created)
		mu.Unlock()
		if _, err := e.users().DestroyUser(e.ctx, user); err != nil {
			e.Fatalf("DestroyUser: %v", err)
		}
		for _, key := range before {
			if _, err := fresh(e.ctx, e.s, key); !isAny(err, session.ErrNotFound) {
				e.Errorf("Get of a session created before DestroyUser: %v; want %v", err, session.ErrNotFound)
			}
		}
	}
	done.Store(true)
	wg.Wait()
	if _, err := e.users().DestroyUser(e.ctx, user); err != nil {
		e.Fatalf("DestroyUser: %v", err)
	}
	e.wantUser(user)
	for _, key := range created {
		if _, err := fresh(e.ctx, e.peer(), key); !isAny(err, session.ErrNotFound) {
			e.Errorf("Get after the last DestroyUser: %v; want %v", err, session.ErrNotFound)
		}
	}
}

// logIn makes a session of user, out of an anonymous one or from nothing.
func (e *env) logIn(store session.Store, user string, renew bool) (session.Record, error) {
	if !renew {
		return store.Create(e.ctx, e.recordOf(user))
	}
	rec, err := store.Create(e.ctx, e.record())
	if err != nil {
		return rec, err
	}
	next := e.successor(rec)
	next.User = user
	return store.Renew(e.ctx, rec.Key, next, 0)
}

func userDestroyAgainstDestroy(e *env) {
	const sessions = 20
	e.peer()
	for range rounds.Of(10) {
		user := e.unique("user")
		var keys []session.Key
		for range sessions {
			keys = append(keys, e.create(e.recordOf(user)).Key)
		}
		var total atomic.Int64
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				var n int64
				var err error
				switch i % 3 {
				case 0:
					n, err = e.users().DestroyUser(e.ctx, user)
				case 1:
					n, err = e.peer().Destroy(e.ctx, keys[i:sessions-i]...)
				case 2:
					n, err = e.peerUsers().DestroyUser(e.ctx, user, keys[:3]...)
				}
				if err != nil {
					e.Errorf("destroy: %v", err)
				}
				total.Add(n)
			})
		}
		wg.Wait()
		if total.Load() != sessions {
			e.Errorf("%d sessions were ended; want %d", total.Load(), sessions)
		}
		e.wantUser(user)
	}
}
