package sessiontest

import (
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// foreignCases are about keys that do not tell their bucket.
func foreignCases() []testCase {
	return []testCase{
		{name: "a foreign key does all that a native one does", run: foreignLife},
		{name: "a foreign key is found whatever its deadline", run: foreignBuckets},
		{name: "a foreign key is used once, whatever the deadline", run: foreignTwice},
		{name: "a foreign session renews to a native one", run: foreignRenew},
		{name: "a session renews to a foreign one", run: renewToForeign},
	}
}

func foreignLife(e *env) {
	rec := e.foreign()
	rec.User = e.unique("user")
	got := e.create(rec)
	rec.Version, rec.Expires = e.newer("Create", got, 0), rec.Deadline
	e.same("Create", got, rec)
	rec.Created = got.Created
	e.same("Get", e.live(rec.Key), rec)

	rec.Data, rec.Expires = []byte("changed"), rec.Deadline.Add(-time.Hour)
	first := rec
	got = e.save(rec)
	rec.Version = e.newer("Save", got, rec.Version)
	e.same("Save", got, rec)

	expires, err := e.s.Touch(e.ctx, rec.Key, rec.Deadline.Add(-time.Minute))
	if err != nil {
		e.Fatalf("Touch: %v", err)
	}
	rec.Expires = rec.Deadline.Add(-time.Minute)
	e.sameTime("Touch", expires, rec.Expires)
	e.same("Get", e.live(rec.Key), rec)

	stale := rec
	stale.Version = first.Version
	_, err = e.s.Save(e.ctx, stale)
	e.refused("Save of an old version", err, session.ErrConflict)
	e.destroy(1, rec.Key)
	e.neverLive(rec.Key, "a destroyed session")
}

func foreignBuckets(e *env) {
	var recs []session.Record
	for _, life := range []time.Duration{
		time.Hour, 90 * time.Minute, 5 * time.Hour, 13 * time.Hour, e.h.Longest / 3, e.h.Longest / 2, e.h.Longest - time.Minute,
	} {
		rec := e.foreign()
		rec.Deadline = e.now().Add(life)
		recs = append(recs, e.create(rec))
	}
	for range 2 { // once to search, once with what the search found
		for _, rec := range recs {
			e.same("Get", e.live(rec.Key), rec)
			got, err := e.peer().Get(e.ctx, rec.Key)
			if err != nil {
				e.Fatalf("Get by the other node: %v", err)
			}
			e.same("Get by the other node", got, rec)
		}
	}
	for _, rec := range recs {
		e.destroy(1, rec.Key)
		e.gone(rec.Key)
	}
}

func foreignTwice(e *env) {
	for _, dead := range []bool{false, true} {
		rec := e.create(e.foreign())
		if dead {
			e.destroy(1, rec.Key)
		}
		for _, life := range []time.Duration{time.Hour, 26 * time.Hour / 2, e.h.Longest / 2} {
			again := rec
			again.Deadline, again.Expires = e.now().Add(life), time.Time{}
			_, err := e.s.Create(e.ctx, again)
			e.refused("Create", err, session.ErrExists)

			old := e.create(e.record())
			again.Version = old.Version
			_, err = e.s.Renew(e.ctx, old.Key, again, 0)
			e.refused("Renew", err, session.ErrExists)
			e.live(old.Key)
		}
		if dead {
			e.gone(rec.Key)
		} else {
			e.same("Get", e.live(rec.Key), rec)
		}
	}
}

func foreignRenew(e *env) {
	old := e.create(e.foreign())
	native := e.renew(old, time.Minute)
	want := old
	want.Key, want.Version = native.Key, e.newer("Renew", native, old.Version)
	e.same("Renew", native, want)
	e.same("Get of the native key", e.live(native.Key), want)
	e.same("Get of the foreign key in grace", e.live(old.Key), want)
	_, err := e.s.Save(e.ctx, old)
	e.refused("Save to the foreign key in grace", err, session.ErrConflict)
	if p, ok := e.s.(session.Putter); ok {
		_, err := p.Put(e.ctx, old)
		e.refused("Put to the foreign key in grace", err, session.ErrNotFound)
	}
	e.destroy(1, old.Key)
	e.gone(old.Key)
	e.gone(native.Key)
}

func renewToForeign(e *env) {
	old := e.create(e.record())
	next := e.foreign()
	next.Version = old.Version
	got, err := e.s.Renew(e.ctx, old.Key, next, time.Minute)
	if err != nil {
		e.Fatalf("Renew: %v", err)
	}
	if got.Key != next.Key {
		e.Errorf("Renew returned the key %v/%d; want %v/%d", got.Key, got.Key.Bucket, next.Key, next.Key.Bucket)
	}
	e.same("Get of the foreign key", e.live(next.Key), got)
	led := e.live(old.Key)
	if led.Key.Hash != next.Key.Hash {
		e.Errorf("the old key leads to %v; want %v", led.Key, next.Key)
	}
	e.same("Get by the key that the old one led to", e.live(led.Key), led)
	e.destroy(1, led.Key)
	e.gone(next.Key)
	e.gone(led.Key)
	e.gone(old.Key)
}
