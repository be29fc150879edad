package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// patience is how long anything may take that has to happen.
const patience = 5 * time.Minute

// private is part of all data and foreign tokens, and must not be in errors.
const private = "not-to-be-printed"

// env is what a case works with.
type env struct {
	*testing.T
	h     Harness
	s     session.Store
	other session.Store // see peer
	ctx   context.Context
	count atomic.Int64
}

func newEnv(t *testing.T, h Harness, s, peer session.Store) *env {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &env{T: t, h: h, s: s, other: peer, ctx: ctx}
}

func open(t testing.TB, h Harness) session.Store {
	t.Helper()
	s := h.New(t)
	closeLater(t, s)
	return s
}

func openPeer(t testing.TB, h Harness, s session.Store) session.Store {
	t.Helper()
	if h.Peer == nil {
		return s
	}
	p := h.Peer(t, s)
	closeLater(t, p)
	return p
}

func closeLater(t testing.TB, s session.Store) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// peer returns the other node.
func (e *env) peer() session.Store {
	if e.other == nil {
		e.other = openPeer(e.T, e.h, e.s)
	}
	return e.other
}

// node returns e's node for even numbers and the other one for odd ones.
func (e *env) node(i int) session.Store {
	if i%2 == 0 {
		return e.s
	}
	return e.peer()
}

func (e *env) now() time.Time {
	if c, ok := e.s.(session.Clock); ok {
		return c.Now()
	}
	return time.Now().UTC()
}

// unique returns a text that no other call returns.
func (e *env) unique(prefix string) string {
	return fmt.Sprintf("%s-%s-%d", prefix, session.NewID(time.Now()).Key(), e.count.Add(1))
}

// record returns a session to be, with two hours to live.
func (e *env) record() session.Record { return e.recordUntil(e.now().Add(2 * time.Hour)) }

func (e *env) recordUntil(deadline time.Time) session.Record {
	return session.Record{
		Key:      session.NewID(deadline).Key(),
		Deadline: deadline,
		Data:     []byte(e.unique(private)),
	}
}

func (e *env) recordOf(user string) session.Record {
	rec := e.record()
	rec.User = user
	return rec
}

// foreign is record with a key that does not tell its bucket.
func (e *env) foreign() session.Record {
	rec := e.record()
	rec.Key = session.ForeignKey("sessiontest", e.unique(private))
	return rec
}

func (e *env) create(rec session.Record) session.Record {
	e.Helper()
	got, err := e.s.Create(e.ctx, rec)
	if err != nil {
		e.Fatalf("Create: %v", err)
	}
	return got
}

func (e *env) save(rec session.Record) session.Record {
	e.Helper()
	got, err := e.s.Save(e.ctx, rec)
	if err != nil {
		e.Fatalf("Save: %v", err)
	}
	return got
}

// renew renews old to a new native session that differs in nothing else.
func (e *env) renew(old session.Record, grace time.Duration) session.Record {
	e.Helper()
	got, err := e.s.Renew(e.ctx, old.Key, e.successor(old), grace)
	if err != nil {
		e.Fatalf("Renew: %v", err)
	}
	return got
}

// successor is old with a new native key.
func (e *env) successor(old session.Record) session.Record {
	old.Key = session.NewID(old.Deadline).Key()
	return old
}

// destroy destroys keys and checks how many were live.
func (e *env) destroy(want int64, keys ...session.Key) {
	e.Helper()
	n, err := e.s.Destroy(e.ctx, keys...)
	if err != nil || n != want {
		e.Errorf("Destroy = %d, %v; want %d, nil", n, err, want)
	}
}

// live returns the session that key leads to.
func (e *env) live(key session.Key) session.Record {
	e.Helper()
	rec, err := e.s.Get(e.ctx, key)
	if err != nil {
		e.Fatalf("Get: %v; want a live session", err)
	}
	return rec
}

// gone checks that no node has a session for key.
func (e *env) gone(key session.Key) {
	e.Helper()
	rec, err := e.s.Get(e.ctx, key)
	e.refused("Get", err, session.ErrNotFound)
	if !rec.Key.IsZero() || rec.Data != nil {
		e.Errorf("Get returned a record with its error: %+v", rec)
	}
	_, err = fresh(e.ctx, e.peer(), key)
	e.refused("Get by the other node", err, session.ErrNotFound)
}

// fresh reads past a cache, if there is one.
func fresh(ctx context.Context, s session.Store, key session.Key) (session.Record, error) {
	if f, ok := s.(session.FreshGetter); ok {
		return f.GetFresh(ctx, key)
	}
	return s.Get(ctx, key)
}

// refused checks that err is one of want and keeps what is private.
func (e *env) refused(what string, err error, want ...error) {
	e.Helper()
	if !isAny(err, want...) {
		e.Errorf("%s: %v; want %q", what, err, want)
		return
	}
	if strings.Contains(err.Error(), private) {
		e.Errorf("%s: the error shows data or a token: %v", what, err)
	}
}

func isAny(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// same checks that two records are the same session, as far as the store's
// precision allows. Created is not compared where want has none.
func (e *env) same(what string, got, want session.Record) {
	e.Helper()
	if got.Key != want.Key {
		e.Errorf("%s: Key is %v/%d; want %v/%d", what, got.Key, got.Key.Bucket, want.Key, want.Key.Bucket)
	}
	if got.Version != want.Version {
		e.Errorf("%s: Version is %d; want %d", what, got.Version, want.Version)
	}
	if got.User != want.User {
		e.Errorf("%s: User is %q; want %q", what, got.User, want.User)
	}
	if !bytes.Equal(got.Data, want.Data) {
		e.Errorf("%s: Data is %.80q (%d bytes); want %.80q (%d bytes)", what, got.Data, len(got.Data), want.Data, len(want.Data))
	}
	e.sameTime(what+": Expires", got.Expires, want.Expires)
	e.sameTime(what+": Deadline", got.Deadline, want.Deadline)
	if !want.Created.IsZero() {
		e.sameTime(what+": Created", got.Created, want.Created)
	}
}

// newer checks that a write gave a session of that version a greater one, which
// it returns.
func (e *env) newer(what string, got session.Record, than int64) int64 {
	e.Helper()
	if got.Version <= than {
		e.Errorf("%s: Version is %d; want more than %d", what, got.Version, than)
	}
	return got.Version
}

func (e *env) sameTime(what string, got, want time.Time) {
	e.Helper()
	if d := got.Sub(want).Abs(); d >= e.h.Precision {
		e.Errorf("%s is %v; want %v", what, got, want)
	}
	if got.Location() != time.UTC {
		e.Errorf("%s is not in UTC: %v", what, got)
	}
}

// eventually waits for something that has to happen.
func (e *env) eventually(what string, happened func() bool) {
	e.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			e.Fatalf("it never happened that %s", what)
		}
	}
}

// eventuallyGone waits until the session of key has ended by the store's clock
// and is served from no cache.
func (e *env) eventuallyGone(key session.Key) {
	e.Helper()
	e.eventually("the session ended", func() bool {
		_, err := fresh(e.ctx, e.s, key)
		if err != nil {
			e.refused("Get", err, session.ErrNotFound)
		}
		return err != nil
	})
	for i := range 2 {
		e.eventually("no cache serves the session", func() bool {
			_, err := e.node(i).Get(e.ctx, key)
			return isAny(err, session.ErrNotFound)
		})
	}
	e.gone(key)
}

// createSoon creates a session whose expiry or deadline, whichever set sets,
// is very near. It tries again with a later one if creation took too long.
func (e *env) createSoon(set func(near time.Time) session.Record) session.Record {
	e.Helper()
	for life := time.Second; ; life *= 2 {
		got, err := e.s.Create(e.ctx, set(e.now().Add(life)))
		switch {
		case err == nil:
			return got
		case !errors.Is(err, session.ErrDeadline) || life > patience/4:
			e.Fatalf("Create: %v", err)
		}
	}
}
