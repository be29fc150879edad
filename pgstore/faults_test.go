package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/dbtest"
	"github.com/sojourn-go/sojourn/internal/faultproxy"
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
	one := func(n int64, err error) error { return err } // after a lost answer the count may be short
	unique := func(prefix string) string { return prefix + session.NewID(time.Now()).Key().String() }
	return []trialKind{
		{name: "Create", prepare: func(t testing.TB, p place, s *Store) trial {
			rec := fresh(s, "ada")
			return trial{rec.Key, func(ctx context.Context) error {
				got, err := s.Create(ctx, rec)
				if err == nil && (got.Key != rec.Key || got.Version != 1 || got.Created.IsZero() || !bytes.Equal(got.Data, rec.Data)) {
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
				if err == nil && (got.Key != rec.Key || got.Version != 1 || got.Created.IsZero() || !bytes.Equal(got.Data, rec.Data)) {
					t.Errorf("Create returned %+v", got)
				}
				return err
			}, live(t, p, rec.Key), absent(t, p, rec.Key)}
		}},
		{name: "Save", prepare: func(t testing.TB, p place, s *Store) trial {
			rec := create(t, s, "ada")
			next := rec
			next.Version, next.Data, next.Expires = 2, []byte(unique("data")), rec.Expires.Add(time.Minute)
			return trial{rec.Key, func(ctx context.Context) error {
				given := next
				given.Version = 1
				got, err := s.Save(ctx, given)
				if err == nil && (got.Key != next.Key || got.Version != 2 || !got.Expires.Equal(next.Expires) || !bytes.Equal(got.Data, next.Data)) {
					t.Errorf("Save returned %+v", got)
				}
				return err
			}, at(t, p, next), at(t, p, rec)}
		}},
		{name: "Save that ends the session", ends: true, prepare: func(t testing.TB, p place, s *Store) trial {
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
				if err == nil && (got.Key != next.Key || got.Version != 2 || !got.Created.Equal(rec.Created)) {
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
				if err == nil && (got.Key != rec.Key || got.Version != 1 || len(evicted) != 1 || evicted[0] != old.Key) {
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

func TestALostAnswerIsMadeUpForOrUnknown(t *testing.T) {
	t.Parallel()
	for _, k := range trialKinds() {
		if k.name == "Clear" { // its request has no key in it; see the cuts below
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			k.madeUpFor(t, p)
			k.staysLost(t, p)
			k.givenUp(t, p)
		})
	}
}

// pgx reports a lost connection differently for each way of sending.
func TestALostAnswerIsMadeUpForHoweverStatementsAreSent(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			for _, k := range trialKinds() {
				switch k.name {
				case "Create", "Save", "Destroy", "Renew", "CreateLimited":
					k.madeUpFor(t, p, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
				}
			}
		})
	}
}

func (k trialKind) madeUpFor(t *testing.T, p place, mods ...func(*pgxpool.Config)) {
	s, proxy := p.brittle(t, Options{NodeName: "patient " + k.name, WriteTimeout: time.Minute}, mods...)
	k.warm(t, p, s)
	for _, fault := range []faultproxy.Fault{faultproxy.CutAfterwards, faultproxy.CutBefore} {
		what := "the answer was lost"
		if fault == faultproxy.CutBefore {
			what = "the request was lost"
		}
		tr := k.prepare(t, p, s)
		lost := proxy.Trigger(faultproxy.ToServer, k.when(tr), fault)
		err := tr.do(t.Context())
		<-lost
		quiesce(t, p, s, proxy)
		tr.check(t, what, err)
		want := error(nil)
		if k.ends && fault == faultproxy.CutAfterwards {
			want = session.ErrUnknown // who ended a session cannot be told
		}
		wantErr(t, what, err, want)
	}
	if s.Stats().Retries == 0 {
		t.Error("nothing was repeated: the faults did not strike")
	}
}

// staysLost is about answers that get lost while nobody can be asked again.
func (k trialKind) staysLost(t *testing.T, p place) {
	s, proxy := p.brittle(t, Options{NodeName: "hasty", WriteTimeout: 200 * time.Millisecond})
	k.warm(t, p, s)
	for _, fault := range []faultproxy.Fault{faultproxy.CutAfterwards, faultproxy.CutBefore, faultproxy.HangAfterwards} {
		tr := k.prepare(t, p, s)
		lost := proxy.Trigger(faultproxy.ToServer, k.when(tr), fault)
		proxy.Refuse()
		err := tr.do(t.Context())
		<-lost
		wantErr(t, "nobody to ask", err, session.ErrUnknown)
		wantErr(t, "nobody to ask", err, context.DeadlineExceeded)
		if fault != faultproxy.HangAfterwards {
			wantErr(t, "nobody to ask", err, syscall.ECONNREFUSED, io.ErrUnexpectedEOF, io.EOF, pgconn.ErrConnClosed)
		}
		mend(t, p, s, proxy)
		tr.check(t, "nobody to ask", err)
	}
	if n := s.Stats().Unknown; n != 3 {
		t.Errorf("Stats.Unknown is %d, want 3", n)
	}
}

// givenUp is about a context that ends while the answer is on its way.
func (k trialKind) givenUp(t *testing.T, p place) {
	s, proxy := p.brittle(t, Options{NodeName: "given up", WriteTimeout: 500 * time.Millisecond})
	k.warm(t, p, s)
	tr := k.prepare(t, p, s)
	lost := proxy.Trigger(faultproxy.ToServer, k.when(tr), faultproxy.HangAfterwards)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the reason")
	go func() { <-lost; cancel(reason) }()
	err := tr.do(ctx)
	wantErr(t, "given up", err, session.ErrUnknown)
	wantErr(t, "given up", err, context.Canceled)
	wantErr(t, "given up", err, reason)
	mend(t, p, s, proxy)
	tr.check(t, "given up", err)
}

// What others do before the store can ask again must not make a write that
// happened look like one that was refused.
func TestALostAnswerIsNotTakenForWhatOthersDidSince(t *testing.T) {
	t.Parallel()
	type since struct {
		name string
		do   func(t testing.TB, p place, other *Store, key session.Key) (undo func())
	}
	nothing := func() {}
	bySaving := since{"saved", func(t testing.TB, p place, other *Store, key session.Key) func() {
		rec, err := other.Get(t.Context(), key)
		if err == nil {
			rec.Data = []byte("what others wrote")
			_, err = other.Save(t.Context(), rec)
		}
		wantErr(t, "save by others", err, nil)
		return nothing
	}}
	byDestroying := since{"destroyed", func(t testing.TB, p place, other *Store, key session.Key) func() {
		_, err := other.Destroy(t.Context(), key)
		wantErr(t, "destroy by others", err, nil)
		return nothing
	}}
	byLocking := since{"locked", func(t testing.TB, p place, other *Store, key session.Key) func() {
		_, commit := p.lockRows(t, key)
		stripe := p.holdStripe(t, other, "ada")
		return func() { stripe(); commit() }
	}}
	cases := map[string][]since{}
	for _, kind := range []string{"Create", "Create of a foreign key", "CreateLimited", "Save", "Renew", "RenewLimited"} {
		cases[kind] = []since{bySaving, byDestroying, byLocking}
	}
	for _, kind := range []string{"Put of a new session", "Put of a session that exists", "Save that ends the session", "Touch", "Destroy"} {
		cases[kind] = []since{byDestroying, byLocking}
	}
	for _, k := range trialKinds() {
		if len(cases[k.name]) == 0 {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s, proxy := p.brittle(t, Options{WriteTimeout: time.Minute})
			other := p.open(t, quiet)
			k.warm(t, p, s)
			for _, c := range cases[k.name] {
				tr := k.prepare(t, p, s)
				proxy.Refuse()
				lost := proxy.Trigger(faultproxy.ToServer, k.when(tr), faultproxy.CutAfterwards)
				result := async(func() error { return tr.do(context.Background()) })
				<-lost
				if !tr.done() {
					t.Fatal("the write did not happen")
				}
				undo := c.do(t, p, other, tr.key)
				proxy.CutAll() // connections that lie idle too
				if err := proxy.Accept(); err != nil {
					t.Fatal(err)
				}
				if c.name == "locked" {
					dbtest.Eventually(t, "the write waits for the lock, or does not need it", func() bool {
						return len(result) > 0 || blocked(t, p) > 0
					})
				}
				undo()
				err := <-result
				want := []error{nil, session.ErrUnknown}
				switch {
				case k.name == "Touch", k.name == "Destroy": // done again, whatever came of it
					want = []error{nil, session.ErrNotFound}
				case c.name == "locked" && !k.ends:
					want = []error{nil}
				}
				wantErr(t, "a write that happened, session then "+c.name, err, want...)
				if errors.Is(err, session.ErrUnknown) && isRefusal(err) {
					t.Errorf("session then %s: unknown and refused: %v", c.name, err)
				}
				mend(t, p, s, proxy)
			}
		})
	}
}

// Connections are cut after any number of bytes, in either direction, and
// heal or not. Whatever the store says then must be true.
func TestCutsAtAnyByteNeverMakeTheStoreLie(t *testing.T) {
	t.Parallel()
	for i, k := range trialKinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s, proxy := p.brittle(t, Options{WriteTimeout: 30 * time.Second})
			rnd := rand.New(rand.NewPCG(7, uint64(i)))
			outcomes := map[string]int{}
			for round := range 16 {
				direction := faultproxy.Direction(round % 2)
				// Most transactions take less, but then those of the next connection are cut.
				n := rnd.IntN(1500)
				what := fmt.Sprintf("round %d: cut after %d bytes in direction %d", round, n, direction)
				tr := k.prepare(t, p, s)
				proxy.SetMode(direction, faultproxy.CutAfter(n))
				before := proxy.Connections()
				result := async(func() error { return tr.do(context.Background()) })
				dbtest.Eventually(t, "the cut or the end", func() bool { return proxy.Connections() < before || len(result) > 0 })
				if err := proxy.Heal(); err != nil {
					t.Fatal(err)
				}
				err := <-result
				mend(t, p, s, proxy)
				tr.check(t, what, err)
				switch {
				case err == nil:
					outcomes["done"]++
				case errors.Is(err, session.ErrUnknown):
					outcomes["unknown"]++
				default:
					outcomes["failed"]++
				}
			}
			t.Logf("%v, %d repeated", outcomes, s.Stats().Retries)
			if outcomes["done"] == 0 || s.Stats().Retries == 0 && outcomes["failed"] == 0 {
				t.Error("the faults did not strike, or always")
			}
		})
	}
}

// A statement that fails is rolled back before the error is returned. When the
// connection falls silent just then, the caller must not wait for ever.
func TestARollbackThatHangsIsNotWaitedForLongerThanTheCallerDoes(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s, proxy := p.brittle(t, Options{})
	create(t, s, "ada")
	lost := proxy.Trigger(faultproxy.ToServer, faultproxy.Contains("rollback"), faultproxy.HangBefore)
	ctx, cancel := context.WithCancel(t.Context())
	result := async(func() error {
		_, _, err := s.CreateLimited(ctx, fresh(s, "ada"), session.UserLimit{Max: 1})
		return err
	})
	<-lost
	cancel()
	wantErr(t, "a refused create", <-result, session.ErrUserLimit)
	proxy.CutAll()
}
