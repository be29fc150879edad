package pgstore

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// warmed opens a store with 16 connections, all of which have been used, and as
// many of the store's own as there can be.
func (p place) warmed(t testing.TB, opts Options) (*Store, *faultproxy.Proxy) {
	t.Helper()
	proxy, dsn := dbtest.Proxy(t, p.dsn)
	p.dsn = dsn
	s := p.node(t, opts, 16)
	s.warm(t)
	return s, proxy
}

func (s *Store) warm(t testing.TB) {
	t.Helper()
	holdConns(t, s.pool, s.conns.Own)()
}

// stallable are the writes, each to a session of its own.
func stallable() []batched {
	return append(batchedWrites(),
		batched{kind: "renew", do: func(ctx context.Context, s *Store, rec session.Record) error {
			next := fresh(s, rec.User)
			next.Version = rec.Version
			_, err := s.Renew(ctx, rec.Key, next, 0)
			return err
		}},
		batched{kind: "put", do: func(ctx context.Context, s *Store, rec session.Record) error {
			_, err := s.Put(ctx, rec)
			return err
		}},
		batched{kind: "create limited", do: func(ctx context.Context, s *Store, rec session.Record) error {
			rec.Key.Hash[1] ^= 0xff
			rec.User = cmp.Or(rec.User, "limited")
			_, _, err := s.CreateLimited(ctx, rec, session.UserLimit{Max: 1000})
			return err
		}})
}

func TestAStalledConnectionHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	for _, w := range stallable() {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s, proxy := p.warmed(t, Options{WriteTimeout: time.Hour, unhurried: true})
			others, recs := createN(t, s, 3*len(stallable())), createN(t, s, 1)
			written := recs[0].Key
			switch w.kind {
			case "create":
				written.Hash[0] ^= 0xff
			case "create limited":
				written.Hash[1] ^= 0xff
				recs[0].User = "ada"
				if batch.StripeOf("ada") == batch.StripeOf("limited") {
					t.Fatal("these users share a stripe; choose others")
				}
			}
			stalls := proxy.Trigger(faultproxy.ToServer, mentions(written), faultproxy.HangBefore)
			ctx, cancel := context.WithCancel(t.Context())
			stalled := async(func() error { return w.do(ctx, s, recs[0]) })
			<-stalls
			for i, other := range stallable() {
				for _, rec := range others[3*i : 3*i+3] {
					wantErr(t, other.kind+" of another session", other.do(within(t), s, rec), nil)
				}
			}
			if _, err := s.DestroyUser(within(t), "nobody"); err != nil {
				t.Errorf("a logout everywhere: %v", err)
			}
			pending(t, "the stalled write", stalled)
			cancel()
			wantErr(t, "the stalled write", <-stalled, session.ErrUnknown, context.Canceled)
			ended, stop := context.WithCancel(t.Context())
			stop()
			// The store may be quicker, for the caller of what was stalled has gone.
			if err := s.Close(ended); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("Close: %v; want nothing but context.Canceled", err)
			}
			wantErr(t, "Close again", s.Close(within(t)), nil)
		})
	}
}

// What is on a connection that falls silent goes on on another one.
func TestAWriteOutlivesItsConnection(t *testing.T) {
	t.Parallel()
	for _, w := range stallable() {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s, proxy := p.warmed(t, Options{WriteTimeout: time.Minute})
			for _, fault := range []faultproxy.Fault{faultproxy.HangBefore, faultproxy.HangAfterwards} {
				rec := createN(t, s, 1)[0]
				written := rec.Key
				switch w.kind {
				case "create":
					written.Hash[0] ^= 0xff
				case "create limited":
					written.Hash[1] ^= 0xff
				}
				stalls := proxy.Trigger(faultproxy.ToServer, mentions(written), fault)
				err := w.do(t.Context(), s, rec)
				<-stalls
				if w.kind == "destroy" && fault == faultproxy.HangAfterwards && err != nil && err.Error() == "0 were live" {
					err = nil // the first attempt may have ended it
				}
				wantErr(t, "a write on a stalled connection", err, nil)
			}
		})
	}
}

// A firewall has forgotten all connections; new ones work.
func TestHalfOpenConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s, proxy := p.warmed(t, Options{CacheBytes: 1 << 20})
	awaitLease(t, s)
	kinds := stallable()
	recs := createN(t, s, len(kinds)+1)
	seen := s.Stats().Cache.Silences
	s.warm(t)
	proxy.ForgetAll()
	results := make([]<-chan error, len(kinds))
	for i, w := range kinds {
		results[i] = async(func() error { return w.do(context.Background(), s, recs[i]) })
	}
	for i, w := range kinds {
		wantErr(t, w.kind, <-results[i], nil)
	}
	if _, err := s.GetFresh(t.Context(), recs[len(kinds)].Key); err != nil {
		t.Errorf("GetFresh: %v", err)
	}
	if _, err := s.DestroyUser(t.Context(), "nobody"); err != nil {
		t.Errorf("DestroyUser: %v", err)
	}
	dbtest.Eventually(t, "the loss was noticed", func() bool { return s.Stats().Cache.Silences > seen })
	awaitLease(t, s)
}

// Handlers hold all connections, in transactions, while their sessions are used.
func TestAnExhaustedPoolStarvesNobody(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{WriteTimeout: time.Hour, ReadTimeout: time.Hour}, 4)
	release := holdConns(t, s.pool)
	foreign := session.ForeignKey("test", "starved")
	for name, do := range anyCalls(s, session.Record{}) {
		if name == "Len" || name == "PruneNow" { // not for requests
			continue
		}
		rec := create(t, s, "user of "+name)
		do = anyCalls(s, rec)[name]
		wantErr(t, name, do(within(t)), nil)
	}
	_, err := s.Get(within(t), foreign)
	wantErr(t, "a search for a key", err, session.ErrNotFound)
	if n := s.pool.Stat().AcquiredConns(); n != 4 {
		t.Errorf("%d connections of the pool are held, want all 4", n)
	}
	release()
}

// When the server gives no connection either, the error says so, and what to do.
func TestAnExhaustedPoolOnAFullServerIsExplained(t *testing.T) {
	t.Parallel()
	server, p := own(t, dbtest.Config{Settings: map[string]string{"max_connections": "16", "superuser_reserved_connections": "0"}})
	s := p.node(t, Options{WriteTimeout: time.Hour, ReadTimeout: time.Hour}, 2)
	rec := create(t, s, "ada")
	holdConns(t, s.pool)
	p.pool.Reset()
	s.conns.Own.Reset()
	hog := dbtest.Pool(t, server.DSN("postgres"), func(c *pgxpool.Config) { c.MaxConns = 16 })
	dbtest.Eventually(t, "the server is full", func() bool {
		conn, err := hog.Acquire(t.Context())
		if err == nil {
			t.Cleanup(conn.Release)
		}
		return db.IsCode(err, "53300")
	})
	for _, w := range stallable() {
		err := w.do(within(t), s, rec)
		if !db.IsCode(err, "53300") || !strings.Contains(err.Error(), "2 of 2") || !strings.Contains(err.Error(), "MaxConns") {
			t.Errorf("%s: %v", w.kind, err)
		}
	}
	if _, err := s.GetFresh(within(t), rec.Key); !db.IsCode(err, "53300") {
		t.Errorf("GetFresh: %v", err)
	}
}

// However a database is away, a read waits no longer than it may.
func TestAReadOfADatabaseThatIsAwayEnds(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s, proxy := p.warmed(t, Options{ReadTimeout: 3 * time.Second}) // New has to read, too
	rec := create(t, s, "ada")
	proxy.SetMode(faultproxy.ToClient, faultproxy.Stall())
	reads := map[string]func() error{
		"Get":             func() error { _, err := s.Get(context.Background(), rec.Key); return err },
		"GetFresh":        func() error { _, err := s.GetFresh(context.Background(), rec.Key); return err },
		"Fate":            func() error { _, err := s.Fate(context.Background(), rec.Key); return err },
		"ListUser":        func() error { _, err := s.ListUser(context.Background(), "ada", session.Record{}, 1000); return err },
		"CountUser":       func() error { _, err := s.CountUser(context.Background(), "ada"); return err },
		"refresh":         func() error { _, err := s.table.Refresh(context.Background()); return err },
		"WaitForAllNodes": func() error { return s.WaitForAllNodes(context.Background()) },
		"a search": func() error {
			_, err := s.Get(context.Background(), session.ForeignKey("test", "away"))
			return err
		},
		"Keys": func() error {
			for _, err := range s.Keys(context.Background()) {
				return err
			}
			return nil
		},
	}
	got := map[string][]<-chan error{}
	for name, read := range reads {
		for range 30 { // more than there are connections
			got[name] = append(got[name], async(read))
		}
	}
	for name, of := range got {
		for _, err := range results(of) {
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Options.ReadTimeout") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, "it can be read again", func() bool { _, err := s.GetFresh(t.Context(), rec.Key); return err == nil })
}

// pgx would clean up for 15 s.
func TestCloseLeavesNothingBehindWhenAllIsStalled(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s, proxy := p.warmed(t, Options{WriteTimeout: time.Hour, ReadTimeout: time.Hour, CacheBytes: 1 << 20, PruneInterval: 10 * time.Millisecond, unhurried: true})
	awaitLease(t, s)
	dbtest.Eventually(t, "it leads", func() bool { return s.Stats().Leading })
	kinds := stallable()
	recs := createN(t, s, len(kinds))
	s.warm(t)
	for _, d := range []faultproxy.Direction{faultproxy.ToClient, faultproxy.ToServer} {
		proxy.SetMode(d, faultproxy.Stall())
	}
	got := make([]<-chan error, len(kinds))
	for i, w := range kinds {
		got[i] = async(func() error { return w.do(context.Background(), s, recs[i]) })
	}
	reading := async(func() error { _, err := s.GetFresh(context.Background(), recs[0].Key); return err })
	dbtest.Eventually(t, "the writes were taken", func() bool {
		return taken(s.writes.Creates)+taken(s.writes.Saves)+taken(s.writes.Touches)+taken(s.writes.Destroys) == 4
	})
	unlimited := async(func() error { return s.Close(context.Background()) })
	ctx, cancel := context.WithCancel(t.Context())
	hasty := async(func() error { return s.Close(ctx) })
	pending(t, "Close", unlimited)
	cancel()
	wantErr(t, "Close whose context ended", <-hasty, context.Canceled)
	for i, w := range kinds {
		wantErr(t, w.kind, <-got[i], session.ErrClosed)
	}
	wantErr(t, "a read", <-reading, session.ErrClosed)
	select {
	case err := <-unlimited:
		wantErr(t, "Close that waits", err, nil)
	case <-time.After(13 * time.Second):
		t.Error("there is still something left")
		<-unlimited
	}
}

// Many wait for one row, in all ways that there are. They hold few connections,
// and none of the caller's.
func TestThoseWhoWaitHoldFewConnections(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{WriteTimeout: time.Hour}, 4)
	kinds := stallable()[1:] // a create waits for nobody
	var locked []session.Key
	var waits []func() error
	for _, w := range kinds {
		for range 4 {
			rec := create(t, s, "")
			if w.kind == "create limited" {
				continue
			}
			locked = append(locked, rec.Key)
			waits = append(waits, func() error { return w.do(context.Background(), s, rec) })
		}
	}
	for _, user := range []string{"ada", "bob", "eve"} {
		locked = append(locked, create(t, s, user).Key)
		waits = append(waits,
			func() error { _, err := s.DestroyUser(context.Background(), user); return err },
			func() error {
				_, _, err := s.CreateLimited(context.Background(), fresh(s, user), session.UserLimit{Max: 1, Evict: true})
				return err
			})
	}
	others := create(t, s, "others")
	_, commit := p.lockRows(t, locked...)
	var got []<-chan error
	for _, wait := range waits {
		got = append(got, async(wait))
	}
	dbtest.Eventually(t, "all have found the lock", func() bool { return s.conns.Retries.Load() > uint64(3*len(waits)) })
	least := s.pool.Stat().AcquiredConns()
	for range 50 {
		least = min(least, s.pool.Stat().AcquiredConns())
		if n := blocked(t, p); n > 2*cap(s.app.Places)+2*4 { // those in a place, and glances
			t.Errorf("%d connections wait for locks", n)
		}
		wantErr(t, "a save of another session", saving(s, others, "x")(), nil)
		others = mustGet(t, s, others.Key)
		if _, err := s.GetFresh(t.Context(), others.Key); err != nil {
			t.Errorf("GetFresh of another session: %v", err)
		}
		if n, err := s.Destroy(t.Context(), create(t, s, "").Key); n != 1 || err != nil {
			t.Errorf("Destroy of another session = %d, %v", n, err)
		}
	}
	if least > 0 {
		t.Errorf("they always hold %d connections of the pool", least)
	}
	for _, r := range got {
		pending(t, "what waits for the row", r)
	}
	commit()
	for _, err := range results(got) {
		wantErr(t, "what waited for the row", err, nil)
	}
}

// A lock that is taken alone must not starve behind those who share it.
func TestALogoutEverywhereIsNotStarvedByLogins(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{NodeName: "logout", WriteTimeout: time.Minute}, 4)
	user, like := "ada", ""
	for i := 0; like == ""; i++ {
		if other := strings.Repeat("x", i+1); batch.StripeOf(other) == batch.StripeOf(user) {
			like = other
		}
		if i == 250 {
			t.Fatal("no user has the same stripe")
		}
	}
	create(t, s, user)
	ctx, stop := context.WithCancel(t.Context())
	var logins []<-chan error
	for _, name := range []string{"a", "b", "c"} {
		// Each holds the stripe, shared, most of the time, and never all let go.
		logins = append(logins, async(func() error {
			conn := dbtest.Conn(t, p.dsn)
			for ctx.Err() == nil {
				err := pgx.BeginFunc(context.Background(), conn, func(tx pgx.Tx) error {
					_, err := tx.Exec(context.Background(), `SELECT pg_advisory_xact_lock_shared($1::integer, $2::integer), pg_sleep(0.03)`, s.lockClass, batch.StripeOf(user))
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		}))
		other := p.node(t, Options{NodeName: name}, 4)
		logins = append(logins, async(func() error {
			for ctx.Err() == nil {
				if _, err := other.Create(context.Background(), fresh(other, like)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	for range 5 {
		if _, err := s.DestroyUser(t.Context(), user); err != nil {
			t.Error(err)
		}
		if _, _, err := s.CreateLimited(t.Context(), fresh(s, user), session.UserLimit{Max: 1, Evict: true}); err != nil {
			t.Error(err)
		}
	}
	stop()
	for _, err := range results(logins) {
		wantErr(t, "logins", err, nil)
	}
}

// A batch whose statements were still being prepared has not begun.
func TestAWriteThatWasNotSentIsNotUnknown(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites()[1:] {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			other := p.node(t, Options{}, 2)
			s, proxy := p.brittle(t, Options{WriteTimeout: 2 * time.Second})
			rec := create(t, other, "")
			proxy.SetMode(faultproxy.ToClient, faultproxy.Stall())
			err := w.do(t.Context(), s, rec)
			proxy.SetMode(faultproxy.ToClient, faultproxy.Pass())
			wantErr(t, w.kind, err, context.DeadlineExceeded)
			if errors.Is(err, session.ErrUnknown) {
				t.Errorf("nothing was sent: %v", err)
			}
		})
	}
}
