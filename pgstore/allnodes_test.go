package pgstore

import (
	"context"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// A node that hears nothing goes on serving for as long as its lease: that is
// what a write that waits for all nodes waits for.
func TestADestroyOnAllNodesWaitsForThoseWhoHearNothing(t *testing.T) {
	t.Parallel()
	p := leasing(t, 2*time.Second)
	a := p.cached(t, Options{})
	j, tracer := p.journaled(t)
	b, listening, _ := p.split(t, Options{}, tracer)
	for range 3 {
		awaitLease(t, b)
		rec, changed := create(t, a, "ada"), create(t, a, "ada")
		warm(t, rec.Key, b)
		warm(t, changed.Key, b)
		listening.SetMode(faultproxy.ToClient, faultproxy.Stall())
		changed = saved(t, a, changed, "other")
		if n, err := a.DestroyOnAllNodes(t.Context(), rec.Key); n != 1 || err != nil {
			t.Errorf("DestroyOnAllNodes = %d, %v", n, err)
		}
		asked := j.during(func() {
			refusesNow(t, "once DestroyOnAllNodes has returned", b, rec.Key)
			// What was acknowledged before it has reached all too.
			if got := mustGet(t, b, changed.Key); got.Version != changed.Version {
				t.Errorf("version %d is served, want %d", got.Version, changed.Version)
			}
		})
		if len(asked) != 2 {
			t.Errorf("the node did not ask the database for each: %q", asked)
		}
		if err := listening.Heal(); err != nil {
			t.Fatal(err)
		}
	}

	awaitLease(t, b)
	rec := create(t, a, "ada")
	warm(t, rec.Key, b)
	listening.SetMode(faultproxy.ToClient, faultproxy.Stall())
	destroyed(t, a, rec.Key)
	if err := a.WaitForAllNodes(t.Context()); err != nil {
		t.Error(err)
	}
	refusesNow(t, "once WaitForAllNodes has returned", b, rec.Key)
}

// Within its lease a node that hears nothing serves what has ended elsewhere:
// otherwise there would be nothing to wait for.
func TestWithinItsLeaseANodeThatHearsNothingServes(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	a := p.cached(t, Options{})
	j, tracer := p.journaled(t)
	b, listening, _ := p.split(t, Options{}, tracer)
	rec := create(t, a, "ada")
	warm(t, rec.Key, b)
	listening.SetMode(faultproxy.ToClient, faultproxy.Stall())

	ctx, cancel := context.WithCancel(t.Context())
	var n int64
	strict := async(func() (err error) { n, err = a.DestroyOnAllNodes(ctx, rec.Key); return err })
	dbtest.Eventually(t, "the session has ended", func() bool { return !isLive(t, p, rec.Key) })
	if asked := j.during(func() { mustGet(t, b, rec.Key) }); len(asked) != 0 {
		t.Errorf("it asked %q", asked)
	}
	refusesNow(t, "the node that ended it", a, rec.Key)
	if _, err := b.GetFresh(t.Context(), rec.Key); !isNotFound(err) {
		t.Errorf("GetFresh: %v", err)
	}
	refusesNow(t, "what this node has found dead", b, rec.Key)
	pending(t, "DestroyOnAllNodes", strict)
	cancel()
	wantErr(t, "DestroyOnAllNodes whose context ended", <-strict, context.Canceled)
	if n != 1 {
		t.Errorf("it ended %d", n)
	}
	if err := listening.Heal(); err != nil {
		t.Fatal(err)
	}
	awaitRefusal(t, "the other node in the end", b, rec.Key)
}

// reachesAll reports whether WaitForAllNodes ends well in time.
func reachesAll(t testing.TB, s *Store, within time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	err := s.WaitForAllNodes(ctx)
	wantErr(t, "WaitForAllNodes", err, nil, context.DeadlineExceeded)
	return err == nil
}

func TestTheLongestLeaseInForceIsWaitedFor(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	a, b := p.cached(t, Options{}), p.cached(t, Options{})
	longest := func() time.Duration {
		return time.Millisecond * time.Duration(query[int64](t, p, `SELECT `+pgschema.LongestLease+` FROM `+p.names(t).Meta))
	}
	set := func(lease time.Duration) {
		t.Helper()
		if got, err := migrations.SetSettings(t.Context(), p.pool, p.config(), migrations.Settings{Lease: lease}); err != nil || got.Lease != lease {
			t.Fatalf("SetSettings = %+v, %v", got, err)
		}
		if was := query[time.Duration](t, p, `SELECT lease_was_ms * interval '1 ms' FROM `+p.names(t).Meta); was == 0 {
			t.Error("the lease before is forgotten")
		}
	}
	pass := func() { // more time than any node goes by what it has read
		p.exec(t, `UPDATE `+p.names(t).Meta+` SET lease_changed_at = lease_changed_at - interval '10 minutes'`)
	}
	if longest() != lasting60 || reachesAll(t, a, time.Second) {
		t.Errorf("the longest lease is %v, want %v, which WaitForAllNodes has to wait for", longest(), lasting60)
	}
	const brief = migrations.MinLease
	set(brief)
	if longest() != lasting60 || reachesAll(t, a, time.Second) {
		t.Errorf("just lowered, the longest lease is %v, want %v, which WaitForAllNodes has to wait for", longest(), lasting60)
	}
	if _, err := a.table.Refresh(t.Context()); err != nil || a.Lag() < lasting60 {
		t.Errorf("just lowered, Lag = %v, %v; want %v at least", a.Lag(), err, lasting60)
	}
	set(2 * brief) // raised again before all have seen the first change
	if longest() != lasting60 || reachesAll(t, a, time.Second) {
		t.Errorf("changed again, the longest lease is %v, want %v, which WaitForAllNodes has to wait for", longest(), lasting60)
	}
	pass()
	if longest() != 2*brief || !reachesAll(t, a, dbtest.Patience) {
		t.Errorf("when all know of it, the longest lease is %v, want %v, which WaitForAllNodes waits for", longest(), 2*brief)
	}
	for _, s := range []*Store{a, b} { // they follow
		if _, err := s.table.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if lease, err := s.lease(); lease != 2*brief || err != nil {
			t.Errorf("the node goes by %v, %v", lease, err)
		}
	}
	set(lasting60)
	if longest() != lasting60 || reachesAll(t, a, time.Second) {
		t.Errorf("raised, the longest lease is %v, want %v, which WaitForAllNodes has to wait for", longest(), lasting60)
	}
	set(lasting60) // no change
	pass()
	if longest() != lasting60 {
		t.Errorf("the longest lease is %v, want %v", longest(), lasting60)
	}
	rec := create(t, a, "ada")
	awaitLease(t, b)
	warm(t, rec.Key, b)
}

// A node that has not read the lease for too long may be waited for too short.
func TestANodeThatKnowsNoLeaseServesNothingFromItsMemory(t *testing.T) {
	t.Parallel()
	p := leasing(t, shortLease)
	var background told
	s := p.cached(t, Options{OnError: background.add})
	rec := create(t, s, "ada")
	warm(t, rec.Key, s)
	old := *s.table.Known.Load()
	old.ReadAt, old.DatabaseTime = old.ReadAt.Add(-pgschema.LeaseMemory/2), old.DatabaseTime.Add(-pgschema.LeaseMemory/2)
	s.table.Known.Store(&old)
	awaitNoLease(t, s)
	mustGet(t, s, rec.Key)
	if remembers(s, rec.Key) {
		t.Error("it answers from its memory")
	}
	dbtest.Eventually(t, "OnError is told", func() bool { return len(background.list()) == 1 })
	if _, err := s.table.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitLease(t, s)
	warm(t, rec.Key, s)
	if errs := background.list(); len(errs) != 1 {
		t.Errorf("OnError was told %q", errs)
	}
}

func TestWritesOnAllNodesFailLikeOthers(t *testing.T) {
	t.Parallel()
	p := leasing(t, migrations.MinLease)
	s := p.caching(t, Options{})
	rec := create(t, s, "ada")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "WaitForAllNodes", s.WaitForAllNodes(ctx), context.Canceled)
	n, err := s.DestroyOnAllNodes(ctx, rec.Key)
	wantErr(t, "DestroyOnAllNodes", err, context.Canceled)
	if n != 0 || !isLive(t, p, rec.Key) {
		t.Errorf("it ended %d", n)
	}
	if n, err := s.DestroyOnAllNodes(t.Context(), rec.Key, rec.Key, session.NewID(rec.Deadline).Key()); n != 1 || err != nil {
		t.Errorf("DestroyOnAllNodes = %d, %v; want 1", n, err)
	}
	if n, err := s.DestroyOnAllNodes(t.Context()); n != 0 || err != nil {
		t.Errorf("DestroyOnAllNodes of none = %d, %v", n, err)
	}
	closeStore(t, s)
	wantErr(t, "WaitForAllNodes", s.WaitForAllNodes(t.Context()), session.ErrClosed)
	_, err = s.DestroyOnAllNodes(t.Context(), rec.Key)
	wantErr(t, "DestroyOnAllNodes", err, session.ErrClosed)
}
