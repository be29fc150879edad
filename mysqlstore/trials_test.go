package mysqlstore

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// trial is one write that may be disturbed, and how to see from the side whether
// it happened.
type trial struct {
	do   func(context.Context) error
	done func() bool // it is in the database
	not  func() bool // the database is as it was
}

// trialKind prepares a trial with a store that works.
type trialKind struct {
	name    string
	ends    bool // it ends a session, by a write that is not made to end one
	prepare func(t testing.TB, b brittle) trial
}

func trialKinds() []trialKind {
	live := func(t testing.TB, b brittle, key session.Key) func() bool {
		return func() bool { return b.live(t, key) }
	}
	dead := func(t testing.TB, b brittle, key session.Key) func() bool {
		return func() bool { return !b.live(t, key) }
	}
	absent := func(t testing.TB, b brittle, key session.Key) func() bool {
		return func() bool { return b.row(t, key) == nil }
	}
	at := func(t testing.TB, b brittle, rec session.Record) func() bool {
		return func() bool {
			r := b.row(t, rec.Key)
			return r != nil && r.live && r.version == rec.Version && bytes.Equal(r.data, rec.Data) && r.expires == storekit.Micros(rec.Expires)
		}
	}
	// saved is at the version after rec's, which nobody knows.
	saved := func(t testing.TB, b brittle, rec session.Record) func() bool {
		return func() bool {
			r := b.row(t, rec.Key)
			return r != nil && r.live && r.version > rec.Version && bytes.Equal(r.data, rec.Data) && r.expires == storekit.Micros(rec.Expires)
		}
	}
	one := func(_ int64, err error) error { return err } // after a lost answer the count may be short
	return []trialKind{
		{name: "Create", prepare: func(t testing.TB, b brittle) trial {
			rec := newSessionOf(b.Store, "ada")
			return trial{func(ctx context.Context) error {
				got, err := b.Create(ctx, rec)
				if err == nil && (got.Key != rec.Key || got.Version == 0 || got.Created.IsZero() || !bytes.Equal(got.Data, rec.Data)) {
					t.Errorf("Create returned %+v", got)
				}
				return err
			}, live(t, b, rec.Key), absent(t, b, rec.Key)}
		}},
		{name: "Create without a user", prepare: func(t testing.TB, b brittle) trial {
			rec := newSessionOf(b.Store, "")
			return trial{func(ctx context.Context) error { _, err := b.Create(ctx, rec); return err },
				live(t, b, rec.Key), absent(t, b, rec.Key)}
		}},
		{name: "Save", prepare: func(t testing.TB, b brittle) trial {
			rec := create(t, b.maker, newSessionOf(b.Store, "ada"))
			next := rec
			next.Data, next.Expires = []byte(unique("data")), rec.Expires.Add(time.Minute)
			return trial{func(ctx context.Context) error {
				got, err := b.Save(ctx, next)
				if err == nil && (got.Key != next.Key || got.Version <= next.Version || !got.Expires.Equal(next.Expires) || !bytes.Equal(got.Data, next.Data)) {
					t.Errorf("Save returned %+v", got)
				}
				return err
			}, saved(t, b, next), at(t, b, rec)}
		}},
		{name: "Save that ends the session", ends: true, prepare: func(t testing.TB, b brittle) trial {
			rec := create(t, b.maker, newSessionOf(b.Store, "ada"))
			given := rec
			given.Expires = b.Now().Add(-time.Hour)
			return trial{func(ctx context.Context) error { _, err := b.Save(ctx, given); return err },
				dead(t, b, rec.Key), at(t, b, rec)}
		}},
		{name: "Touch", prepare: func(t testing.TB, b brittle) trial {
			rec := create(t, b.maker, newSessionOf(b.Store, "ada"))
			next := rec
			next.Expires = rec.Expires.Add(time.Minute)
			return trial{func(ctx context.Context) error {
				got, err := b.Touch(ctx, rec.Key, next.Expires)
				if err == nil && !got.Equal(next.Expires) {
					t.Errorf("Touch returned %v", got)
				}
				return err
			}, at(t, b, next), at(t, b, rec)}
		}},
		{name: "Renew", prepare: func(t testing.TB, b brittle) trial {
			rec, next := create(t, b.maker, newSessionOf(b.Store, "ada")), newSessionOf(b.Store, "ada")
			next.Version = rec.Version
			return trial{func(ctx context.Context) error {
				got, err := b.Renew(ctx, rec.Key, next, time.Minute)
				if err == nil && (got.Key != next.Key || got.Version <= rec.Version || !got.Created.Equal(rec.Created)) {
					t.Errorf("Renew returned %+v", got)
				}
				return err
			},
				func() bool { return b.live(t, next.Key) && !b.live(t, rec.Key) },
				func() bool { return b.row(t, next.Key) == nil && b.live(t, rec.Key) }}
		}},
		{name: "RenewLimited", prepare: func(t testing.TB, b brittle) trial {
			user := unique("user")
			other, rec, next := create(t, b.maker, newSessionOf(b.Store, user)), create(t, b.maker, newSessionOf(b.Store, user)), newSessionOf(b.Store, user)
			next.Version = rec.Version
			return trial{func(ctx context.Context) error {
				got, evicted, err := b.RenewLimited(ctx, rec.Key, next, time.Minute, session.UserLimit{Max: 1, Evict: true})
				if err == nil && (got.Key != next.Key || len(evicted) != 1 || evicted[0] != other.Key) {
					t.Errorf("RenewLimited returned %+v, %v", got, evicted)
				}
				return err
			},
				func() bool { return b.live(t, next.Key) && !b.live(t, rec.Key) && !b.live(t, other.Key) },
				func() bool { return b.row(t, next.Key) == nil && b.live(t, rec.Key) && b.live(t, other.Key) }}
		}},
		{name: "CreateLimited", prepare: func(t testing.TB, b brittle) trial {
			user := unique("user")
			old, rec := create(t, b.maker, newSessionOf(b.Store, user)), newSessionOf(b.Store, user)
			return trial{func(ctx context.Context) error {
				got, evicted, err := b.CreateLimited(ctx, rec, session.UserLimit{Max: 1, Evict: true})
				if err == nil && (got.Key != rec.Key || got.Version == 0 || len(evicted) != 1 || evicted[0] != old.Key) {
					t.Errorf("CreateLimited returned %+v, %v", got, evicted)
				}
				return err
			},
				func() bool { return b.live(t, rec.Key) && !b.live(t, old.Key) },
				func() bool { return b.row(t, rec.Key) == nil && b.live(t, old.Key) }}
		}},
		{name: "Put of a new session", prepare: func(t testing.TB, b brittle) trial {
			rec := newSessionOf(b.Store, "ada")
			rec.Key = session.ForeignKey("test", unique(""))
			return trial{func(ctx context.Context) error { _, err := b.Put(ctx, rec); return err },
				live(t, b, rec.Key), absent(t, b, rec.Key)}
		}},
		{name: "Put of a session that exists", prepare: func(t testing.TB, b brittle) trial {
			rec := create(t, b.maker, newSessionOf(b.Store, "ada"))
			given := rec
			given.Data = []byte(unique("data"))
			return trial{func(ctx context.Context) error { _, err := b.Put(ctx, given); return err },
				func() bool { return bytes.Equal(b.row(t, rec.Key).data, given.Data) }, at(t, b, rec)}
		}},
		{name: "Put that ends the session", ends: true, prepare: func(t testing.TB, b brittle) trial {
			rec := create(t, b.maker, newSessionOf(b.Store, "ada"))
			given := rec
			given.Expires = b.Now().Add(-time.Hour)
			return trial{func(ctx context.Context) error { _, err := b.Put(ctx, given); return err },
				dead(t, b, rec.Key), at(t, b, rec)}
		}},
		{name: "Destroy", prepare: func(t testing.TB, b brittle) trial {
			rec := create(t, b.maker, newSessionOf(b.Store, "ada"))
			return trial{func(ctx context.Context) error { return one(b.Destroy(ctx, rec.Key)) },
				dead(t, b, rec.Key), at(t, b, rec)}
		}},
		{name: "DestroyUser", prepare: func(t testing.TB, b brittle) trial {
			user := unique("user")
			rec, spared := create(t, b.maker, newSessionOf(b.Store, user)), create(t, b.maker, newSessionOf(b.Store, user))
			return trial{func(ctx context.Context) error { return one(b.DestroyUser(ctx, user, spared.Key)) },
				func() bool { return !b.live(t, rec.Key) && b.live(t, spared.Key) }, at(t, b, rec)}
		}},
		{name: "Clear", prepare: func(t testing.TB, b brittle) trial {
			rec := create(t, b.maker, newSessionOf(b.Store, "ada"))
			return trial{func(ctx context.Context) error { return one(b.Clear(ctx)) },
				dead(t, b, rec.Key), at(t, b, rec)}
		}},
	}
}

func (tr trial) check(t testing.TB, what string, err error) {
	t.Helper()
	done, not := tr.done(), tr.not()
	switch {
	case done == not:
		t.Errorf("%s: done: %v, not done: %v", what, done, not)
	case err == nil && !done:
		t.Errorf("%s: a false success", what)
	case err != nil && !errors.Is(err, session.ErrUnknown) && !not:
		t.Errorf("%s: a false failure: %v", what, err)
	}
	for _, refusal := range []error{session.ErrConflict, session.ErrExists, session.ErrNotFound, session.ErrDeadline, session.ErrUserLimit} {
		if errors.Is(err, refusal) {
			t.Errorf("%s: nobody else was there: %v", what, err)
		}
	}
}
