package sessiontest

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

func listCases() []testCase {
	return []testCase{
		{name: "an empty store lists nothing", needs: Lister, own: true, run: listEmpty},
		{name: "a listing has every live session once", needs: Lister, own: true, run: listAll},
		{name: "a listing ends with its loop or its context", needs: Lister, own: true, run: listEnds},
		{name: "a listing survives writes", needs: Lister, own: true, run: listWhileWriting},
		{name: "clear ends all sessions", needs: Clearer, own: true, run: clearAll},
		{name: "clear catches renewals under way", needs: Clearer, own: true, run: clearAgainstRenew},
		{name: "clear catches what was created before", needs: Clearer, own: true, run: clearAgainstCreate},
	}
}

// createMany creates n sessions, some of them foreign, some with a user.
func (e *env) createMany(n int) []session.Record {
	e.Helper()
	recs := make([]session.Record, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, 32) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				rec := e.recordUntil(e.now().Add(time.Duration(1+i%20) * time.Hour))
				if i%20 == 0 {
					rec.Key = e.foreign().Key
				}
				if i%3 == 0 {
					rec.User = e.unique("user")
				}
				var err error
				if recs[i], err = e.s.Create(e.ctx, rec); err != nil {
					e.Errorf("Create: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if e.Failed() {
		e.FailNow()
	}
	return recs
}

// listed returns how often a listing had each session.
func listed[T any](e *env, list iter.Seq2[T, error], key func(T) session.Key) map[[32]byte]int {
	e.Helper()
	seen := map[[32]byte]int{}
	for item, err := range list {
		if err != nil {
			e.Fatalf("the listing failed: %v", err)
		}
		seen[key(item).Hash]++
	}
	return seen
}

func listedKeys(e *env, s session.Store) map[[32]byte]int {
	e.Helper()
	return listed(e, s.(session.Lister).Keys(e.ctx), func(k session.Key) session.Key { return k })
}

func listedAll(e *env, s session.Store) map[[32]byte]int {
	e.Helper()
	return listed(e, s.(session.Lister).All(e.ctx), func(r session.Record) session.Key { return r.Key })
}

// wantListed checks that exactly want is live.
func (e *env) wantListed(want ...session.Record) {
	e.Helper()
	for _, s := range []session.Store{e.s, e.peer()} {
		if n, err := s.(session.Lister).Len(e.ctx); n != int64(len(want)) || err != nil {
			e.Errorf("Len = %d, %v; want %d, nil", n, err, len(want))
		}
		for name, seen := range map[string]map[[32]byte]int{"Keys": listedKeys(e, s), "All": listedAll(e, s)} {
			if len(seen) != len(want) {
				e.Errorf("%s lists %d sessions; want %d", name, len(seen), len(want))
			}
			for _, rec := range want {
				if seen[rec.Key.Hash] != 1 {
					e.Errorf("%s lists %v %d times", name, rec.Key, seen[rec.Key.Hash])
				}
			}
		}
	}
}

func listEmpty(e *env) {
	e.wantListed()
	e.destroy(1, e.create(e.record()).Key)
	e.wantListed()
}

func listAll(e *env) {
	recs := e.createMany(2500)
	e.wantListed(recs...)

	byHash := map[[32]byte]session.Record{}
	for _, rec := range recs {
		byHash[rec.Key.Hash] = rec
	}
	for got, err := range e.s.(session.Lister).All(e.ctx) {
		if err != nil {
			e.Fatalf("All: %v", err)
		}
		want := byHash[got.Key.Hash]
		if want.Key.Bucket == 0 {
			want.Key.Bucket = got.Key.Bucket
		}
		e.same("All", got, want)
	}

	// The dead are not part of it, and of a renewed session only the head.
	e.destroy(1, recs[0].Key)
	e.h.Expire(e.T, e.s, recs[1].Key)
	recs[2] = e.renew(recs[2], time.Hour)
	recs[3] = e.renew(e.renew(recs[3], time.Hour), time.Hour)
	ended := recs[4]
	ended.Expires = e.now().Add(-time.Second)
	e.save(ended)
	recs = append(recs[2:4], recs[5:]...)
	e.wantListed(recs...)

	// Keys that are listed are good for reading and for destroying.
	var keys []session.Key
	for key, err := range e.s.(session.Lister).Keys(e.ctx) {
		if err != nil {
			e.Fatalf("Keys: %v", err)
		}
		if len(keys)%100 == 0 {
			e.live(key)
		}
		keys = append(keys, key)
	}
	e.destroy(int64(len(recs)), keys...)
	e.wantListed()
}

func listEnds(e *env) {
	recs := e.createMany(1200)
	list := e.s.(session.Lister)

	// The loop may stop at any time and call the store, also to end sessions.
	n := 0
	for key, err := range list.Keys(e.ctx) {
		if err != nil {
			e.Fatalf("Keys: %v", err)
		}
		e.live(key)
		e.destroy(1, key)
		if n++; n == 7 {
			break
		}
	}
	for rec, err := range list.All(e.ctx) {
		if err != nil {
			e.Fatalf("All: %v", err)
		}
		e.save(rec)
		break
	}
	// A listing is a sequence that can be gone through again.
	keys := list.Keys(e.ctx)
	for range 2 {
		if seen := listed(e, keys, func(k session.Key) session.Key { return k }); len(seen) != len(recs)-7 {
			e.Errorf("Keys lists %d sessions; want %d", len(seen), len(recs)-7)
		}
	}

	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	n, failures := 0, 0
	for key, err := range list.Keys(ctx) {
		switch {
		case failures > 0:
			e.Error("Keys went on after an error")
		case err != nil:
			failures++
			e.refused("Keys with a context that ended", err, context.Canceled)
			if !key.IsZero() {
				e.Error("Keys gave a key with its error")
			}
		default:
			if n++; n == 3 {
				cancel()
			}
		}
	}
	if failures == 0 && n < len(recs)-7 {
		e.Errorf("Keys ended after %d of %d sessions without an error", n, len(recs)-7)
	}
}

func listWhileWriting(e *env) {
	steady := e.createMany(1000)
	var done atomic.Bool
	var wg, writing sync.WaitGroup
	defer func() {
		done.Store(true)
		wg.Wait()
	}()
	for i := range 8 {
		store := e.node(i)
		mine := slices.Clone(steady[i*100 : i*100+100])
		writing.Add(1)
		wg.Go(func() {
			for n := 0; !done.Load(); n++ {
				rec := &mine[n%len(mine)]
				var err error
				switch i % 4 {
				case 0:
					_, err = store.Touch(e.ctx, rec.Key, rec.Deadline)
				case 1:
					*rec, err = store.Save(e.ctx, *rec)
				case 2, 3: // sessions that come and go
					passing := e.recordUntil(e.now().Add(time.Duration(1+n%20) * time.Hour))
					if _, err = store.Create(e.ctx, passing); err == nil {
						_, err = store.Destroy(e.ctx, passing.Key)
					}
				}
				if err != nil {
					e.Errorf("a write during the listing: %v", err)
				}
				if n == 0 {
					writing.Done()
				}
			}
		})
	}
	writing.Wait()
	for range 3 {
		for name, seen := range map[string]map[[32]byte]int{"Keys": listedKeys(e, e.s), "All": listedAll(e, e.s)} {
			for _, rec := range steady {
				if seen[rec.Key.Hash] != 1 {
					e.Fatalf("%s listed a session %d times that was live all the time", name, seen[rec.Key.Hash])
				}
			}
			for hash, n := range seen {
				if n > 1 {
					e.Fatalf("%s listed %x %d times", name, hash[:8], n)
				}
			}
		}
		if n, err := e.s.(session.Lister).Len(e.ctx); n < int64(len(steady)) || err != nil {
			e.Errorf("Len = %d, %v; want at least %d, nil", n, err, len(steady))
		}
	}
}

func (e *env) clear() int64 {
	e.Helper()
	n, err := e.s.(session.Clearer).Clear(e.ctx)
	if err != nil {
		e.Fatalf("Clear: %v", err)
	}
	return n
}

func clearAll(e *env) {
	if n := e.clear(); n != 0 {
		e.Errorf("Clear of an empty store = %d", n)
	}
	recs := e.createMany(300)
	e.destroy(1, recs[0].Key)
	e.h.Expire(e.T, e.s, recs[1].Key)
	recs[2] = e.renew(recs[2], time.Hour)
	if n := e.clear(); n != 298 {
		e.Errorf("Clear = %d; want 298", n)
	}
	for _, rec := range recs {
		if _, err := fresh(e.ctx, e.peer(), rec.Key); !isAny(err, session.ErrNotFound) {
			e.Fatalf("Get after Clear: %v; want %v", err, session.ErrNotFound)
		}
	}
	for _, rec := range recs[3:5] {
		e.gone(rec.Key)
		_, err := e.s.Create(e.ctx, rec)
		e.refused("Create with a cleared key", err, session.ErrExists)
		e.neverLive(rec.Key, "a cleared session")
	}
	if n := e.clear(); n != 0 {
		e.Errorf("a second Clear = %d; want 0", n)
	}
	e.live(e.create(e.record()).Key)
}

func clearAgainstRenew(e *env) {
	const sessions = 8
	e.peer()
	for round := range rounds.Of(8) {
		var wg, renewing sync.WaitGroup
		var done atomic.Bool
		keys := make([][]session.Key, sessions)
		for i := range sessions {
			rec := e.record()
			if i%2 == 0 {
				rec.User = e.unique("user")
			}
			rec = e.create(rec)
			keys[i] = append(keys[i], rec.Key)
			store := e.node(i / 2)
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
		if n := e.clear(); n != sessions {
			e.Errorf("Clear = %d; want %d", n, sessions)
		}
		// Whoever still renews has found a session that should be dead.
		done.Store(true)
		wg.Wait()
		for _, key := range slices.Concat(keys...) {
			if _, err := fresh(e.ctx, e.s, key); !isAny(err, session.ErrNotFound) {
				e.Errorf("Get after Clear: %v; want %v", err, session.ErrNotFound)
			}
		}
	}
}

func clearAgainstCreate(e *env) {
	var mu sync.Mutex
	var created []session.Key
	var done atomic.Bool
	var wg, creating sync.WaitGroup
	for i := range 8 {
		store := e.node(i)
		creating.Add(1)
		started := sync.OnceFunc(creating.Done)
		wg.Go(func() {
			defer started()
			for n := 0; !done.Load() && n < rounds.Of(200); n++ {
				rec, err := store.Create(e.ctx, e.record())
				if err != nil {
					e.Errorf("Create: %v", err)
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
	for range rounds.Of(5) {
		mu.Lock()
		before := slices.Clone(created)
		mu.Unlock()
		e.clear()
		for _, key := range before {
			if _, err := fresh(e.ctx, e.s, key); !isAny(err, session.ErrNotFound) {
				e.Errorf("Get of a session created before Clear: %v; want %v", err, session.ErrNotFound)
			}
		}
	}
	done.Store(true)
	wg.Wait()
	e.clear()
	for _, key := range created {
		if _, err := fresh(e.ctx, e.peer(), key); !isAny(err, session.ErrNotFound) {
			e.Errorf("Get after the last Clear: %v; want %v", err, session.ErrNotFound)
		}
	}
}
