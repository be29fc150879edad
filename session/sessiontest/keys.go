package sessiontest

import (
	"math"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func keyCases() []testCase {
	return []testCase{
		{name: "the zero key is refused", run: zeroKey},
		{name: "a key that nothing can have is like an unknown one", run: impossibleKeys},
		{name: "a key with another bucket is another key", run: forgedBuckets},
		{name: "create wants the bucket of the deadline", run: createForgedBuckets},
	}
}

func zeroKey(e *env) {
	var zero session.Key
	e.gone(zero)

	rec := e.record()
	rec.Key, rec.Version = zero, 1
	_, err := e.s.Create(e.ctx, rec)
	e.refused("Create", err, session.ErrInvalid)
	_, err = e.s.Save(e.ctx, rec)
	e.refused("Save", err, session.ErrInvalid)
	_, err = e.s.Touch(e.ctx, zero, rec.Deadline)
	e.refused("Touch", err, session.ErrInvalid)
	_, err = e.s.Renew(e.ctx, zero, e.successor(rec), 0)
	e.refused("Renew of it", err, session.ErrInvalid)
	if p, ok := e.s.(session.Putter); ok {
		_, err = p.Put(e.ctx, rec)
		e.refused("Put", err, session.ErrInvalid)
	}
	if l, ok := e.s.(session.LateToucher); ok {
		_, err = l.TouchLater(e.ctx, zero, rec.Deadline)
		e.refused("TouchLater", err, session.ErrInvalid)
	}

	other := e.create(e.record())
	_, err = e.s.Destroy(e.ctx, other.Key, zero)
	e.refused("Destroy", err, session.ErrInvalid)
	_, err = e.s.Renew(e.ctx, other.Key, rec, 0)
	e.refused("Renew to it", err, session.ErrInvalid)
	e.same("Get of another session", e.live(other.Key), other)
	e.gone(zero)
}

func impossibleKeys(e *env) {
	now := e.now()
	near := e.record().Key
	at := func(bucket int32) session.Key { return session.Key{Hash: near.Hash, Bucket: bucket} }
	for _, key := range []session.Key{
		at(math.MinInt32), at(-1), at(1), at(math.MaxInt32 - 1), at(math.MaxInt32),
		at(session.BucketOf(now.Add(-365 * 24 * time.Hour))),
		at(session.BucketOf(now.Add(e.h.Longest + 24*time.Hour))),
		{Bucket: near.Bucket}, // possible, but no hash is zero
		near,                  // possible, but unknown
	} {
		e.neverLive(key, "an unknown session")
	}
}

// neverLive writes to key in all ways that need a live session. Writes of a
// version may also be refused with one of or.
func (e *env) neverLive(key session.Key, what string, or ...error) {
	e.Helper()
	or = append(or, session.ErrNotFound)
	e.gone(key)
	rec := e.record()
	rec.Key, rec.Version = key, 1
	_, err := e.s.Save(e.ctx, rec)
	e.refused("Save of "+what, err, or...)
	_, err = e.s.Touch(e.ctx, key, rec.Deadline)
	e.refused("Touch of "+what, err, session.ErrNotFound)
	next := e.record()
	next.Version = 1
	_, err = e.s.Renew(e.ctx, key, next, time.Minute)
	e.refused("Renew of "+what, err, or...)
	e.gone(next.Key)
	if l, ok := e.s.(session.LateToucher); ok {
		_, err = l.TouchLater(e.ctx, key, rec.Deadline)
		e.refused("TouchLater of "+what, err, session.ErrNotFound)
	}
	e.destroy(0, key)
	e.gone(key)
}

func forgedBuckets(e *env) {
	rec := e.create(e.record())
	for _, d := range []int32{-1, 1, 3, 24} {
		key := rec.Key
		key.Bucket += d
		e.neverLive(key, "a session with another bucket")
	}
	e.same("Get", e.live(rec.Key), rec)
}

func createForgedBuckets(e *env) {
	for _, bucket := range []int32{1, -1, math.MaxInt32, math.MinInt32} {
		forged := e.record()
		forged.Key.Bucket = bucket
		e.refuseForged(forged)
	}
	for _, d := range []int32{1, -1, 24} {
		forged := e.record()
		forged.Key.Bucket += d
		e.refuseForged(forged)
	}
}

func (e *env) refuseForged(forged session.Record) {
	e.Helper()
	_, err := e.s.Create(e.ctx, forged)
	e.refused("Create", err, session.ErrInvalid)
	e.gone(forged.Key)

	old := e.create(e.record())
	forged.Version = old.Version
	_, err = e.s.Renew(e.ctx, old.Key, forged, time.Minute)
	e.refused("Renew", err, session.ErrInvalid)
	e.gone(forged.Key)
	e.same("after the refused Renew", e.live(old.Key), old)
	if p, ok := e.s.(session.Putter); ok {
		_, err = p.Put(e.ctx, forged)
		e.refused("Put", err, session.ErrInvalid)
		e.gone(forged.Key)
	}
}
