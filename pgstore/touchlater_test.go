package pgstore

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

func touchLater(t testing.TB, s *Store, key session.Key, expires time.Time) time.Time {
	t.Helper()
	got, err := s.TouchLater(t.Context(), key, expires)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// awaitExpiry waits until the database has that expiry.
func awaitExpiry(t testing.TB, p place, key session.Key, expires time.Time) {
	t.Helper()
	dbtest.Eventually(t, "the expiry is written", func() bool { return rowOf(t, p, key).Expires.Equal(expires) })
}

func TestTouchLaterAnswersAtOnceAndWritesOnce(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	j, tracer := p.journaled(t)
	s, other := p.cached(t, Options{}, tracer), p.cached(t, Options{})
	rec := create(t, s, "ada")
	warm(t, rec.Key, s, other)
	heard := messages(other)
	want := rec.Expires.Add(100 * time.Second)
	asked := j.during(func() {
		for i := range 100 {
			to := rec.Expires.Add(time.Duration(i+1) * time.Second)
			if got := touchLater(t, s, rec.Key, to); !got.Equal(to) {
				t.Errorf("TouchLater = %v, want %v", got, to)
			}
			if got := mustGet(t, s, rec.Key).Expires; !got.Equal(to) {
				t.Errorf("Get shows %v, want %v", got, to)
			}
		}
		// Neither back nor to where it is.
		for _, to := range []time.Time{want, rec.Expires, s.Now().Add(-time.Hour), {}} {
			if got := touchLater(t, s, rec.Key, to); !got.Equal(want) {
				t.Errorf("TouchLater to %v = %v, want %v", to, got, want)
			}
		}
		awaitExpiry(t, p, rec.Key, want)
		dbtest.Eventually(t, "it is counted", func() bool { return s.Stats().Touches > 0 })
	})
	if st := s.Stats(); len(asked) != 1 || st.Touches != 1 || st.LateTouchFailures != 0 {
		t.Errorf("%d writes, Stats.Touches %d and LateTouchFailures %d; want 1, 1 and 0", len(asked), st.Touches, st.LateTouchFailures)
	}
	// Not beyond the deadline.
	if got := touchLater(t, s, rec.Key, rec.Deadline.Add(time.Hour)); !got.Equal(rec.Deadline) {
		t.Errorf("TouchLater beyond the deadline = %v, want %v", got, rec.Deadline)
	}
	awaitExpiry(t, p, rec.Key, rec.Deadline)
	dbtest.Eventually(t, "both are counted", func() bool { return s.Stats().Touches == 2 })
	asked = j.during(func() {
		if got := touchLater(t, s, rec.Key, rec.Deadline.Add(time.Hour)); !got.Equal(rec.Deadline) {
			t.Errorf("TouchLater at the deadline = %v, want %v", got, rec.Deadline)
		}
	})
	if len(s.promised.pending) != 0 || len(asked) != 0 {
		t.Error("what has no effect is to be written")
	}
	if messages(other) != heard {
		t.Error("a touch was told to the other node")
	}
}

func TestTouchLaterOfAForeignKey(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	j, tracer := p.journaled(t)
	s := p.cached(t, Options{}, tracer)
	rec := fresh(s, "ada")
	rec.Key = session.ForeignKey("test", "late")
	rec, err := s.Create(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	warm(t, rec.Key, s)
	to := rec.Expires.Add(time.Minute)
	if asked := j.during(func() {
		if got := touchLater(t, s, rec.Key, to); !got.Equal(to) {
			t.Errorf("TouchLater = %v, want %v", got, to)
		}
	}); len(asked) != 0 {
		t.Errorf("it asked %q", asked)
	}
	awaitExpiry(t, p, rec.Key, to)
}

// Without proof that the session is live there is no promise.
func TestTouchLaterWithoutALeaseIsTouch(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	uncached, cached := p.node(t, Options{}, 2), p.cached(t, Options{})
	rec := create(t, uncached, "ada")
	for i, s := range []*Store{uncached, cached} { // the second remembers nothing of it
		to := rec.Expires.Add(time.Duration(i+1) * time.Minute)
		if got := touchLater(t, s, rec.Key, to); !got.Equal(to) || !rowOf(t, p, rec.Key).Expires.Equal(to) {
			t.Errorf("TouchLater = %v, the database has %v; want %v", got, rowOf(t, p, rec.Key).Expires, to)
		}
	}
	old := rec
	next := fresh(cached, "ada")
	next.Version = old.Version
	next, err := cached.Renew(t.Context(), old.Key, next, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	warm(t, old.Key, cached)
	warm(t, next.Key, cached)
	destroyed(t, uncached, create(t, cached, "").Key)
	dead := create(t, cached, "ada")
	destroyed(t, cached, dead.Key)
	for _, s := range []*Store{uncached, cached} {
		for what, key := range map[string]session.Key{"a renewed key": old.Key, "a dead key": dead.Key, "an unknown key": session.NewID(rec.Deadline).Key()} {
			_, err := s.TouchLater(t.Context(), key, s.Now().Add(time.Hour))
			wantErr(t, what, err, session.ErrNotFound)
		}
		_, err := s.TouchLater(t.Context(), session.Key{}, s.Now().Add(time.Hour))
		wantErr(t, "the zero key", err, session.ErrInvalid)
	}
}

// A session that ends before its promised expiry is written stays dead.
func TestALateTouchNeverRevives(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	var background told
	s, other := p.cached(t, Options{OnError: background.add}), p.cached(t, Options{})
	var recs []session.Record
	for range 3 {
		recs = append(recs, create(t, s, "ada"))
		warm(t, recs[len(recs)-1].Key, s, other)
	}
	kept := create(t, s, "ada")
	for _, rec := range append(recs, kept) {
		touchLater(t, s, rec.Key, rec.Expires.Add(time.Hour))
	}
	destroyed(t, s, recs[0].Key)
	destroyed(t, other, recs[1].Key)
	next := fresh(s, "ada")
	next.Version = recs[2].Version
	if _, err := other.Renew(t.Context(), recs[2].Key, next, 0); err != nil {
		t.Fatal(err)
	}
	awaitExpiry(t, p, kept.Key, kept.Expires.Add(time.Hour))
	closeStore(t, s) // whatever was promised is written or given up
	if st := s.Stats(); st.Touches != 1 || st.LateTouchFailures != 0 || st.BackgroundErrors != 0 || len(background.list()) != 0 {
		t.Errorf("Stats: %d touches, %d failures of late ones, %d background errors; OnError was told %v; want 1 and nothing of failures",
			st.Touches, st.LateTouchFailures, st.BackgroundErrors, background.list())
	}
	for _, rec := range recs {
		awaitRefusal(t, "the other node", other, rec.Key)
		if isLive(t, p, rec.Key) {
			t.Error("it is live again")
		}
	}
}

// What would end before the promise could be written is written at once.
func TestALateTouchOfASessionThatEndsSoonIsWrittenAtOnce(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	s := p.cached(t, Options{})
	for tries := 0; ; tries++ {
		rec := fresh(s, "ada")
		rec.Expires = s.Now().Add(9 * time.Second)
		rec, err := s.Create(t.Context(), rec)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Get(t.Context(), rec.Key) // into memory
		to, err := s.TouchLater(t.Context(), rec.Key, rec.Deadline)
		if errors.Is(err, session.ErrNotFound) && tries < 10 {
			continue // the machine was too slow
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := rowOf(t, p, rec.Key).Expires; !got.Equal(to) {
			t.Errorf("it was promised %v and the database has %v", to, got)
		}
		return
	}
}

// A promise that was not kept is a failure: the session's time was over.
func TestALatePromiseThatWasNotKeptIsTold(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	var background told
	s := p.cached(t, Options{OnError: background.add})
	rec := create(t, s, "ada")
	warm(t, rec.Key, s)
	p.exec(t, `UPDATE `+p.names(t).Sessions+` SET expires_at = clock_timestamp() - interval '1 hour' WHERE key = $1`, rec.Key.Hash[:])
	touchLater(t, s, rec.Key, rec.Deadline)
	dbtest.Eventually(t, "OnError is told", func() bool { return len(background.list()) == 1 })
	if n := s.Stats().LateTouchFailures; n != 1 {
		t.Errorf("LateTouchFailures is %d; want 1", n)
	}
}

// What could not be written is not shown either.
func TestAFailedLateTouchIsForgotten(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	var background told
	s := p.cached(t, Options{WriteTimeout: 3 * time.Second, OnError: background.add})
	rec := create(t, s, "ada")
	warm(t, rec.Key, s)
	_, commit := p.lockRows(t, rec.Key)
	touchLater(t, s, rec.Key, rec.Expires.Add(time.Hour))
	dbtest.Eventually(t, "the failure is counted", func() bool { return s.Stats().LateTouchFailures == 1 })
	commit()
	if got, stored := mustGet(t, s, rec.Key).Expires, rowOf(t, p, rec.Key).Expires; !got.Equal(stored) {
		t.Errorf("Get shows %v, the database has %v", got, stored)
	}
	dbtest.Eventually(t, "OnError is told", func() bool { return len(background.list()) == 1 })
	to := rec.Expires.Add(30 * time.Minute) // less than what was promised before
	touchLater(t, s, rec.Key, to)
	awaitExpiry(t, p, rec.Key, to)
}

func TestCloseWritesPromisedTouches(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	for round := range 5 {
		s := p.cached(t, Options{})
		recs := createN(t, s, 50)
		var wg sync.WaitGroup
		promised := make([]time.Time, len(recs))
		closing := make(chan struct{})
		for i, rec := range recs {
			wg.Go(func() {
				<-closing // some come after it
				to := rec.Expires.Add(time.Duration(round+1) * time.Minute)
				got, err := s.TouchLater(t.Context(), rec.Key, to)
				if err == nil {
					promised[i] = got
				} else if !errors.Is(err, session.ErrClosed) {
					t.Error(err)
				}
			})
		}
		to := recs[0].Expires.Add(time.Second)
		touchLater(t, s, recs[0].Key, to)
		close(closing)
		closeStore(t, s)
		wg.Wait()
		if got := rowOf(t, p, recs[0].Key).Expires; got.Before(to) {
			t.Errorf("what was promised before Close was not written: %v, want %v", got, to)
		}
		for i, rec := range recs {
			if got := rowOf(t, p, rec.Key).Expires; got.Before(promised[i]) {
				t.Errorf("round %d: the database has %v, promised was %v", round, got, promised[i])
			}
		}
		if n := s.Stats().LateTouchFailures; n != 0 {
			t.Errorf("round %d: %d failures", round, n)
		}
		_, err := s.TouchLater(t.Context(), recs[0].Key, to)
		wantErr(t, fmt.Sprintf("round %d: TouchLater after Close", round), err, session.ErrClosed)
	}
}
