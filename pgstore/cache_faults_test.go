package pgstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/session"
)

// A row that was read before a logout arrives after its message.
func TestAReadThatALogoutOvertakesIsNotKept(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	a := p.cached(t, Options{})
	ws, mod := wired(t)
	b := p.cached(t, Options{}, mod)
	for name, end := range map[string]func(rec session.Record){
		"Destroy": func(rec session.Record) { destroyed(t, a, rec.Key) },
		"DestroyUser": func(rec session.Record) {
			_, err := a.DestroyUser(t.Context(), rec.User)
			wantErr(t, "DestroyUser", err, nil)
		},
		"Clear":        func(session.Record) { _, err := a.Clear(t.Context()); wantErr(t, "Clear", err, nil) },
		"its own node": func(rec session.Record) { destroyed(t, b, rec.Key) },
	} {
		mustGet(t, b, create(t, a, "").Key) // its connection knows the statement
		rec := create(t, a, "the user of "+name)
		refused := func() uint64 {
			st := b.Stats().Cache
			return st.RefusedByGeneration + st.RefusedByEpoch
		}
		before, heard := refused(), messages(b)
		answered, release := ws.answer(mentions(rec.Key))
		read := async(func() error { _, err := b.Get(context.Background(), rec.Key); return err })
		<-answered
		end(rec)
		if name != "its own node" {
			dbtest.Eventually(t, "the message comes in", func() bool { return messages(b) > heard })
		}
		// Who asks now does not wait for what was read before.
		refusesNow(t, name+": while the old answer is on its way", b, rec.Key)
		release()
		wantErr(t, name+": the read that had begun", <-read, nil)
		refusesNow(t, name+": after the old answer", b, rec.Key)
		if refused() == before {
			t.Errorf("%s: Stats count no refused row", name)
		}
		if !isLeased(b) {
			t.Errorf("%s: the lease is gone", name)
		}
	}
}

// While no message gets through, nobody joins a read that is older than the
// lease.
func TestAnOldReadIsNotJoined(t *testing.T) {
	t.Parallel()
	p := leasing(t, shortLease)
	a := p.cached(t, Options{})
	ws, mod := wired(t)
	b, listening, _ := p.split(t, Options{}, mod)
	mustGet(t, b, create(t, a, "").Key)
	rec := create(t, a, "ada")
	answered, release := ws.answer(mentions(rec.Key))
	first := async(func() error { _, err := b.Get(context.Background(), rec.Key); return err })
	<-answered
	began := time.Now()
	listening.SetMode(faultproxy.ToClient, faultproxy.Stall())
	destroyed(t, a, rec.Key)
	dbtest.Eventually(t, "the read is older than the lease", func() bool { return time.Since(began) > shortLease && !isLeased(b) })
	refusesNow(t, "a lease later", b, rec.Key)
	release()
	wantErr(t, "the read that had begun", <-first, nil)
	refusesNow(t, "after it", b, rec.Key)
	if err := listening.Heal(); err != nil {
		t.Fatal(err)
	}
	awaitLease(t, b)
	refusesNow(t, "with a lease again", b, rec.Key)
}

// One read serves all who ask at the time, whoever of them gives up.
func TestReadsAreSharedUntilTheirCallerGivesUp(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	a := p.cached(t, Options{})
	ws, mod := wired(t)
	j, tracer := p.journaled(t)
	b := p.cached(t, Options{}, mod, tracer)
	mustGet(t, b, create(t, a, "").Key)
	rec := create(t, a, "ada")
	answered, release := ws.answer(mentions(rec.Key))
	var got []<-chan error
	asked := j.during(func() {
		get := func() error { _, err := b.Get(context.Background(), rec.Key); return err }
		got = append(got, async(get))
		<-answered
		misses := b.Stats().Cache.Misses
		for range 20 {
			got = append(got, async(get))
		}
		dbtest.Eventually(t, "all wait", func() bool { return b.Stats().Cache.Misses == misses+20 })
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("the reason")
		impatient := async(func() error { _, err := b.Get(ctx, rec.Key); return err })
		dbtest.Eventually(t, "one more waits", func() bool { return b.Stats().Cache.Misses == misses+21 })
		cancel(reason)
		err := <-impatient
		wantErr(t, "who gave up", err, context.Canceled)
		wantErr(t, "who gave up", err, reason)
		release()
		for _, err := range results(got) {
			wantErr(t, "a shared read", err, nil)
		}
	})
	if len(asked) != 1 {
		t.Errorf("21 reads asked %d times", len(asked))
	}

	// The first gives up while it waits for a connection.
	rec = create(t, a, "ada")
	free := holdRoad(t, b.app)
	ctx, cancel := context.WithCancel(t.Context())
	first := async(func() error { _, err := b.Get(ctx, rec.Key); return err })
	dbtest.Eventually(t, "it waits for a connection", func() bool { return len(b.fills) == 1 })
	misses := b.Stats().Cache.Misses
	second := async(func() error { _, err := b.Get(context.Background(), rec.Key); return err })
	dbtest.Eventually(t, "the other waits for it", func() bool { return b.Stats().Cache.Misses == misses+1 })
	cancel()
	wantErr(t, "who gave up", <-first, context.Canceled)
	pending(t, "who did not", second)
	free()
	wantErr(t, "who did not give up", <-second, nil)
}

// No message comes through for longer than the lease, and then all that were
// held up, heartbeats among them.
func TestAStalledListenerServesNothingPastItsLease(t *testing.T) {
	t.Parallel()
	p := leasing(t, shortLease)
	a := p.cached(t, Options{})
	b, listening, _ := p.split(t, Options{})
	kept := create(t, a, "ada")
	for round := range 4 {
		rec := create(t, a, "ada")
		warm(t, rec.Key, b)
		warm(t, kept.Key, b)
		listening.SetMode(faultproxy.ToClient, faultproxy.Stall())
		destroyed(t, a, rec.Key)
		acknowledged := time.Now()
		dbtest.Eventually(t, "the node refuses", func() bool {
			asked := time.Now()
			_, err := b.Get(t.Context(), rec.Key)
			if err == nil && asked.Sub(acknowledged) > shortLease {
				t.Fatalf("served %v after the logout; the lease is %v", asked.Sub(acknowledged), shortLease)
			}
			wantErr(t, "Get", err, nil, session.ErrNotFound)
			return err != nil
		})
		if remembers(b, kept.Key) && !isLeased(b) {
			t.Error("it answers from its memory without a lease")
		}
		mustGet(t, b, kept.Key)
		if round%2 == 0 { // until it is cut
			silences := b.Stats().Cache.Silences
			dbtest.Eventually(t, "the connection is given up", func() bool { return b.Stats().Cache.Silences > silences || b.Stats().Cache.Disconnects > silences })
		}
		if err := listening.Heal(); err != nil {
			t.Fatal(err)
		}
		dbtest.Eventually(t, "the lease is back", func() bool {
			refusesNow(t, "while the connection heals", b, rec.Key)
			return isLeased(b)
		})
		refusesNow(t, "with a lease again", b, rec.Key)
		warm(t, kept.Key, b)
	}
}

// The listener's connection is gone in one of several ways, while the rest of
// the node works.
func TestALogoutInAGapIsNotMissed(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct{ cut, heal func(*faultproxy.Proxy) }{
		"closed": {cut: func(l *faultproxy.Proxy) { l.Refuse(); l.CutAll() }},
		"reset":  {cut: func(l *faultproxy.Proxy) { l.Refuse(); l.ResetAll() }},
		"half open": {cut: func(l *faultproxy.Proxy) {
			l.SetMode(faultproxy.ToClient, faultproxy.Drop())
		}},
		"dead": {cut: func(l *faultproxy.Proxy) {
			l.SetMode(faultproxy.ToClient, faultproxy.Drop())
			l.SetMode(faultproxy.ToServer, faultproxy.Drop())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := leasing(t, shortLease)
			a := p.cached(t, Options{})
			b, listening, _ := p.split(t, Options{})
			rec, renewed, changed, kept := create(t, a, "ada"), create(t, a, "ada"), create(t, a, "ada"), create(t, a, "ada")
			for _, r := range []session.Record{rec, renewed, changed, kept} {
				warm(t, r.Key, b)
			}
			fault.cut(listening)
			awaitNoLease(t, b)
			destroyed(t, a, rec.Key)
			next := fresh(a, "ada")
			next.Version = renewed.Version
			next, err := a.Renew(t.Context(), renewed.Key, next, 0)
			if err != nil {
				t.Fatal(err)
			}
			changed = saved(t, a, changed, "changed in the gap")
			check := func(when string) {
				t.Helper()
				refusesNow(t, when, b, rec.Key)
				refusesNow(t, when, b, renewed.Key)
				mustGet(t, b, next.Key)
				if got := mustGet(t, b, changed.Key); got.Version != changed.Version {
					t.Errorf("%s: version %d, want %d", when, got.Version, changed.Version)
				}
			}
			check("in the gap")
			// What was read in the gap counts for nothing afterwards either.
			destroyed(t, a, next.Key)
			if err := listening.Heal(); err != nil {
				t.Fatal(err)
			}
			dbtest.Eventually(t, "the lease is back", func() bool {
				refusesNow(t, "while it heals", b, next.Key)
				refusesNow(t, "while it heals", b, rec.Key)
				return isLeased(b)
			})
			refusesNow(t, "with a lease again", b, rec.Key)
			refusesNow(t, "with a lease again", b, next.Key)
			warm(t, kept.Key, b)
			warm(t, changed.Key, b)
			if st := b.Stats().Cache; st.Disconnects+st.Silences == 0 {
				t.Errorf("Stats tell of no gap: %+v", st)
			}
			destroyed(t, a, kept.Key)
			awaitRefusal(t, "messages come in again", b, kept.Key)
		})
	}
}

func TestALogoutWhileTheListenerIsTerminated(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	a, b := p.cached(t, Options{}), p.cached(t, Options{})
	for range 5 {
		rec := create(t, a, "ada")
		warm(t, rec.Key, b)
		gaps := b.Stats().Cache.Disconnects
		p.exec(t, `SELECT pg_terminate_backend($1)`, listenerOf(t, p, b))
		destroyed(t, a, rec.Key)
		dbtest.Eventually(t, "it has noticed and listens again", func() bool { return b.Stats().Cache.Disconnects > gaps && isLeased(b) })
		for range 10 {
			refusesNow(t, "after the gap", b, rec.Key)
		}
	}
}

// Heartbeats go the way that writes go: where they cannot, no lease is had
// although messages come in.
func TestWithoutAWayToWriteNothingIsServed(t *testing.T) {
	t.Parallel()
	p := leasing(t, shortLease)
	a := p.cached(t, Options{})
	var background told
	b, _, writing := p.split(t, Options{OnError: background.add, WriteTimeout: 2 * time.Second})
	for name, cut := range map[string]func(){
		"refused": func() { writing.Refuse(); writing.CutAll() },
		"silent":  func() { writing.SetMode(faultproxy.ToServer, faultproxy.Drop()) },
	} {
		rec, kept := create(t, a, "ada"), create(t, a, "ada")
		warm(t, rec.Key, b)
		warm(t, kept.Key, b)
		before := len(background.list())
		cut()
		awaitNoLease(t, b)
		limit := 200 * time.Millisecond // nobody answers
		get := func(key session.Key) error {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, err := b.Get(ctx, key)
			return err
		}
		if err := get(kept.Key); err == nil || errors.Is(err, session.ErrNotFound) {
			t.Errorf("%s: Get without lease and database: %v", name, err)
		}
		destroyed(t, a, rec.Key)
		if err := get(rec.Key); err == nil {
			t.Errorf("%s: a dead session was served", name)
		}
		dbtest.Eventually(t, "OnError is told", func() bool { return len(background.list()) > before })
		if err := writing.Heal(); err != nil {
			t.Fatal(err)
		}
		writing.CutAll() // those that lost bytes
		limit = dbtest.Patience
		dbtest.Eventually(t, "the lease is back", func() bool {
			if err := get(rec.Key); err == nil {
				t.Fatalf("%s: a dead session was served", name)
			}
			return isLeased(b)
		})
		dbtest.Eventually(t, "reads work again", func() bool { return get(kept.Key) == nil })
		dbtest.Eventually(t, "the dead session is refused", func() bool {
			err := get(rec.Key)
			if err == nil {
				t.Fatalf("%s: a dead session was served", name)
			}
			return errors.Is(err, session.ErrNotFound)
		})
		warm(t, kept.Key, b)
	}
}

// The application's slow queries keep neither the lease nor logouts from their
// way.
func TestAnExhaustedPoolKeepsItsLease(t *testing.T) {
	t.Parallel()
	p := leasing(t, shortLease)
	a := p.cached(t, Options{})
	lost := make(chan invalidation.LeaseChange, 100)
	b := p.cached(t, Options{OnLease: func(c invalidation.LeaseChange) {
		if !c.Held {
			lost <- c
		}
	}})
	kept, rec, other := create(t, a, "ada"), create(t, a, "bob"), create(t, a, "eve")
	for _, r := range []session.Record{kept, rec, other} {
		warm(t, r.Key, b)
	}
	asleep, wake := context.WithCancel(t.Context())
	defer wake()
	var slow []<-chan error
	for range b.pool.Config().MaxConns {
		conn, err := b.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, async(func() error {
			defer conn.Release()
			_, err := conn.Exec(asleep, `SELECT pg_sleep(3600)`)
			return err
		}))
	}
	awaitBeats(t, b, 12) // three leases
	mustGet(t, b, kept.Key)
	if !remembers(b, kept.Key) {
		t.Error("the session is forgotten")
	}
	heard := messages(b)
	destroyed(t, a, rec.Key)
	dbtest.Eventually(t, "another node's logout is heard of", func() bool { return messages(b) > heard })
	if remembers(b, rec.Key) {
		t.Error("the dead session is remembered")
	}
	destroyed(t, b, other.Key)
	if remembers(b, other.Key) || isLive(t, p, other.Key) {
		t.Error("the session that this node ended is there")
	}
	awaitRefusal(t, "this node's logout is heard of", a, other.Key)
	mustGet(t, b, kept.Key)
	select {
	case c := <-lost:
		t.Errorf("the lease was lost: %v", c.Err)
	default:
	}
	wake()
	for _, err := range results(slow) {
		wantErr(t, "a slow query", err, context.Canceled)
	}
}
