package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// own is a migrated table on a server of the test's own.
func own(t testing.TB, cfg dbtest.Config) (*dbtest.Server, place) {
	t.Helper()
	server := dbtest.Start(t, cfg)
	return server, migratedAt(t, server.Database(t), "sojourn", migrations.Settings{})
}

// neverRefusals are errors that speak about a session, for which somebody must
// have looked at it.
var neverRefusals = []error{session.ErrNotFound, session.ErrConflict, session.ErrExists, session.ErrUserChanged, session.ErrUserLimit, session.ErrDeadline, session.ErrNoPartition}

// fails calls everything, and wants an error that blames no session.
func fails(t *testing.T, s *Store, rec session.Record) {
	t.Helper()
	var wg sync.WaitGroup
	for name, do := range anyCalls(s, rec) {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
			defer cancel()
			err := do(ctx)
			if err == nil {
				t.Errorf("%s succeeded without a database", name)
			}
			for _, refusal := range neverRefusals {
				if errors.Is(err, refusal) {
					t.Errorf("%s without a database: %v", name, err)
				}
			}
			if ctx.Err() != nil {
				t.Errorf("%s went on for longer than Options.WriteTimeout: %v", name, err)
			}
		})
	}
	wg.Wait()
}

func TestAnOutageGivesClearErrorsAndIsSurvived(t *testing.T) {
	t.Parallel()
	server, p := own(t, dbtest.Config{})
	s := p.node(t, Options{WriteTimeout: time.Second, PruneInterval: 20 * time.Millisecond}, 4)
	rec := create(t, s, "ada")
	dbtest.Eventually(t, "it leads", func() bool { return s.Stats().Leading })
	// Right after a crash the server may be busy for longer than the short write
	// timeout. That alone is a reason to try again.
	works := func(what string, do func() error) {
		t.Helper()
		dbtest.Eventually(t, what, func() bool {
			err := do()
			if err != nil && !db.IsRefusal(err) && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%s: %v", what, err)
			}
			return !errors.Is(err, context.DeadlineExceeded)
		})
	}
	createAgain := func(after string) {
		t.Helper()
		works(after+": there is a new session", func() (err error) {
			rec, err = s.Create(t.Context(), fresh(s, "ada"))
			return err
		})
	}

	for _, end := range []struct {
		name string
		do   func()
	}{{"stopped", server.Stop}, {"killed", server.Kill}} {
		end.do()
		fails(t, s, rec) // on connections that are lost
		fails(t, s, rec) // without any
		server.Restart(t)
		dbtest.Eventually(t, end.name+": reads work again", func() bool {
			got, err := s.Get(t.Context(), rec.Key)
			if errors.Is(err, session.ErrNotFound) {
				t.Fatalf("%s: %v", end.name, err)
			}
			return err == nil && got.Version == rec.Version
		})
		dbtest.Eventually(t, end.name+": writes work again", func() bool {
			saved, err := s.Save(t.Context(), rec)
			switch {
			case err == nil:
				rec = saved
				return true
			case errors.Is(err, session.ErrUnknown):
				if rec, err = s.Get(t.Context(), rec.Key); err != nil {
					t.Fatal(err)
				}
			}
			return false
		})
		dbtest.Eventually(t, end.name+": its own connections work again", func() bool {
			_, err := s.Destroy(t.Context(), session.NewID(rec.Deadline).Key())
			return err == nil
		})
		dbtest.Eventually(t, end.name+": it leads again", func() bool { return s.Stats().Leading })
		createAgain(end.name)
		for name, do := range anyCalls(s, rec) {
			works(end.name+": "+name+" works again", func() error { return do(t.Context()) })
		}
		createAgain(end.name)
	}
}

// A server that is killed loses nothing that was acknowledged.
func TestWhatIsAcknowledgedSurvivesAKill(t *testing.T) {
	t.Parallel()
	server, p := own(t, dbtest.Config{Durable: true})
	nodes := []*Store{p.node(t, Options{WriteTimeout: 5 * time.Second}, 8), p.node(t, Options{WriteTimeout: 5 * time.Second}, 8)}

	// What a writer knows of one of its sessions.
	type known struct {
		rec     session.Record // as last acknowledged
		dead    bool           // its end was acknowledged
		doubt   bool           // the last write may or may not have happened
		ending  bool           // that was its end
		renewed session.Key    // that was this successor
	}
	const writers = 32
	sessions := make([][]*known, writers)
	killed := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		s := nodes[w%2]
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-killed:
					return
				default:
				}
				k := &known{rec: fresh(s, fmt.Sprint("user", w))}
				sessions[w] = append(sessions[w], k)
				step := func(err error) bool {
					k.doubt = err != nil
					return err == nil
				}
				made, err := s.Create(t.Context(), k.rec)
				if !step(err) {
					k.rec.Version = 0
					return
				}
				k.rec = made
				for n := range 3 {
					next := k.rec
					next.Data = fmt.Appendf(nil, "save %d of %d", n, i)
					saved, err := s.Save(t.Context(), next)
					if !step(err) {
						return
					}
					k.rec = saved
				}
				if i%3 == 2 {
					next := fresh(s, k.rec.User)
					next.Version = k.rec.Version
					k.renewed = next.Key
					renewed, err := s.Renew(t.Context(), k.rec.Key, next, 0)
					if !step(err) {
						return
					}
					k.rec, k.renewed = renewed, session.Key{}
				}
				if i%2 == 1 {
					k.ending = true
					_, err := s.Destroy(t.Context(), k.rec.Key)
					if !step(err) {
						return
					}
					k.dead = true
				}
			}
		})
	}
	dbtest.Eventually(t, "much was written", func() bool {
		st := nodes[0].Stats()
		return st.Saves > 300 && st.Destroys > 30 && st.Renews > 20
	})
	server.Kill()
	close(killed)
	wg.Wait()
	server.Restart(t)
	dbtest.Eventually(t, "the server is back", func() bool { return p.pool.Ping(t.Context()) == nil })

	count, doubts := 0, 0
	for _, of := range sessions {
		for _, k := range of {
			count++
			r := rowOf(t, p, k.rec.Key)
			if !k.doubt {
				if r == nil || r.Live == k.dead || !k.dead && (r.Version != k.rec.Version || string(r.Data) != string(k.rec.Data)) {
					t.Errorf("acknowledged was %+v, there is %+v", k, r)
				}
				continue
			}
			doubts++
			switch {
			case k.rec.Version == 0: // its creation
				if r != nil && (!r.Live || string(r.Data) != string(k.rec.Data)) {
					t.Errorf("an unacknowledged create left %+v", r)
				}
			case k.renewed != session.Key{} && !isLive(t, p, k.rec.Key):
				if !isLive(t, p, k.renewed) {
					t.Errorf("an unacknowledged renewal left nothing")
				}
			case k.ending:
				if r == nil || r.Version != k.rec.Version {
					t.Errorf("an unacknowledged end of %+v left %+v", k.rec, r)
				}
			case r == nil || !r.Live || r.Version < k.rec.Version:
				t.Errorf("an unacknowledged save after %+v left %+v", k.rec, r)
			}
		}
	}
	t.Logf("%d sessions, the last write of %d unacknowledged", count, doubts)
	if doubts == 0 {
		t.Error("nobody was writing when the server was killed")
	}
}

// Logouts do not queue behind the application's queries.
func TestDestroyWorksWhileThePoolIsExhausted(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{}, 2)
	native, old := create(t, s, "ada"), create(t, s, "ada")
	of := create(t, s, "bob")
	foreign := fresh(s, "eve")
	foreign.Key = session.ForeignKey("test", "exhausted")
	next := fresh(s, "eve")
	if _, err := s.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	next.Version = old.Version
	if _, err := s.Renew(t.Context(), old.Key, next, 0); err != nil {
		t.Fatal(err)
	}
	unknown := session.ForeignKey("test", "unknown")
	holdPlaces(t, s.conns.Spare)
	// More than may search at a time.
	searching, stop := context.WithCancel(t.Context())
	asleep, wake := context.WithCancel(t.Context())
	var slow []<-chan error
	for range s.pool.Config().MaxConns {
		conn, err := s.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, async(func() error {
			defer conn.Release()
			_, err := conn.Exec(asleep, `SELECT pg_sleep(3600)`)
			return err
		}))
	}
	for range 2 * maxProbes {
		slow = append(slow, async(func() error { _, err := s.Get(searching, unknown); return err }))
	}
	dbtest.Eventually(t, "the pool is exhausted", func() bool { return s.pool.Stat().EmptyAcquireCount() > 0 || len(s.probes) == maxProbes })

	ctx, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
	defer cancel()
	for _, key := range []session.Key{native.Key, old.Key, foreign.Key} {
		if n, err := s.Destroy(ctx, key); n != 1 || err != nil {
			t.Errorf("Destroy = %d, %v", n, err)
		}
		if isLive(t, p, key) {
			t.Error("the session is live")
		}
	}
	if isLive(t, p, next.Key) {
		t.Error("what it was renewed to is live")
	}
	if n, err := s.DestroyUser(ctx, "bob"); n != 1 || err != nil {
		t.Errorf("DestroyUser = %d, %v", n, err)
	}
	if n, err := s.Clear(ctx); n != 0 || err != nil {
		t.Errorf("Clear = %d, %v", n, err)
	}
	if isLive(t, p, of.Key) {
		t.Error("the user's session is live")
	}
	stop()
	wake()
	for _, err := range results(slow) {
		wantErr(t, "a slow query", err, context.Canceled)
	}
}

// A server that takes no more connections is an outage for those without one.
func TestTooManyConnectionsIsAClearError(t *testing.T) {
	t.Parallel()
	server, p := own(t, dbtest.Config{Settings: map[string]string{"max_connections": "8", "superuser_reserved_connections": "0"}})
	s := p.node(t, Options{WriteTimeout: 2 * time.Second}, 4)
	rec := create(t, s, "ada")
	s.pool.Reset()
	s.conns.Own.Reset()
	p.pool.Reset()
	hog := dbtest.Pool(t, server.DSN("postgres"), func(c *pgxpool.Config) { c.MaxConns = 8 })
	var conns []*pgxpool.Conn
	dbtest.Eventually(t, "all connections are taken", func() bool {
		conn, err := hog.Acquire(t.Context())
		if err == nil {
			conns = append(conns, conn)
		}
		return err != nil || len(conns) == 8
	})
	fails(t, s, rec)
	for _, conn := range conns {
		conn.Release()
	}
	hog.Reset()
	dbtest.Eventually(t, "it works again", func() bool {
		_, err := s.Save(t.Context(), rec)
		return err == nil
	})
}
