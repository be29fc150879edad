package pgstore

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// trial is one write whose answer may get lost, and how to see from the side
// whether it happened.
type trial struct {
	key  session.Key // in the request
	do   func(context.Context) error
	done func() bool // it is in the database
	not  func() bool // the database is as it was
}

// trialKind prepares a trial with a store that works.
type trialKind struct {
	name    string
	commits bool // the transaction ends with a COMMIT of its own
	ends    bool // it ends a session, by a write that is not made to end one
	prepare func(t testing.TB, p place, s *Store) trial
}

func trialKinds() []trialKind {
	live := func(t testing.TB, p place, key session.Key) func() bool {
		return func() bool { return isLive(t, p, key) }
	}
	dead := func(t testing.TB, p place, key session.Key) func() bool {
		return func() bool { return !isLive(t, p, key) }
	}
	absent := func(t testing.TB, p place, key session.Key) func() bool {
		return func() bool { return rowOf(t, p, key) == nil }
	}
	at := func(t testing.TB, p place, rec session.Record) func() bool {
		return func() bool {
			r := rowOf(t, p, rec.Key)
			return r != nil && r.Live && r.Version == rec.Version && bytes.Equal(r.Data, rec.Data) && r.Expires.Equal(rec.Expires)
		}
	}
	// saved is at the version after rec's, which nobody knows.
	saved := func(t testing.TB, p place, rec session.Record) func() bool {
		return func() bool {
			r := rowOf(t, p, rec.Key)
			return r != nil && r.Live && r.Version > rec.Version && bytes.Equal(r.Data, rec.Data) && r.Expires.Equal(rec.Expires)
		}
	}
	one := func(n int64, err error) error { return err } // after a lost answer the count may be short
	unique := func(prefix string) string { return prefix + session.NewID(time.Now()).Key().String() }
	return []trialKind{
		{name: "Create", prepare: func(t testing.TB, p place, s *Store) trial {
			rec := fresh(s, "ada")
			return trial{rec.Key, func(ctx context.Context) error {
				got, err := s.Create(ctx, rec)
				if err == nil && (got.Key != rec.Key || got.Version == 0 || got.Created.IsZero() || !bytes.Equal(got.Data, rec.Data)) {
					t.Errorf("Create returned %+v", got)
				}
				return err
			}, live(t, p, rec.Key), absent(t, p, rec.Key)}
		}},
		{name: "Create of a foreign key", commits: true, prepare: func(t testing.TB, p place, s *Store) trial {
			rec := fresh(s, "ada")
			rec.Key = session.ForeignKey("test", unique(""))
			return trial{rec.Key, func(ctx context.Context) error {
				got, err := s.Create(ctx, rec)
				if err == nil && (got.Key != rec.Key || got.Version == 0 || got.Created.IsZero() || !bytes.Equal(got.Data, rec.Data)) {
					t.Errorf("Create returned %+v", got)
				}
				return err
			}, live(t, p, rec.Key), absent(t, p, rec.Key)}
		}},
		{name: "Save", prepare: func(t testing.TB, p place, s *Store) trial {
			rec := create(t, s, "ada")
			next := rec
			next.Data, next.Expires = []byte(unique("data")), rec.Expires.Add(time.Minute)
			return trial{rec.Key, func(ctx context.Context) error {
				got, err := s.Save(ctx, next)
				if err == nil && (got.Key != next.Key || got.Version <= next.Version || !got.Expires.Equal(next.Expires) || !bytes.Equal(got.Data, next.Data)) {
					t.Errorf("Save returned %+v", got)
				}
				return err
			}, saved(t, p, next), at(t, p, rec)}
		}},
		{name: "Save that ends the session", prepare: func(t testing.TB, p place, s *Store) trial {
			rec := create(t, s, "ada")
			given := rec
			given.Expires = s.Now().Add(-time.Hour)
			return trial{rec.Key, func(ctx context.Context) error { _, err := s.Save(ctx, given); return err },
				dead(t, p, rec.Key), at(t, p, rec)}
		}},
		{name: "Touch", prepare: func(t testing.TB, p place, s *Store) trial {
			rec := create(t, s, "ada")
			next := rec
			next.Expires = rec.Expires.Add(time.Hour)
			return trial{rec.Key, func(ctx context.Context) error {
				got, err := s.Touch(ctx, rec.Key, next.Expires)
				if err == nil && !got.Equal(next.Expires) {
					t.Errorf("Touch returned %v", got)
				}
				return err
			}, at(t, p, next), at(t, p, rec)}
		}},
		{name: "Renew", prepare: func(t testing.TB, p place, s *Store) trial {
			rec, next := create(t, s, "ada"), fresh(s, "ada")
			next.Version = rec.Version
			return trial{next.Key, func(ctx context.Context) error {
				got, err := s.Renew(ctx, rec.Key, next, time.Minute)
				if err == nil && (got.Key != next.Key || got.Version <= rec.Version || !got.Created.Equal(rec.Created)) {
					t.Errorf("Renew returned %+v", got)
				}
				return err
			},
				func() bool { return isLive(t, p, next.Key) && !isLive(t, p, rec.Key) },
				func() bool { return rowOf(t, p, next.Key) == nil && isLive(t, p, rec.Key) }}
		}},
		{name: "RenewLimited", commits: true, prepare: func(t testing.TB, p place, s *Store) trial {
			user := unique("user")
			other, rec, next := create(t, s, user), create(t, s, user), fresh(s, user)
			next.Version = rec.Version
			return trial{next.Key, func(ctx context.Context) error {
				got, evicted, err := s.RenewLimited(ctx, rec.Key, next, time.Minute, session.UserLimit{Max: 1, Evict: true})
				if err == nil && (got.Key != next.Key || len(evicted) != 1 || evicted[0] != other.Key) {
					t.Errorf("RenewLimited returned %+v, %v", got, evicted)
				}
				return err
			},
				func() bool {
					return isLive(t, p, next.Key) && !isLive(t, p, rec.Key) && !isLive(t, p, other.Key)
				},
				func() bool {
					return rowOf(t, p, next.Key) == nil && isLive(t, p, rec.Key) && isLive(t, p, other.Key)
				}}
		}},
		{name: "CreateLimited", commits: true, prepare: func(t testing.TB, p place, s *Store) trial {
			user := unique("user")
			old, rec := create(t, s, user), fresh(s, user)
			return trial{rec.Key, func(ctx context.Context) error {
				got, evicted, err := s.CreateLimited(ctx, rec, session.UserLimit{Max: 1, Evict: true})
				if err == nil && (got.Key != rec.Key || got.Version == 0 || len(evicted) != 1 || evicted[0] != old.Key) {
					t.Errorf("CreateLimited returned %+v, %v", got, evicted)
				}
				return err
			},
				func() bool { return isLive(t, p, rec.Key) && !isLive(t, p, old.Key) },
				func() bool { return rowOf(t, p, rec.Key) == nil && isLive(t, p, old.Key) }}
		}},
		{name: "Put of a new session", commits: true, prepare: func(t testing.TB, p place, s *Store) trial {
			rec := fresh(s, "ada")
			rec.Key = session.ForeignKey("test", unique(""))
			return trial{rec.Key, func(ctx context.Context) error { _, err := s.Put(ctx, rec); return err },
				live(t, p, rec.Key), absent(t, p, rec.Key)}
		}},
		{name: "Put of a session that exists", commits: true, prepare: func(t testing.TB, p place, s *Store) trial {
			rec := create(t, s, "ada")
			given := rec
			given.Data = []byte(unique("data"))
			return trial{rec.Key, func(ctx context.Context) error { _, err := s.Put(ctx, given); return err },
				func() bool { return bytes.Equal(rowOf(t, p, rec.Key).Data, given.Data) }, at(t, p, rec)}
		}},
		{name: "Put that ends the session", commits: true, ends: true, prepare: func(t testing.TB, p place, s *Store) trial {
			rec := create(t, s, "ada")
			given := rec
			given.Expires = s.Now().Add(-time.Hour)
			return trial{rec.Key, func(ctx context.Context) error { _, err := s.Put(ctx, given); return err },
				dead(t, p, rec.Key), at(t, p, rec)}
		}},
		{name: "Destroy", prepare: func(t testing.TB, p place, s *Store) trial {
			rec := create(t, s, "ada")
			return trial{rec.Key, func(ctx context.Context) error { return one(s.Destroy(ctx, rec.Key)) },
				dead(t, p, rec.Key), at(t, p, rec)}
		}},
		{name: "DestroyUser", prepare: func(t testing.TB, p place, s *Store) trial {
			user := unique("user")
			rec, spared := create(t, s, user), create(t, s, user)
			return trial{spared.Key, func(ctx context.Context) error { return one(s.DestroyUser(ctx, user, spared.Key)) },
				func() bool { return !isLive(t, p, rec.Key) && isLive(t, p, spared.Key) }, at(t, p, rec)}
		}},
		{name: "Clear", prepare: func(t testing.TB, p place, s *Store) trial {
			rec := create(t, s, "ada")
			return trial{session.Key{}, func(ctx context.Context) error { return one(s.Clear(ctx)) },
				dead(t, p, rec.Key), at(t, p, rec)}
		}},
	}
}

// when is the moment at which a trial's transaction is committed: the request
// in the middle of which it is.
func (k trialKind) when(tr trial) func([]byte) bool {
	if k.commits {
		return commits
	}
	return mentions(tr.key)
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

// warm makes the store's connection know the statements of k, so that what the
// proxy sees next is their execution.
func (k trialKind) warm(t testing.TB, p place, s *Store) {
	t.Helper()
	if err := k.prepare(t, p, s).do(t.Context()); err != nil {
		t.Fatal(err)
	}
}
