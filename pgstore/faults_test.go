package pgstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

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
	if k.commits { // nothing can have happened yet
		tr := k.prepare(t, p, s)
		lost := proxy.Trigger(faultproxy.ToServer, mentions(tr.key), faultproxy.CutBefore)
		err := tr.do(t.Context())
		<-lost
		quiesce(t, p, s, proxy)
		tr.check(t, "the connection was lost within the transaction", err)
		wantErr(t, "the connection was lost within the transaction", err, nil)
	}
	if s.Stats().Retries == 0 {
		t.Error("nothing was repeated: the faults did not strike")
	}
	if n := s.Stats().Unknown; k.ends != (n == 1) {
		t.Errorf("Stats.Unknown is %d", n)
	}
}

// holdOthers leaves a brittle store the one connection that the write is sent on.
func (k trialKind) holdOthers(t testing.TB, s *Store) (release func()) {
	t.Helper()
	if !strings.HasPrefix(k.name, "Destroy") {
		return holdPlaces(t, s.conns.Spare)
	}
	s.conns.Own.Reset()
	if err := s.conns.Own.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	return holdConns(t, s.pool)
}

// staysLost is about answers that get lost while nobody can be asked again.
func (k trialKind) staysLost(t *testing.T, p place) {
	s, proxy := p.brittle(t, Options{NodeName: "hasty", WriteTimeout: 3 * time.Second})
	k.warm(t, p, s)
	for _, fault := range []faultproxy.Fault{faultproxy.CutAfterwards, faultproxy.CutBefore, faultproxy.HangAfterwards} {
		tr := k.prepare(t, p, s)
		lost := proxy.Trigger(faultproxy.ToServer, k.when(tr), fault)
		release := k.holdOthers(t, s)
		proxy.Refuse()
		err := tr.do(t.Context())
		release()
		select {
		case <-lost:
		case <-time.After(time.Minute): // it got no further than to a connection, which is refused
			t.Fatalf("the write ended before its request was sent: %v", err)
		}
		wantErr(t, "nobody to ask", err, session.ErrUnknown)
		wantErr(t, "nobody to ask", err, context.DeadlineExceeded)
		if fault != faultproxy.HangAfterwards { // what was lost is not forgotten
			wantErr(t, "nobody to ask", err, io.ErrUnexpectedEOF, io.EOF, pgconn.ErrConnClosed)
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
	s, proxy := p.brittle(t, Options{NodeName: "given up", WriteTimeout: time.Minute})
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
				release := k.holdOthers(t, s)
				proxy.Refuse()
				lost := proxy.Trigger(faultproxy.ToServer, k.when(tr), faultproxy.CutAfterwards)
				result := async(func() error { return tr.do(context.Background()) })
				<-lost
				dbtest.Eventually(t, "the write happens", tr.done)
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
				release()
				want := []error{nil, session.ErrUnknown}
				switch {
				case k.name == "Touch", k.name == "Destroy": // done again, whatever came of it
					want = []error{nil, session.ErrNotFound}
				case c.name == "locked" && !k.ends:
					want = []error{nil}
				}
				wantErr(t, "a write that happened, session then "+c.name, err, want...)
				if errors.Is(err, session.ErrUnknown) && db.IsRefusal(err) {
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
			s, proxy := p.brittle(t, Options{WriteTimeout: time.Minute})
			rnd := rand.New(rand.NewPCG(7, uint64(i)))
			outcomes := map[string]int{}
			for round := range rounds.Of(32) {
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
