package sessiontest

import (
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

func renewCases() []testCase {
	return []testCase{
		{name: "renew replaces a session", run: renewReplaces},
		{name: "renew keeps the creation time only for the same user", run: renewCreated},
		{name: "renew refuses what it cannot do and leaves the session alone", run: renewRefuses},
		{name: "without grace a renewed key leads nowhere", run: renewNoGrace},
		{name: "in its grace period a renewed key leads to its successor", run: renewGrace},
		{name: "the grace period passes", run: renewGracePasses},
		{name: "the grace period ends with the old deadline", run: renewGraceCapped},
		{name: "a chain of renewals is followed while each is in its grace period", run: renewChain},
		{name: "destroying any key of a chain ends its head", run: renewDestroyChain},
		{name: "destroy counts a renewed session once", run: renewDestroyOnce},
		{name: "an expired successor is not found by the old key", run: renewExpiredHead},
		{name: "of concurrent renewals one wins", run: renewConcurrently},
		{name: "of a renewal and a save one wins", run: renewAgainstSave},
		{name: "a renewal does not outrun a destroy", run: renewAgainstDestroy},
	}
}

func renewReplaces(e *env) {
	old := e.create(e.recordOf(e.unique("user")))
	old = e.save(old)
	next := e.recordUntil(e.now().Add(9 * time.Hour))
	next.Expires = next.Deadline.Add(-time.Hour)
	next.Version, next.User = old.Version, e.unique("user")
	got, err := e.s.Renew(e.ctx, old.Key, next, 0)
	if err != nil {
		e.Fatalf("Renew: %v", err)
	}
	next.Version = e.newer("Renew", got, old.Version)
	e.same("Renew", got, next)
	e.same("Get", e.live(next.Key), got)
	byPeer, err := fresh(e.ctx, e.peer(), next.Key)
	if err != nil {
		e.Fatalf("Get by the other node: %v", err)
	}
	e.same("Get by the other node", byPeer, got)
	e.neverLiveBut(old.Key, got.Key)

	// The new session is one like any other.
	got.Data = []byte("changed")
	saved := e.save(got)
	e.same("Save", saved, session.Record{
		Key: got.Key, Version: e.newer("Save", saved, got.Version), Created: got.Created, Expires: got.Expires,
		Deadline: got.Deadline, User: got.User, Data: got.Data,
	})
	e.destroy(1, got.Key)
	e.gone(got.Key)
}

func renewCreated(e *env) {
	for _, c := range []struct {
		from, to string
		kept     bool
	}{{"", "", true}, {"alice", "alice", true}, {"", "alice", false}, {"alice", "bob", false}, {"alice", "", false}} {
		old := e.create(e.recordOf(c.from))
		e.eventually("time passed", func() bool { return e.now().Sub(old.Created) > 2*e.h.Precision })
		next := e.successor(old)
		next.User, next.Created = c.to, old.Created.Add(-time.Hour)
		got, err := e.s.Renew(e.ctx, old.Key, next, time.Minute)
		if err != nil {
			e.Fatalf("Renew: %v", err)
		}
		switch kept := got.Created.Sub(old.Created).Abs() < e.h.Precision; {
		case kept != c.kept:
			e.Errorf("from %q to %q: Created went from %v to %v", c.from, c.to, old.Created, got.Created)
		case !c.kept && got.Created.Before(old.Created):
			e.Errorf("from %q to %q: Created went back from %v to %v", c.from, c.to, old.Created, got.Created)
		}
		e.same("Get", e.live(got.Key), got)
	}
}

func renewRefuses(e *env) {
	// All have one deadline, so that none is refused for the bucket of its key.
	deadline := e.record().Deadline
	old := e.create(e.recordUntil(deadline))
	old = e.save(old)
	used := e.create(e.recordUntil(deadline))
	dead := e.create(e.recordUntil(deadline))
	e.destroy(1, dead.Key)
	for _, c := range []struct {
		name   string
		change func(rec *session.Record, grace *time.Duration)
		want   error
	}{
		{"an older version", func(r *session.Record, _ *time.Duration) { r.Version-- }, session.ErrConflict},
		{"a newer version", func(r *session.Record, _ *time.Duration) { r.Version++ }, session.ErrConflict},
		{"version 0", func(r *session.Record, _ *time.Duration) { r.Version = 0 }, session.ErrConflict},
		{"a negative grace", func(_ *session.Record, g *time.Duration) { *g = -1 }, session.ErrInvalid},
		{"a grace too long", func(_ *session.Record, g *time.Duration) { *g = session.MaxGrace + 1 }, session.ErrInvalid},
		{"its own key", func(r *session.Record, _ *time.Duration) { r.Key = old.Key }, session.ErrExists},
		{"a live key", func(r *session.Record, _ *time.Duration) { r.Key = used.Key }, session.ErrExists},
		{"a dead key", func(r *session.Record, _ *time.Duration) { r.Key = dead.Key }, session.ErrExists},
	} {
		next, grace := e.successor(old), time.Duration(0)
		next.Data = []byte("renewed")
		c.change(&next, &grace)
		_, err := e.s.Renew(e.ctx, old.Key, next, grace)
		e.refused("Renew with "+c.name, err, c.want)
		e.same("after Renew with "+c.name, e.live(old.Key), old)
		if c.want != session.ErrExists {
			e.gone(next.Key)
		}
	}
	e.same("Get of the live key", e.live(used.Key), used)
	e.gone(dead.Key)
	e.renew(old, session.MaxGrace)
}

func renewNoGrace(e *env) {
	old := e.create(e.record())
	got := e.renew(old, 0)
	_, err := e.s.Save(e.ctx, old)
	e.refused("Save", err, session.ErrNotFound)
	_, err = e.s.Touch(e.ctx, old.Key, old.Deadline)
	e.refused("Touch", err, session.ErrNotFound)
	_, err = e.s.Renew(e.ctx, old.Key, e.successor(old), time.Minute)
	e.refused("Renew", err, session.ErrNotFound)
	_, err = e.s.Create(e.ctx, old)
	e.refused("Create", err, session.ErrExists)
	e.gone(old.Key)
	e.same("Get of the successor", e.live(got.Key), got)
}

func renewGrace(e *env) {
	old := e.create(e.recordOf(e.unique("user")))
	next := e.successor(old)
	next.Data = []byte("renewed")
	got, err := e.s.Renew(e.ctx, old.Key, next, session.MaxGrace)
	if err != nil {
		e.Fatalf("Renew: %v", err)
	}
	e.same("Get by the old key", e.live(old.Key), got)
	byPeer, err := fresh(e.ctx, e.peer(), old.Key)
	if err != nil {
		e.Fatalf("Get by the other node: %v", err)
	}
	e.same("Get by the old key and the other node", byPeer, got)

	for _, version := range []int64{old.Version, got.Version} {
		stale := old
		stale.Version = version
		_, err = e.s.Save(e.ctx, stale)
		e.refused("Save to the old key", err, session.ErrConflict)
		stale.Expires = e.now().Add(-time.Minute)
		_, err = e.s.Save(e.ctx, stale)
		e.refused("ending Save to the old key", err, session.ErrConflict)
		lost := e.successor(old)
		lost.Version = version
		_, err = e.s.Renew(e.ctx, old.Key, lost, time.Minute)
		e.refused("Renew of the old key", err, session.ErrConflict)
		e.gone(lost.Key)
	}
	_, err = e.s.Touch(e.ctx, old.Key, old.Deadline)
	e.refused("Touch of the old key", err, session.ErrNotFound)
	_, err = e.s.Create(e.ctx, old)
	e.refused("Create with the old key", err, session.ErrExists)
	if p, ok := e.s.(session.Putter); ok {
		_, err = p.Put(e.ctx, old)
		e.refused("Put to the old key", err, session.ErrNotFound)
	}
	e.same("Get by the old key", e.live(old.Key), got)

	// What is saved by the new key is seen by the old one.
	got.Data = []byte("changed")
	got = e.save(got)
	led, err := fresh(e.ctx, e.s, old.Key)
	if err != nil {
		e.Fatalf("Get: %v", err)
	}
	e.same("Get by the old key", led, got)
	if u, ok := e.s.(session.UserIndex); ok {
		if n, err := u.CountUser(e.ctx, old.User); n != 1 || err != nil {
			e.Errorf("CountUser = %d, %v; want 1, nil", n, err)
		}
	}
	e.destroy(1, got.Key)
	e.gone(got.Key)
	e.gone(old.Key)
	e.neverLive(old.Key, "a renewed session whose successor was destroyed", session.ErrConflict)
}

func renewGracePasses(e *env) {
	for _, old := range []session.Record{e.record(), e.foreign()} {
		old = e.create(old)
		got := e.renew(old, 300*time.Millisecond)
		e.eventuallyGone(old.Key)
		e.neverLiveBut(old.Key, got.Key)
		e.same("Get of the successor", e.live(got.Key), got)
	}
}

// neverLiveBut is neverLive for a renewed key whose successor is to stay.
func (e *env) neverLiveBut(key, successor session.Key) {
	e.Helper()
	rec := e.record()
	rec.Key, rec.Version = key, 1
	_, err := e.s.Save(e.ctx, rec)
	e.refused("Save", err, session.ErrNotFound)
	_, err = e.s.Touch(e.ctx, key, rec.Deadline)
	e.refused("Touch", err, session.ErrNotFound)
	next := e.record()
	next.Version = 1
	_, err = e.s.Renew(e.ctx, key, next, time.Minute)
	e.refused("Renew", err, session.ErrNotFound)
	e.gone(key)
	e.live(successor)
}

func renewGraceCapped(e *env) {
	old := e.createSoon(func(near time.Time) session.Record { return e.recordUntil(near) })
	next := e.record()
	next.Version = old.Version
	got, err := e.s.Renew(e.ctx, old.Key, next, session.MaxGrace)
	for isAny(err, session.ErrNotFound) { // it took too long
		old = e.createSoon(func(near time.Time) session.Record { return e.recordUntil(near.Add(5 * time.Second)) })
		got, err = e.s.Renew(e.ctx, old.Key, next, session.MaxGrace)
	}
	if err != nil {
		e.Fatalf("Renew: %v", err)
	}
	e.eventuallyGone(old.Key)
	e.neverLiveBut(old.Key, got.Key)
	e.same("Get of the successor", e.live(got.Key), got)
}

func renewChain(e *env) {
	a := e.create(e.record())
	b := e.renew(a, time.Hour)
	c := e.renew(b, time.Hour)
	d := e.renew(c, time.Hour)
	for _, key := range []session.Key{a.Key, b.Key, c.Key, d.Key} {
		e.same("Get by a key of the chain", e.live(key), d)
	}
	for _, rec := range []session.Record{a, b, c} {
		_, err := e.s.Save(e.ctx, rec)
		e.refused("Save to an old key", err, session.ErrConflict)
	}

	// A link without grace cuts the chain, for good.
	f := e.renew(d, 0)
	g := e.renew(f, time.Hour)
	for _, key := range []session.Key{a.Key, b.Key, c.Key, d.Key} {
		e.gone(key)
	}
	e.same("Get behind the cut", e.live(f.Key), g)
	e.same("Get of the head", e.live(g.Key), g)
	_, err := e.s.Save(e.ctx, a)
	e.refused("Save before the cut", err, session.ErrConflict, session.ErrNotFound)
	e.live(g.Key)
}

func renewDestroyChain(e *env) {
	for _, grace := range []time.Duration{0, time.Hour} {
		for i := range 4 {
			first := e.record()
			if i%2 == 1 {
				first = e.foreign()
			}
			chain := []session.Record{e.create(first)}
			for range 3 {
				chain = append(chain, e.renew(chain[len(chain)-1], grace))
			}
			store := e.node(i / 2)
			if n, err := store.Destroy(e.ctx, chain[i].Key); n != 1 || err != nil {
				e.Errorf("Destroy of key %d of a chain with a grace of %v = %d, %v; want 1, nil", i, grace, n, err)
			}
			for _, rec := range chain {
				if _, err := fresh(e.ctx, e.s, rec.Key); !isAny(err, session.ErrNotFound) {
					e.Errorf("Get after Destroy of key %d of a chain with a grace of %v: %v", i, grace, err)
				}
				e.eventuallyGone(rec.Key)
				e.neverLive(rec.Key, "a session of a destroyed chain", session.ErrConflict)
			}
		}
	}
}

func renewDestroyOnce(e *env) {
	for _, grace := range []time.Duration{0, time.Hour} {
		a := e.create(e.record())
		b := e.renew(a, grace)
		c := e.renew(b, grace)
		other := e.create(e.record())
		e.destroy(2, a.Key, c.Key, b.Key, other.Key, a.Key)
		for _, rec := range []session.Record{a, b, c, other} {
			e.gone(rec.Key)
		}
	}
}

func renewExpiredHead(e *env) {
	a := e.create(e.record())
	b := e.renew(a, time.Hour)
	e.h.Expire(e.T, e.s, b.Key)
	e.gone(a.Key)
	e.gone(b.Key)
	e.neverLive(b.Key, "an expired session")
	e.destroy(0, a.Key, b.Key)

	// Whatever is written to the old key, it leads to no session.
	_, err := e.s.Save(e.ctx, a)
	e.refused("Save to the old key", err, session.ErrConflict, session.ErrNotFound)
	_, err = e.s.Renew(e.ctx, a.Key, e.successor(a), time.Hour)
	e.refused("Renew of the old key", err, session.ErrConflict, session.ErrNotFound)
	e.gone(a.Key)
}

func renewConcurrently(e *env) {
	const rivals = 8
	for round := range rounds.Of(20) {
		grace := time.Duration(round%2) * time.Hour
		old := e.create([]session.Record{e.record(), e.foreign()}[round/2%2])
		var wg sync.WaitGroup
		errs := make([]error, rivals)
		next := make([]session.Record, rivals)
		for i := range rivals {
			store := e.node(i)
			next[i] = e.successor(old)
			wg.Go(func() { _, errs[i] = store.Renew(e.ctx, old.Key, next[i], grace) })
		}
		wg.Wait()
		lost := session.ErrNotFound
		if grace > 0 {
			lost = session.ErrConflict
		}
		winner := e.onlyWinner("Renew", errs, lost)
		for i, rec := range next {
			if i != winner {
				e.gone(rec.Key)
			}
		}
		got := e.live(next[winner].Key)
		if grace > 0 {
			led, err := fresh(e.ctx, e.s, old.Key)
			if err != nil {
				e.Fatalf("Get: %v", err)
			}
			e.same("Get by the old key", led, got)
		}
		e.destroy(1, old.Key)
		e.gone(got.Key)
	}
}

func renewAgainstSave(e *env) {
	for range rounds.Of(25) {
		old := e.create(e.record())
		next := e.successor(old)
		changed := old
		changed.Data = []byte("changed")
		var wg sync.WaitGroup
		errs := make([]error, 2)
		wg.Go(func() { _, errs[0] = e.s.Save(e.ctx, changed) })
		wg.Go(func() { _, errs[1] = e.peer().Renew(e.ctx, old.Key, next, time.Hour) })
		wg.Wait()
		winner := e.onlyWinner("Save and Renew", errs, session.ErrConflict)
		got, err := fresh(e.ctx, e.s, old.Key)
		if err != nil {
			e.Fatalf("Get: %v", err)
		}
		want := []session.Record{changed, next}[winner]
		want.Version = e.newer("Get", got, old.Version)
		e.same("Get", got, want)
	}
}

func renewAgainstDestroy(e *env) {
	e.peer()
	for i := range rounds.Of(50) {
		old := e.create([]session.Record{e.record(), e.foreign()}[i%2])
		next := e.successor(old)
		var wg sync.WaitGroup
		var renewed, destroyed error
		var n int64
		wg.Go(func() { _, renewed = e.s.Renew(e.ctx, old.Key, next, time.Duration(i/2%2)*time.Hour) })
		wg.Go(func() { n, destroyed = e.peer().Destroy(e.ctx, old.Key) })
		wg.Wait()
		if renewed != nil {
			e.refused("Renew", renewed, session.ErrNotFound)
		}
		if n != 1 || destroyed != nil {
			e.Errorf("Destroy = %d, %v; want 1, nil", n, destroyed)
		}
		e.eventuallyGone(old.Key)
		e.eventuallyGone(next.Key)
	}
}
