package sessiontest

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

func manyCases() []testCase {
	return []testCase{
		{name: "clear ends more sessions than one step does, while others log in and renew", needs: Clearer, own: true, run: clearMany},
		{name: "destroy by user ends more sessions than one step does, while others log in and renew", needs: UserIndex, own: true, run: userDestroyMany},
	}
}

func clearMany(e *env) {
	e.endMany(e.s.(session.Clearer).Clear)
}

func userDestroyMany(e *env) {
	bystander := e.create(e.recordOf(e.unique("user")))
	e.endMany(func(ctx context.Context) (int64, error) { return e.users().DestroyUser(ctx, manyUser) })
	e.live(bystander.Key)
}

// manyUser has all sessions of endMany.
const manyUser = "the user of many"

// endMany checks that end leaves nothing of what was there before: neither the
// sessions, some of which are renewed all the time, nor those that were created
// while it had not begun yet.
func (e *env) endMany(end func(context.Context) (int64, error)) {
	const sessions, dead, nodes = 1300, 200, 8
	recs := make([]session.Record, sessions)
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() {
			for j := i; j < sessions; j += nodes {
				var err error
				if recs[j], err = e.s.Create(e.ctx, e.recordOf(manyUser)); err != nil {
					e.Errorf("Create: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if e.Failed() {
		e.FailNow()
	}
	rand.Shuffle(sessions, func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
	var keys []session.Key
	for _, rec := range recs[:dead] {
		keys = append(keys, rec.Key)
	}
	e.destroy(dead, keys...)
	recs = recs[dead:]
	if has(e.s, UserIndex) {
		listed, err := e.users().ListUser(e.ctx, manyUser, session.Record{}, sessions)
		if err != nil || len(listed) != len(recs) {
			e.Errorf("ListUser = %d sessions, %v; want %d", len(listed), err, len(recs))
		}
	}

	e.peer()
	var over atomic.Bool
	var begun, renewing, creating sync.WaitGroup
	for i := range nodes {
		store := e.node(i)
		begun.Add(1)
		first := sync.OnceFunc(begun.Done)
		renewing.Go(func() {
			defer first()
			for !over.Load() {
				j := rand.IntN(len(recs)/nodes)*nodes + i
				next, err := store.Renew(e.ctx, recs[j].Key, e.successor(recs[j]), time.Duration(j%2)*time.Hour)
				if err != nil {
					e.refused("Renew", err, session.ErrNotFound)
					return
				}
				recs[j] = next
				first()
			}
		})
	}
	var mu sync.Mutex
	var created []session.Key
	for i := range 4 {
		store := e.node(i)
		begun.Add(1)
		first := sync.OnceFunc(begun.Done)
		creating.Go(func() {
			defer first()
			for n := 0; !over.Load() && n < rounds.Of(1000); n++ {
				rec, err := e.logIn(store, manyUser, n%2 == 0)
				if err != nil {
					// What it renews is ended by Clear.
					e.refused("a login", err, session.ErrNotFound)
					continue
				}
				mu.Lock()
				created = append(created, rec.Key)
				mu.Unlock()
				first()
			}
		})
	}
	begun.Wait()
	mu.Lock()
	before := slices.Clone(created)
	mu.Unlock()
	n, err := end(e.ctx)
	if err != nil || n < int64(len(recs)+len(before)) {
		e.Errorf("it ended %d sessions, %v; there were at least %d", n, err, len(recs)+len(before))
	}
	// Whoever still renews has found a session that should be dead.
	over.Store(true)
	renewing.Wait()
	creating.Wait()
	for _, rec := range recs {
		before = append(before, rec.Key)
	}
	survived := 0
	for i, key := range before {
		_, err := fresh(e.ctx, e.node(i), key)
		if err == nil {
			survived++
		} else {
			e.refused("Get", err, session.ErrNotFound)
		}
	}
	if survived > 0 {
		e.Errorf("%d of %d sessions survived", survived, len(before))
	}
}
