package mysqlstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

// Every message of a write is lost once: each request, and each answer. The
// write is made up for, or it says that its outcome is unknown.
func TestALostMessageIsMadeUpForOrUnknown(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		for _, k := range trialKinds() {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				b := newBrittle(t, srv, Options{})
				for _, direction := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
					b.loseEach(t, k, direction)
				}
				if b.Stats().Retries == 0 {
					t.Error("nothing was repeated")
				}
			})
		}
	})
}

func (b brittle) loseEach(t *testing.T, k trialKind, direction faultproxy.Direction) {
	t.Helper()
	// What the connection has to prepare first is lost in other trials.
	if err := k.prepare(t, b).do(t.Context()); err != nil {
		t.Fatal(err)
	}
	for nth := 1; ; nth++ {
		what := fmt.Sprintf("message %d in direction %d was lost", nth, direction)
		tr := k.prepare(t, b)
		n := 0
		lost := b.proxy.Trigger(direction, func([]byte) bool { n++; return n == nth }, faultproxy.CutBefore)
		err := tr.do(t.Context())
		struck := false
		select {
		case <-lost:
			struck = true
		default:
			b.proxy.CutAll() // the trigger waits for a message that does not come
			for n := 0; n < 100; n++ {
				select {
				case <-lost:
					n = 100
				default:
					_, _ = b.Len(t.Context())
				}
			}
		}
		b.quiesce(t)
		tr.check(t, what, err)
		switch {
		case !struck && nth < 2:
			t.Error("no message was lost")
		case !struck:
			return
		case k.ends: // who ended a session cannot be told
			wantErr(t, what, err, nil, session.ErrUnknown)
		default:
			wantErr(t, what, err, nil)
		}
		if t.Failed() {
			return
		}
	}
}

// When nobody can be asked, the outcome is unknown, and what happened stays.
func TestWithNobodyToAskTheOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	for _, k := range trialKinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			// On a slow machine the time is over before the answer gets lost.
			timeout := 500 * time.Millisecond
			for !nobodyToAsk(t, k, timeout) && !t.Failed() {
				if timeout *= 2; timeout > patience {
					t.Fatal("no answer got lost")
				}
			}
		})
	}
}

// nobodyToAsk reports whether the answer to the write got lost, and not the
// write itself took too long.
func nobodyToAsk(t *testing.T, k trialKind, timeout time.Duration) (lost bool) {
	t.Helper()
	b := newBrittle(t, dbtest.MariaDB(t), Options{WriteTimeout: timeout})
	// Others prepare it: only the write may take too long.
	b.maker = openStore(t, place{db: b.conns.db}, quiet)
	_ = k.prepare(t, b).do(t.Context()) // it has a connection then
	tr := k.prepare(t, b)
	b.proxy.Refuse()
	struck := b.proxy.Trigger(faultproxy.ToClient, func([]byte) bool { return tr.done() }, faultproxy.CutBefore)
	err := tr.do(t.Context())
	select {
	case <-struck:
		lost = true
	default:
	}
	b.mend(t)
	tr.check(t, "nobody to ask", err)
	if lost {
		wantErr(t, "nobody to ask", err, session.ErrUnknown)
	} else if err == nil { // otherwise it had no connection, or not long enough
		t.Error("nothing got lost, and the answer was no trigger")
	}
	return lost
}

// Connections are cut after any number of bytes, in either direction, and heal.
// Whatever the store says then must be true.
func TestCutsAtAnyByteNeverMakeTheStoreLie(t *testing.T) {
	t.Parallel()
	for i, k := range trialKinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			b := newBrittle(t, dbtest.MariaDB(t), Options{})
			rnd := rand.New(rand.NewPCG(7, uint64(i)))
			outcomes := map[string]int{}
			for round := range rounds.Of(32) {
				direction := faultproxy.Direction(round % 2)
				n := rnd.IntN(600)
				what := fmt.Sprintf("round %d: cut after %d bytes in direction %d", round, n, direction)
				tr := k.prepare(t, b)
				b.proxy.SetMode(direction, faultproxy.CutAfter(n))
				before := b.proxy.Connections()
				result := async(func() error { return tr.do(context.Background()) })
				dbtest.Eventually(t, "the cut or the end", func() bool { return b.proxy.Connections() < before || len(result) > 0 })
				if err := b.proxy.Heal(); err != nil {
					t.Fatal(err)
				}
				err := <-result
				b.mend(t)
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
			if outcomes["done"] == 0 {
				t.Errorf("%v", outcomes)
			}
		})
	}
}

// A context that ends while the answer is on its way leaves the outcome open.
func TestWhoGivesUpAWriteUnderWayIsToldThatItIsUnknown(t *testing.T) {
	t.Parallel()
	for _, k := range trialKinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			b := newBrittle(t, dbtest.MariaDB(t), Options{})
			if err := k.prepare(t, b).do(t.Context()); err != nil {
				t.Fatal(err)
			}
			tr := k.prepare(t, b)
			ctx, cancel := context.WithCancelCause(t.Context())
			reason := errors.New("the reason")
			lost := b.proxy.Trigger(faultproxy.ToClient, func([]byte) bool { return tr.done() }, faultproxy.HangBefore)
			go func() { <-lost; cancel(reason) }()
			err := tr.do(ctx)
			b.mend(t)
			tr.check(t, "given up", err)
			wantErr(t, "given up", err, session.ErrUnknown)
			wantErr(t, "given up", err, context.Canceled)
			wantErr(t, "given up", err, reason)
		})
	}
}

// A full server is told of, also if the last attempts to reach it came to no answer.
func TestTheServersWordIsKept(t *testing.T) {
	t.Parallel()
	full, locked := error(&mysql.MySQLError{Number: 1040}), error(&mysql.MySQLError{Number: 1205})
	mute, muter := errors.New("i/o timeout"), errors.New("EOF")
	for _, tt := range []struct{ err, kept, want error }{
		{full, nil, full}, {mute, nil, mute}, {mute, full, full}, {locked, full, locked}, {muter, mute, muter},
	} {
		if got := telling(tt.err, tt.kept); got != tt.want {
			t.Errorf("after %v, %v: it tells %v; want %v", tt.kept, tt.err, got, tt.want)
		}
	}
}
