package sessiontest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

func backgroundCases() []testCase {
	return []testCase{
		{name: "pruning keeps the living alive and the dead dead", needs: Pruner, own: true, run: pruneKeeps},
		{name: "pruning runs beside writes", needs: Pruner, own: true, run: pruneWhileWriting},
		{name: "pruning starts and stops in any order", needs: Pruner, own: true, run: pruneStartStop},
		{name: "what is done is counted", needs: Statser, own: true, run: statsCount},
		{name: "a fresh read sees the other node's writes at once", needs: FreshGetter, run: freshSees},
	}
}

func (e *env) pruneNow(s session.Store) {
	e.Helper()
	p, err := s.(session.Pruner).PruneNow(e.ctx)
	if err != nil {
		e.Fatalf("PruneNow: %v", err)
	}
	if p.Rows < 0 || p.Emptied < 0 || p.Made < 0 || p.Retired < 0 {
		e.Errorf("PruneNow = %+v", p)
	}
}

func pruneKeeps(e *env) {
	var live, dead []session.Record
	for i := range 8 {
		rec := []session.Record{e.record(), e.foreign()}[i%2]
		rec.User = e.unique("user")
		rec = e.create(rec)
		switch i / 2 {
		case 0:
			live = append(live, rec)
		case 1:
			e.destroy(1, rec.Key)
			dead = append(dead, rec)
		case 2:
			dead = append(dead, rec)
			live = append(live, e.renew(rec, 0))
		case 3:
			e.h.Expire(e.T, e.s, rec.Key)
			defer func() { // it may be forgotten, but not be found
				_, err := e.s.Save(e.ctx, rec)
				e.refused("Save of an expired session after pruning", err, session.ErrNotFound)
				e.neverLive(rec.Key, "an expired session after pruning")
			}()
			if p, ok := e.s.(session.Putter); ok && rec.Key.Bucket == 0 {
				defer func() {
					_, err := p.Put(e.ctx, rec)
					e.refused("Put to an expired foreign session after pruning", err, session.ErrNotFound)
				}()
			}
		}
	}
	grace := e.create(e.record())
	head := e.renew(grace, time.Hour)
	for _, s := range []session.Store{e.s, e.peer(), e.s} {
		e.pruneNow(s)
		for _, rec := range live {
			e.same("Get after pruning", e.live(rec.Key), rec)
		}
		e.same("Get by a key in its grace period after pruning", e.live(grace.Key), head)
		for _, rec := range dead {
			e.gone(rec.Key)
			e.lateWrites(e.s, rec)
			e.gone(rec.Key)
		}
	}
	// The chain is still known: ending the start ends the head.
	e.destroy(1, dead[2].Key)
	e.gone(live[2].Key)
}

func pruneWhileWriting(e *env) {
	e.peer()
	var done atomic.Bool
	var pruning, wg sync.WaitGroup
	for _, s := range []session.Store{e.s, e.peer()} {
		pruning.Go(func() {
			for !done.Load() {
				if _, err := s.(session.Pruner).PruneNow(e.ctx); err != nil {
					e.Errorf("PruneNow: %v", err)
					return
				}
			}
		})
	}
	for i := range 8 {
		store := e.node(i)
		wg.Go(func() {
			for range rounds.Of(15) {
				rec, err := store.Create(e.ctx, e.record())
				if err == nil {
					rec, err = store.Save(e.ctx, rec)
				}
				if err == nil {
					rec, err = store.Renew(e.ctx, rec.Key, e.successor(rec), time.Minute)
				}
				if err == nil {
					_, err = store.Touch(e.ctx, rec.Key, rec.Deadline)
				}
				if err == nil {
					_, err = store.Get(e.ctx, rec.Key)
				}
				if err != nil {
					e.Errorf("during pruning: %v", err)
				}
			}
		})
	}
	wg.Wait()
	done.Store(true)
	pruning.Wait()
}

func pruneStartStop(e *env) {
	p := e.s.(session.Pruner)
	for range 3 {
		p.StartPruning()
		p.StartPruning()
		for range 2 {
			if err := p.StopPruning(e.ctx); err != nil {
				e.Errorf("StopPruning: %v", err)
			}
		}
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if i%2 == 0 {
				p.StartPruning()
			} else if err := p.StopPruning(e.ctx); err != nil {
				e.Errorf("StopPruning: %v", err)
			}
		})
	}
	wg.Wait()
	e.pruneNow(e.s)
	p.StartPruning() // left for Close to stop
	e.live(e.create(e.record()).Key)
}

func statsCount(e *env) {
	stats := e.s.(session.Statser).Stats
	before := stats()
	a := e.create(e.record())
	b := e.create(e.record())
	c := e.create(e.record())
	a = e.save(a)
	a = e.save(a)
	stale := a
	stale.Version--
	_, err := e.s.Save(e.ctx, stale)
	e.refused("Save", err, session.ErrConflict)
	if _, err = e.s.Touch(e.ctx, b.Key, b.Deadline); err != nil {
		e.Errorf("Touch: %v", err)
	}
	_, err = e.s.Touch(e.ctx, e.record().Key, b.Deadline)
	e.refused("Touch", err, session.ErrNotFound)
	e.live(a.Key)
	e.live(b.Key)
	b = e.renew(b, 0)
	e.destroy(2, a.Key, b.Key)
	after := stats()
	for _, c := range []struct {
		name          string
		before, after uint64
		want          uint64
	}{
		{"Creates", before.Creates, after.Creates, 3},
		{"Saves", before.Saves, after.Saves, 2},
		{"Touches", before.Touches, after.Touches, 1},
		{"Renews", before.Renews, after.Renews, 1},
		{"Destroys", before.Destroys, after.Destroys, 2},
		{"Refused", before.Refused, after.Refused, 2},
		{"Gets", before.Gets, after.Gets, 2},
		{"Unknown", before.Unknown, after.Unknown, 0},
		{"BackgroundErrors", before.BackgroundErrors, after.BackgroundErrors, 0},
	} {
		if got := c.after - c.before; got != c.want {
			e.Errorf("%s grew by %d; want %d", c.name, got, c.want)
		}
	}
	e.live(c.Key)
	if clearer, ok := e.s.(session.Clearer); ok {
		if _, err := clearer.Clear(e.ctx); err != nil {
			e.Errorf("Clear: %v", err)
		}
		if got := stats().Destroys - after.Destroys; got != 1 {
			e.Errorf("with Clear, Destroys grew by %d; want 1", got)
		}
	}
}

func freshSees(e *env) {
	rec := e.create(e.record())
	e.live(rec.Key)
	rec.Data = []byte("changed")
	got, err := e.peer().Save(e.ctx, rec)
	if err != nil {
		e.Fatalf("Save by the other node: %v", err)
	}
	f := e.s.(session.FreshGetter)
	read, err := f.GetFresh(e.ctx, rec.Key)
	if err != nil {
		e.Fatalf("GetFresh: %v", err)
	}
	e.same("GetFresh", read, got)
	if _, err := e.peer().Destroy(e.ctx, rec.Key); err != nil {
		e.Fatalf("Destroy by the other node: %v", err)
	}
	_, err = f.GetFresh(e.ctx, rec.Key)
	e.refused("GetFresh of a destroyed session", err, session.ErrNotFound)
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	_, err = f.GetFresh(ctx, rec.Key)
	e.refused("GetFresh with a cancelled context", err, context.Canceled)
}
