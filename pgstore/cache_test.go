package pgstore

import (
	"bytes"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

func TestAWarmReadSendsNoQuery(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	a := p.cached(t, Options{})
	j, tracer := p.journaled(t)
	b := p.cached(t, Options{}, tracer)

	native := create(t, a, "ada")
	foreign := fresh(a, "bob")
	foreign.Key = session.ForeignKey("test", "warm")
	foreign, err := a.Create(t.Context(), foreign)
	if err != nil {
		t.Fatal(err)
	}
	old, next := create(t, a, "eve"), fresh(a, "eve")
	next.Version = old.Version
	if next, err = a.Renew(t.Context(), old.Key, next, time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		key   session.Key
		want  session.Record
		first int // queries of the first read
	}{
		{"a session", native.Key, native, 1},
		{"a foreign session", foreign.Key, foreign, 2}, // one to find its bucket
		{"a renewed session", old.Key, next, 2},
		{"its successor, which is known by now", next.Key, next, 0},
	} {
		same := func(got session.Record, err error) {
			t.Helper()
			if err != nil || got.Key != c.want.Key || got.Version != c.want.Version || got.User != c.want.User || !bytes.Equal(got.Data, c.want.Data) ||
				!got.Expires.Equal(c.want.Expires) || !got.Deadline.Equal(c.want.Deadline) || !got.Created.Equal(c.want.Created) {
				t.Fatalf("%s: Get = %+v, %v; want %+v", c.name, got, err, c.want)
			}
		}
		if asked := j.during(func() { same(b.Get(t.Context(), c.key)) }); len(asked) != c.first {
			t.Errorf("%s: the first read asked %q, want %d queries", c.name, asked, c.first)
		}
		hits := b.Stats().Cache.Hits
		asked := j.during(func() {
			for range 1000 {
				same(b.Get(t.Context(), c.key))
			}
		})
		if len(asked) != 0 {
			t.Errorf("%s: 1,000 warm reads asked %d times: %q", c.name, len(asked), asked[0])
		}
		if n := b.Stats().Cache.Hits - hits; n < 1000 {
			t.Errorf("%s: Stats.Cache.Hits grew by %d, want 1,000 at least", c.name, n)
		}
		if asked := j.during(func() { same(b.GetFresh(t.Context(), c.key)) }); len(asked) == 0 {
			t.Errorf("%s: GetFresh asked nobody", c.name)
		}
	}
	if st := b.Stats(); st.Probes != 1 || st.Cache.Entries != 4 || st.Cache.Bytes == 0 {
		t.Errorf("Stats: %d probes, %d entries, %d bytes; want 1, 4 and some", st.Probes, st.Cache.Entries, st.Cache.Bytes)
	}
	made := create(t, b, "ada")
	asked := j.during(func() { mustGet(t, b, made.Key) })
	if len(asked) != 0 {
		t.Errorf("a node asks for what it has made: %q", asked)
	}
}

// Channels belong to a database. Two tables in one have their own.
func TestTwoTablesWithTheSameKeysDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	p, q := leasing(t, lasting60), leasing(t, lasting60)
	a, b := p.cached(t, Options{}), p.cached(t, Options{})
	j, tracer := q.journaled(t)
	c := q.cached(t, Options{}, tracer)
	rec := create(t, a, "ada")
	same := fresh(c, "ada")
	same.Key, same.Deadline = rec.Key, rec.Deadline
	if _, err := c.Create(t.Context(), same); err != nil {
		t.Fatal(err)
	}
	warm(t, rec.Key, a, b, c)
	l := q.tap(t, c)
	destroyed(t, a, rec.Key)
	if n, err := b.DestroyUser(t.Context(), "ada"); n != 0 || err != nil {
		t.Errorf("DestroyUser = %d, %v", n, err)
	}
	if _, err := b.Clear(t.Context()); err != nil {
		t.Error(err)
	}
	awaitRefusal(t, "the other node of the table", b, rec.Key)
	if sent := l.heard(t); len(sent) != 0 {
		t.Errorf("the nodes of the other table were told %q", sent)
	}
	awaitBeats(t, c, 1)
	asked := j.during(func() { mustGet(t, c, rec.Key) })
	if len(asked) != 0 || messages(c) != 0 {
		t.Errorf("a node of the other table got %d messages and asked %q", messages(c), asked)
	}
}

func TestAnEntryThatExpiredIsReadAgain(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	a, b := p.cached(t, Options{}), p.cached(t, Options{})
	short := func() session.Record {
		rec := fresh(a, "ada")
		rec.Expires = a.Now().Add(5 * time.Second)
		rec, err := a.Create(t.Context(), rec)
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	touched, left := short(), short()
	warm(t, touched.Key, b)
	warm(t, left.Key, b)
	later := touched.Expires.Add(time.Hour)
	if _, err := a.Touch(t.Context(), touched.Key, later); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, "both expiries have passed", func() bool {
		return query[bool](t, p, `SELECT clock_timestamp() > $1`, left.Expires)
	})
	if rec := mustGet(t, b, touched.Key); !rec.Expires.Equal(later) {
		t.Errorf("Get after another node's touch: expires %v, want %v", rec.Expires, later)
	}
	if !remembers(b, touched.Key) {
		t.Error("what was read again is not remembered")
	}
	refusesNow(t, "a session that nobody has touched", b, left.Key)
	refusesNow(t, "a session that nobody has touched", a, left.Key)
}

// A grace period leads to the successor, and no further than it lasts.
func TestAGracePeriodIsRememberedAsALead(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	j, tracer := p.journaled(t)
	a, b := p.cached(t, Options{}), p.cached(t, Options{}, tracer)
	renew := func(rec session.Record, grace time.Duration) session.Record {
		next := fresh(a, rec.User)
		next.Version = rec.Version
		next, err := a.Renew(t.Context(), rec.Key, next, grace)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	heard := messages(b)
	first := create(t, a, "ada")
	second := renew(first, time.Hour)
	third := renew(second, time.Hour)
	dbtest.Eventually(t, "it has heard of both renewals", func() bool { return messages(b) >= heard+2 })
	warm(t, first.Key, b)
	entries := b.Stats().Cache.Entries
	if entries != 3 {
		t.Errorf("%d entries, want two leads and one session", entries)
	}
	for _, key := range []session.Key{first.Key, second.Key, third.Key} {
		if row, ok := b.cache.Get(key); !ok || row.Next.IsZero() != (key == third.Key) {
			t.Errorf("the cache has %+v, %v", row, ok)
		}
		var rec session.Record
		if asked := j.during(func() { rec = mustGet(t, b, key) }); len(asked) != 0 || rec.Key != third.Key {
			t.Errorf("Get = %v by %q; want %v from memory", rec.Key, asked, third.Key)
		}
	}
	third = saved(t, a, third, "later")
	dbtest.Eventually(t, "the first key leads to what was saved", func() bool {
		rec := mustGet(t, b, first.Key)
		return rec.Version == third.Version && string(rec.Data) == "later"
	})
	// Ended by its first key, which none of its entries bears.
	destroyed(t, a, first.Key)
	for _, key := range []session.Key{first.Key, second.Key, third.Key} {
		refusesNow(t, "the same node", a, key)
		awaitRefusal(t, "the other node", b, key)
	}

	old := create(t, a, "eve")
	next := renew(old, 5*time.Second)
	warm(t, old.Key, a, b)
	dbtest.Eventually(t, "the grace period is over", func() bool {
		return query[bool](t, p, `SELECT grace_until < clock_timestamp() FROM `+p.names(t).Sessions+` WHERE key = $1`, old.Key.Hash[:])
	})
	for _, s := range []*Store{a, b} {
		refusesNow(t, "after the grace period", s, old.Key)
		mustGet(t, s, next.Key)
	}
}

func TestStatsAndHooksTellOfTheLease(t *testing.T) {
	t.Parallel()
	p := leasing(t, shortLease)
	changes := make(chan invalidation.LeaseChange, 100)
	s := p.cached(t, Options{OnLease: func(c invalidation.LeaseChange) { changes <- c }})
	next := func() invalidation.LeaseChange {
		t.Helper()
		select {
		case c := <-changes:
			return c
		case <-within(t).Done():
			t.Fatal("OnLease is told nothing")
			return invalidation.LeaseChange{}
		}
	}
	if c := next(); !c.Held || c.Err != nil {
		t.Errorf("OnLease was told %+v first", c)
	}
	rec := create(t, s, "ada")
	if _, err := s.Get(t.Context(), session.NewID(rec.Deadline).Key()); !isNotFound(err) {
		t.Error(err)
	}
	mustGet(t, s, rec.Key)
	awaitBeats(t, s, 5)
	st := s.Stats().Cache
	if st.Hits == 0 || st.Misses == 0 || !st.Leased || st.LeaseAge <= 0 || st.LeaseAge > shortLease || st.QueueUsage < 0 || st.QueueUsage >= 1 || s.Stats().Refreshed.IsZero() {
		t.Errorf("Stats: %+v", st)
	}
	if st.Disconnects+st.Silences+st.ClockJumps+st.UnknownPayloads != 0 {
		t.Errorf("Stats tell of gaps: %+v", st)
	}
	for n := uint64(1); n <= 3; n++ {
		p.exec(t, `SELECT pg_terminate_backend($1)`, listenerOf(t, p, s))
		if c := next(); c.Held || c.Err == nil {
			t.Errorf("OnLease was told %+v when the connection was lost", c)
		}
		if c := next(); !c.Held || c.Err != nil {
			t.Errorf("OnLease was told %+v when it was back", c)
		}
		if st := s.Stats().Cache; st.Disconnects != n || st.Silences != 0 {
			t.Errorf("Stats tell of %d disconnects and %d silences, want %d and 0", st.Disconnects, st.Silences, n)
		}
	}
	warm(t, rec.Key, s)
	closeStore(t, s)
	if c := next(); c.Held || c.Err == nil {
		t.Errorf("OnLease was told %+v when the store was closed", c)
	}
	if st := s.Stats().Cache; st.Leased {
		t.Error("a closed store has a lease")
	}
	_, err := s.Get(t.Context(), rec.Key)
	wantErr(t, "Get on a closed store", err, session.ErrClosed)
	select {
	case c := <-changes:
		t.Errorf("OnLease was also told %+v", c)
	default:
	}
}

func TestNoConnectionIsLeft(t *testing.T) {
	t.Parallel()
	p := migratedWith(t, migrations.Settings{Lease: migrations.MinLease})
	s := p.cached(t, Options{NodeName: "the node"})
	count := func() int {
		return query[int](t, p, `SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND (application_name LIKE '%the node%')`)
	}
	// So short a lease may also lapse by itself, on a busy machine.
	losses := func() uint64 {
		st := s.Stats().Cache
		return st.Disconnects + st.Silences
	}
	rec := create(t, s, "ada")
	destroyed(t, s, rec.Key) // all of its pools are in use
	before := count()
	for range 50 {
		pid, known := int32(0), losses()
		dbtest.Eventually(t, "it listens", func() bool { pid = listenerOf(t, p, s); return pid != 0 && isLeased(s) })
		p.exec(t, `SELECT pg_terminate_backend($1)`, pid)
		dbtest.Eventually(t, "it listens again", func() bool {
			now := listenerOf(t, p, s)
			return now != 0 && now != pid && losses() > known
		})
	}
	awaitLease(t, s)
	if n := count(); n > before+1 { // the pool may have grown by a connection
		t.Errorf("%d connections after 50 losses, %d before", n, before)
	}
	closeStore(t, s)
	s.pool.Close()
	dbtest.Eventually(t, "no connection is left", func() bool { return count() == 0 })

	refusedNew(t, p, Options{Lease: time.Hour, CacheBytes: 1 << 20}, nil, "Options.Lease")
}
