package sessiontest

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func fateCases() []testCase {
	cases := []testCase{
		{name: "a live session's fate is to be live", run: fateLive},
		{name: "the fate of what never was is unknown", run: fateUnknown},
		{name: "the fate of what a call ended is that", run: fateEnded},
		{name: "the fate of what was cleared is to be ended", own: true, run: fateCleared},
		{name: "the fate of an expired session is that", run: fateExpired},
		{name: "the fate of a renewed session is that, whatever its successor's", run: fateRenewed},
		{name: "a fate outlasts pruning", own: true, run: fatePruned},
		{name: "the fate of what is forgotten is unknown", run: fateForgotten},
	}
	for i := range cases {
		cases[i].needs = Explainer
	}
	return cases
}

// fate checks what each node tells of key at once: one fate of want. The error of a
// Get that finds nothing tells it too.
func (e *env) fate(key session.Key, want ...session.Fate) {
	e.Helper()
	for i, s := range []session.Store{e.s, e.peer()} {
		got, err := s.(session.Explainer).Fate(e.ctx, key)
		if err != nil || !slices.Contains(want, got) {
			e.Errorf("Fate by node %d = %v, %v; want %v, nil", i, got, err, want)
		}
		if _, err := fresh(e.ctx, s, key); errors.Is(err, session.ErrNotFound) && !slices.Contains(want, session.FateOf(err)) {
			e.Errorf("the error of Get by node %d tells %v; want %v", i, session.FateOf(err), want)
		}
		if _, err := s.Get(e.ctx, key); errors.Is(err, session.ErrNotFound) && !slices.Contains(want, session.FateOf(err)) {
			e.Errorf("the error of Get by node %d, from memory, tells %v; want %v", i, session.FateOf(err), want)
		}
	}
}

// seen creates a session that both nodes have read.
func (e *env) seen(rec session.Record) session.Record {
	e.Helper()
	rec = e.create(rec)
	e.live(rec.Key)
	if _, err := e.peer().Get(e.ctx, rec.Key); err != nil {
		e.Fatalf("Get by the other node: %v", err)
	}
	return rec
}

func fateLive(e *env) {
	for _, rec := range []session.Record{e.record(), e.foreign()} {
		rec.User, rec.Expires = e.unique("user"), rec.Deadline.Add(-time.Hour)
		rec = e.create(rec)
		e.fate(rec.Key, session.FateLive)
		rec = e.save(rec)
		e.fate(rec.Key, session.FateLive)
		expires, err := e.s.Touch(e.ctx, rec.Key, rec.Deadline)
		if err != nil {
			e.Fatalf("Touch: %v", err)
		}
		rec.Expires = expires
		e.fate(rec.Key, session.FateLive)

		stale := rec
		stale.Version--
		stale.Expires = e.now().Add(-time.Minute)
		_, err = e.s.Save(e.ctx, stale)
		e.refused("Save of an old version", err, session.ErrConflict)
		e.fate(rec.Key, session.FateLive)
		e.same("Get after Fate", e.live(rec.Key), rec)
	}
	if has(e.s, Putter) {
		rec := e.put(e.foreign())
		e.fate(rec.Key, session.FateLive)
		rec = e.put(rec)
		e.fate(rec.Key, session.FateLive)
	}
}

func fateUnknown(e *env) {
	near := e.record().Key
	at := func(bucket int32) session.Key { return session.Key{Hash: near.Hash, Bucket: bucket} }
	for _, key := range []session.Key{
		{}, {Bucket: near.Bucket}, near, e.foreign().Key,
		at(math.MinInt32), at(-1), at(1), at(math.MaxInt32),
		session.NewID(e.now().Add(-time.Minute)).Key(),
		session.NewID(e.now().Add(-e.h.Longest)).Key(),
		session.NewID(e.now().Add(e.h.Longest + 24*time.Hour)).Key(),
	} {
		e.fate(key, session.FateUnknown)
	}
	for _, end := range []bool{false, true} {
		rec := e.create(e.record())
		if end {
			e.destroy(1, rec.Key)
		}
		for _, d := range []int32{-1, 1, 24} {
			forged := rec.Key
			forged.Bucket += d
			e.fate(forged, session.FateUnknown)
		}
	}
	refused := e.record()
	refused.Expires = refused.Deadline.Add(time.Hour)
	_, err := e.s.Create(e.ctx, refused)
	e.refused("Create with an expiry past the deadline", err, session.ErrDeadline)
	e.fate(refused.Key, session.FateUnknown)
}

func fateEnded(e *env) {
	past := func() time.Time { return e.now().Add(-time.Minute) }
	ends := map[string]func(rec session.Record){
		"Destroy": func(rec session.Record) { e.destroy(1, rec.Key) },
		"Destroy, twice": func(rec session.Record) {
			e.destroy(1, rec.Key)
			e.destroy(0, rec.Key)
		},
		"Save": func(rec session.Record) {
			rec.Expires = past()
			e.save(rec)
		},
		"Save with the first of all times": func(rec session.Record) {
			rec.Expires = time.Unix(0, 0)
			e.save(rec)
		},
	}
	if has(e.s, Putter) {
		ends["Put"] = func(rec session.Record) {
			rec.Expires = past()
			e.put(rec)
		}
	}
	if has(e.s, UserIndex) {
		limit := session.UserLimit{Max: 1, Evict: true}
		ends["DestroyUser"] = func(rec session.Record) {
			if n, err := e.users().DestroyUser(e.ctx, rec.User); n != 1 || err != nil {
				e.Errorf("DestroyUser = %d, %v; want 1, nil", n, err)
			}
		}
		ends["CreateLimited"] = func(rec session.Record) {
			next, _, err := e.users().CreateLimited(e.ctx, e.recordOf(rec.User), limit)
			if err != nil {
				e.Fatalf("CreateLimited: %v", err)
			}
			e.fate(next.Key, session.FateLive)
		}
		ends["RenewLimited"] = func(rec session.Record) {
			old := e.create(e.record())
			next := e.successor(old)
			next.User = rec.User
			if _, _, err := e.users().RenewLimited(e.ctx, old.Key, next, 0, limit); err != nil {
				e.Fatalf("RenewLimited: %v", err)
			}
			e.fate(old.Key, session.FateRenewed)
			e.fate(next.Key, session.FateLive)
		}
	}
	for name, end := range ends {
		for _, rec := range []session.Record{e.record(), e.foreign()} {
			rec.User = e.unique("user")
			rec = e.seen(rec)
			end(rec)
			e.fate(rec.Key, session.FateEnded)
			if e.Failed() {
				e.Fatalf("after %s", name)
			}
		}
	}
	if has(e.s, Putter) {
		rec := e.put(e.foreign())
		e.destroy(1, rec.Key)
		e.fate(rec.Key, session.FateEnded)
		_, err := e.s.(session.Putter).Put(e.ctx, rec)
		e.refused("late Put", err, session.ErrNotFound)
		e.fate(rec.Key, session.FateEnded)
	}
}

func fateCleared(e *env) {
	clearer, ok := e.s.(session.Clearer)
	if !ok {
		e.Skip("the store has no Clearer")
	}
	recs := []session.Record{e.seen(e.record()), e.seen(e.foreign())}
	if _, err := clearer.Clear(e.ctx); err != nil {
		e.Fatalf("Clear: %v", err)
	}
	for _, rec := range recs {
		e.fate(rec.Key, session.FateEnded)
	}
}

func fateExpired(e *env) {
	for _, rec := range []session.Record{e.record(), e.foreign()} {
		rec.User = e.unique("user")
		rec = e.seen(rec)
		e.h.Expire(e.T, e.s, rec.Key)
		e.fate(rec.Key, session.FateExpired)
		_, err := e.s.Touch(e.ctx, rec.Key, rec.Deadline)
		e.refused("late Touch", err, session.ErrNotFound)
		_, err = e.s.Save(e.ctx, rec)
		e.refused("late Save", err, session.ErrNotFound)
		e.fate(rec.Key, session.FateExpired)
		e.destroy(0, rec.Key)
		e.fate(rec.Key, session.FateExpired, session.FateEnded)
	}
	for _, rec := range []session.Record{e.record(), e.foreign()} {
		e.fate(killDeadline(e, rec).Key, session.FateExpired)
	}
	if has(e.s, Putter) {
		rec := e.put(e.foreign())
		e.h.Expire(e.T, e.s, rec.Key)
		e.fate(rec.Key, session.FateExpired)
	}
}

func fateRenewed(e *env) {
	for _, grace := range []time.Duration{0, time.Hour} {
		for _, rec := range []session.Record{e.record(), e.foreign()} {
			first := e.seen(rec)
			second := e.renew(first, grace)
			e.fate(first.Key, session.FateRenewed)
			e.fate(second.Key, session.FateLive)
			third := e.renew(second, grace)
			e.fate(first.Key, session.FateRenewed)
			e.fate(second.Key, session.FateRenewed)
			e.fate(third.Key, session.FateLive)

			e.destroy(1, first.Key)
			e.fate(first.Key, session.FateRenewed)
			e.fate(second.Key, session.FateRenewed)
			e.fate(third.Key, session.FateEnded)
		}
	}
	old := e.create(e.record())
	next := e.renew(old, time.Hour)
	e.h.Expire(e.T, e.s, next.Key)
	e.fate(old.Key, session.FateRenewed)
	e.fate(next.Key, session.FateExpired)
	e.fate(killRenewGrace(e, e.record()).Key, session.FateRenewed)
}

// fatePruned: nothing is forgotten while its key could be used again.
func fatePruned(e *env) {
	if !has(e.s, Pruner) {
		e.Skip("the store has no Pruner")
	}
	for _, foreign := range []bool{false, true} {
		rec := func() session.Record {
			if foreign {
				return e.create(e.foreign())
			}
			return e.create(e.record())
		}
		live, ended, renewed, expired := rec(), rec(), rec(), rec()
		e.destroy(1, ended.Key)
		e.renew(renewed, 0)
		e.h.Expire(e.T, e.s, expired.Key)
		for _, s := range []session.Store{e.s, e.peer()} {
			e.pruneNow(s)
			e.fate(live.Key, session.FateLive)
			e.fate(ended.Key, session.FateEnded)
			e.fate(renewed.Key, session.FateRenewed)
			e.fate(expired.Key, session.FateExpired)
		}
	}
}

func fateForgotten(e *env) {
	if e.h.Vanish == nil {
		e.Skip("Harness.Vanish is nil")
	}
	for _, end := range []bool{false, true} {
		for _, rec := range []session.Record{e.record(), e.foreign()} {
			rec = e.seen(rec)
			if end {
				e.destroy(1, rec.Key)
			}
			e.h.Vanish(e.T, e.s, rec.Key)
			e.fate(rec.Key, session.FateUnknown)
		}
	}
	old := e.create(e.record())
	next := e.renew(old, time.Hour)
	e.h.Vanish(e.T, e.s, next.Key)
	e.fate(old.Key, session.FateRenewed)
	e.fate(next.Key, session.FateUnknown)
}
