package pgstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/handover"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/session"
)

// Callers come and give up while nothing is answered. What they wanted to write
// does not pile up, and nothing of it is kept once they have been told.
func TestAStallPilesUpNothing(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites()[:2] {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s, proxy := p.warmed(t, Options{WriteTimeout: time.Hour})
			kept, gone := create(t, s, ""), create(t, s, "")
			for _, d := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
				proxy.SetMode(d, faultproxy.Stall())
			}
			const writers = 600 // more than twice what there is room for
			data := make([]byte, 64<<10)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			given := make(chan error, writers)
			for range writers {
				go func() {
					rec := fresh(s, "")
					rec.Version, rec.Data = 1, data
					given <- w.do(ctx, s, rec)
				}()
			}
			queue := w.lane(s).Queue.Stats
			dbtest.Eventually(t, "all wait", func() bool { return queue().Writes+queue().Waiting == writers })
			most := int64(handover.Batches * s.opts.BatchBytes)
			if st := queue(); st.Bytes > most || st.Bytes < most/2 || st.Waiting < writers/2 || s.Stats().Queue != st {
				t.Errorf("the queue holds %+v; it may hold %d bytes; Stats has %+v", st, most, s.Stats().Queue)
			}
			logout := async(func() error { _, err := s.Destroy(context.Background(), gone.Key); return err })
			dbtest.Eventually(t, "a logout is under way all the same", func() bool { return taken(s.writes.Destroys) == 1 })
			cancel()
			unknown := 0
			for range writers {
				err := <-given
				wantErr(t, "a write that is given up", err, context.Canceled)
				if errors.Is(err, session.ErrUnknown) {
					unknown++
				}
				if errors.Is(err, session.ErrUnknown) && errors.Is(err, session.ErrOverloaded) {
					t.Errorf("it is known that it was not sent: %v", err)
				}
			}
			if most := (batch.MaxOverdue + 1) * s.opts.BatchBytes / len(data); unknown > most {
				t.Errorf("%d outcomes are unknown, but %d at most were sent", unknown, most)
			}
			if n := w.lane(s).Queue.Stats().Refused; n == 0 {
				t.Error("nobody was refused for want of room")
			}
			// It is still stalled, and what was taken is not sent again.
			dbtest.Eventually(t, "nothing is kept", func() bool { st := queue(); return st.Writes == 0 && st.Bytes == 0 && st.Waiting == 0 })
			if err := proxy.Heal(); err != nil {
				t.Fatal(err)
			}
			err := <-logout
			if err != nil && strings.Contains(err.Error(), "no connection") { // the stall outlasted the attempts to connect
				_, err = s.Destroy(t.Context(), gone.Key)
			}
			wantErr(t, "the logout", err, nil)
			wantErr(t, w.kind+" afterwards", w.do(t.Context(), s, kept), nil)
			if isLive(t, p, gone.Key) {
				t.Error("the session is live after the logout")
			}
		})
	}
}

// Callers with all the time in the world are told as well, however many are
// before them.
func TestWhoWaitsBehindAStallIsToldInTime(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites()[1:] {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s, proxy := p.warmed(t, Options{WriteTimeout: 2 * time.Second, BatchItems: 1})
			rec := create(t, p.node(t, Options{}, 2), "") // which has more time
			others := make([]session.Record, 40)          // of a queue with room for 16
			for i := range others {
				others[i] = fresh(s, "")
			}
			proxy.SetMode(faultproxy.ToServer, faultproxy.Stall())
			began := time.Now()
			var got []<-chan error
			for range 40 { // one after another they would take 80 s
				got = append(got, async(func() error { return w.do(context.Background(), s, rec) }))
			}
			for _, other := range others {
				got = append(got, async(func() error { return w.do(context.Background(), s, other) }))
			}
			for _, err := range results(got) {
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Options.WriteTimeout") {
					t.Errorf("it was told %v", err)
				}
			}
			if took := time.Since(began); took > 40*time.Second {
				t.Errorf("the last one was told after %v", took)
			}
		})
	}
}

// More promises than a lane has room for are kept all the same.
func TestLateTouchesWaitForRoom(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	s := p.cached(t, Options{BatchItems: 1})
	recs := createN(t, s, 3*handover.Batches)
	for _, rec := range recs {
		warm(t, rec.Key, s)
	}
	release := holdLane(t, s.writes.Touches)
	for _, rec := range recs {
		touchLater(t, s, rec.Key, rec.Expires.Add(time.Hour))
	}
	dbtest.Eventually(t, "there is no room for all", func() bool {
		st := s.writes.Touches.Queue.Stats()
		return st.Writes == handover.Batches && st.Waiting == 1
	})
	if n := s.Stats().LateTouches; n != len(recs) {
		t.Errorf("Stats().LateTouches is %d, want %d", n, len(recs))
	}
	release()
	for _, rec := range recs {
		awaitExpiry(t, p, rec.Key, rec.Expires.Add(time.Hour))
	}
	dbtest.Eventually(t, "none is left", func() bool { return s.Stats().LateTouches == 0 })
	if n := s.Stats().LateTouchFailures; n != 0 {
		t.Errorf("%d promises were not kept", n)
	}
}

func TestLateTouchesAreBounded(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	l, log := newPromisedTouches(), zap.New(core)
	deadline := time.Now().Add(time.Hour)
	key := func(n int) session.Key { return numbered(n, 1) }
	for n := range maxLate {
		if !l.add(key(n), deadline, log) {
			t.Fatalf("there was no room for %d of %d", n+1, maxLate)
		}
		if n == maxLate/2 {
			l.take() // what is being written counts
		}
	}
	refused := func(what string, n int, want bool) {
		t.Helper()
		if l.add(key(n), deadline, log) == want {
			t.Errorf("%s: refused %t, want %t", what, !want, want)
		}
	}
	refused("one more", maxLate, true)
	refused("another one", maxLate+1, true)
	refused("one that waits already", maxLate-1, false)
	if l.len() != maxLate || logs.Len() < 1 || logs.Len() > 3 {
		t.Errorf("%d wait and %d lines were logged, want %d and one to three", l.len(), logs.Len(), maxLate)
	}
	l.written()
	refused("one for which there is room", maxLate, false)
}
