package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

const liveOf = `ended_at IS NULL AND expires_at > clock_timestamp()`

// liveCount counts around all stores.
func liveCount(t testing.TB, p place, user string) int {
	t.Helper()
	return query[int](t, p, `SELECT count(*) FROM `+p.schema+`.sessions WHERE user_id = $1 AND `+liveOf, user)
}

// chain renews a session again and again until that fails, and returns the
// error. Each link is a new session. One that cannot be ended ends the test.
func chain(ctx context.Context, s *Store, rec session.Record) error {
	ctx, cancel := context.WithTimeout(ctx, dbtest.Patience)
	defer cancel()
	for {
		next := fresh(s, rec.User)
		next.Version = rec.Version
		renewed, err := s.Renew(ctx, rec.Key, next, time.Minute)
		if err != nil {
			return err
		}
		rec = renewed
	}
}

// concurrently runs round in several goroutines, until each has done its share
// or the test has failed.
func concurrently(t testing.TB, workers, times int, round func(n int)) {
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for r := range times {
				if !t.Failed() {
					round(w*times + r)
				}
			}
		})
	}
	wg.Wait()
}

func TestDestroyUserEndsWhatIsBeingRenewed(t *testing.T) {
	t.Parallel()
	destroyUserEndsWhatIsBeingRenewed(t, migrated(t), 60)
}

func destroyUserEndsWhatIsBeingRenewed(t *testing.T, p place, times int) {
	a, b := p.node(t, Options{}, 8), p.node(t, Options{}, 8)

	// One renewal is under way and has not yet added its row, then one comes
	// that is too late.
	for _, first := range []string{"Renew", "DestroyUser"} {
		rec := create(t, a, "ada")
		_, commit := p.lockRows(t, rec.Key)
		next := fresh(a, "ada")
		next.Version = rec.Version
		ops := map[string]func() error{
			"Renew":       func() error { _, err := a.Renew(context.Background(), rec.Key, next, time.Minute); return err },
			"DestroyUser": func() error { _, err := b.DestroyUser(context.Background(), "ada"); return err },
		}
		done := []<-chan error{async(ops[first])}
		dbtest.Eventually(t, first+" waits", func() bool { return blocked(t, p) == 1 })
		delete(ops, first)
		for _, op := range ops {
			done = append(done, async(op))
		}
		dbtest.Eventually(t, "both wait", func() bool { return blocked(t, p) == 2 })
		commit()
		for _, err := range results(done) {
			wantErr(t, first+" first", err, nil, session.ErrNotFound)
		}
		if n := liveCount(t, p, "ada"); n != 0 {
			t.Fatalf("%s first: %d sessions are live", first, n)
		}
	}

	concurrently(t, 4, rounds.Of(times), func(n int) {
		user := fmt.Sprint("user", n)
		nodes := []*Store{a, b}
		var chains []<-chan error
		for i := range 1 + n%3 {
			rec, err := a.Create(t.Context(), fresh(a, user))
			wantErr(t, "create", err, nil)
			chains = append(chains, async(func() error { return chain(t.Context(), nodes[(n+i)%2], rec) }))
		}
		_, err := nodes[n%2].DestroyUser(t.Context(), user)
		wantErr(t, "DestroyUser", err, nil)
		for _, err := range results(chains) {
			wantErr(t, "the end of a chain of renewals", err, session.ErrNotFound)
		}
		if n := liveCount(t, p, user); n != 0 {
			t.Errorf("%d sessions of %s are live", n, user)
		}
	})
}

func TestDestroyOfAnOldKeyEndsWhatItIsRenewedTo(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	a, b := p.node(t, Options{}, 8), p.node(t, Options{}, 8)

	rec, next := create(t, a, ""), fresh(a, "")
	next.Version = rec.Version
	_, commit := p.lockRows(t, rec.Key)
	renewal := async(func() error { _, err := a.Renew(context.Background(), rec.Key, next, 0); return err })
	dbtest.Eventually(t, "Renew waits", func() bool { return blocked(t, p) == 1 })
	destroy := async(func() error { _, err := b.Destroy(context.Background(), rec.Key); return err })
	dbtest.Eventually(t, "both wait", func() bool { return blocked(t, p) == 2 })
	commit()
	wantErr(t, "Renew", <-renewal, nil, session.ErrNotFound)
	wantErr(t, "Destroy", <-destroy, nil)
	if isLive(t, p, next.Key) || isLive(t, p, rec.Key) {
		t.Error("the session lives on under its new key")
	}

	concurrently(t, 4, rounds.Of(60), func(n int) {
		user := fmt.Sprint("user", n)
		nodes := []*Store{a, b}
		rec, err := a.Create(t.Context(), fresh(a, user))
		wantErr(t, "create", err, nil)
		end := async(func() error { return chain(t.Context(), nodes[n%2], rec) })
		count, err := nodes[n/2%2].Destroy(t.Context(), rec.Key)
		if count != 1 || err != nil {
			t.Errorf("Destroy = %d, %v", count, err)
		}
		wantErr(t, "the end of a chain of renewals", <-end, session.ErrNotFound)
		if n := liveCount(t, p, user); n != 0 {
			t.Errorf("%d sessions of the chain are live", n)
		}
	})
}

func TestClearEndsWhatIsBeingRenewed(t *testing.T) {
	t.Parallel()
	clearEndsWhatIsBeingRenewed(t, migrated(t), 6)
}

func clearEndsWhatIsBeingRenewed(t *testing.T, p place, times int) {
	a, b := p.node(t, Options{}, 8), p.node(t, Options{}, 8)
	nodes := []*Store{a, b}
	for round := range rounds.Of(times) {
		var chains []<-chan error
		for i := range 12 {
			user := []string{"before", ""}[i%2]
			rec := create(t, nodes[i%2], user)
			chains = append(chains, async(func() error { return chain(t.Context(), nodes[i/2%2], rec) }))
		}
		ctx, cancel := context.WithCancel(t.Context())
		logins := async(func() error {
			for ctx.Err() == nil {
				if _, err := a.Create(t.Context(), fresh(a, "meanwhile")); err != nil {
					return err
				}
			}
			return nil
		})
		_, err := nodes[round%2].Clear(t.Context())
		wantErr(t, "Clear", err, nil)
		for _, err := range results(chains) {
			wantErr(t, "the end of a chain of renewals", err, session.ErrNotFound)
		}
		cancel()
		wantErr(t, "create meanwhile", <-logins, nil)
		if n := query[int](t, p, `SELECT count(*) FROM `+p.schema+`.sessions WHERE user_id IS DISTINCT FROM 'meanwhile' AND `+liveOf); n != 0 {
			t.Fatalf("%d sessions that existed before are live", n)
		}
		if _, err := a.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, err := b.Len(t.Context()); n != 0 || err != nil {
			t.Fatalf("Len = %d, %v after Clear with nobody else", n, err)
		}
	}
}

func TestALimitHoldsAgainstConcurrentLogins(t *testing.T) {
	t.Parallel()
	for _, limit := range []session.UserLimit{{Max: 3, Evict: true}, {Max: 3}} {
		t.Run(fmt.Sprintf("%+v", limit), func(t *testing.T) {
			t.Parallel()
			aLimitHolds(t, migrated(t), limit)
		})
	}
}

func aLimitHolds(t *testing.T, p place, limit session.UserLimit) {
	nodes := []*Store{p.node(t, Options{}, 8), p.node(t, Options{}, 8)}
	first := create(t, nodes[0], "ada")

	var most atomic.Int64
	stop := make(chan struct{})
	watched := async(func() error {
		for {
			var n int64
			err := p.pool.QueryRow(t.Context(), `SELECT count(*) FROM `+p.schema+`.sessions WHERE user_id = 'ada' AND `+liveOf).Scan(&n)
			if err != nil {
				return err
			}
			most.Store(max(most.Load(), n))
			select {
			case <-stop:
				return nil
			default:
			}
		}
	})

	var created, refused atomic.Int64
	var mu sync.Mutex
	evicted := map[session.Key]int{}
	concurrently(t, 50, 2, func(n int) {
		s := nodes[n%2]
		rec := fresh(s, "ada")
		var gone []session.Key
		var err error
		if n%10 == 9 { // a login by renewing a session of nobody
			old, createErr := s.Create(t.Context(), fresh(s, ""))
			wantErr(t, "create", createErr, nil)
			rec.Version = old.Version
			_, gone, err = s.RenewLimited(t.Context(), old.Key, rec, 0, limit)
		} else {
			_, gone, err = s.CreateLimited(t.Context(), rec, limit)
		}
		switch {
		case err == nil:
			created.Add(1)
		case errors.Is(err, session.ErrUserLimit) && !limit.Evict:
			refused.Add(1)
		default:
			t.Errorf("login: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, key := range gone {
			evicted[key]++
		}
	})
	close(stop)
	wantErr(t, "watch", <-watched, nil)

	if n := liveCount(t, p, "ada"); n != 3 || most.Load() > 3 {
		t.Errorf("%d sessions are live, at most there were %d, want 3", n, most.Load())
	}
	if limit.Evict && (created.Load() != 100 || len(evicted) != 98) || !limit.Evict && (created.Load() != 2 || refused.Load() != 98) {
		t.Errorf("%d created, %d refused, %d evicted", created.Load(), refused.Load(), len(evicted))
	}
	for key, n := range evicted {
		if n != 1 || isLive(t, p, key) {
			t.Errorf("evicted %d times; live: %v", n, isLive(t, p, key))
		}
	}
	if limit.Evict != (evicted[first.Key] == 1) {
		t.Errorf("the oldest session was evicted %d times", evicted[first.Key])
	}
}

func TestOneOfTwoCreatesOfOneIDWins(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	nodes := []*Store{p.node(t, Options{}, 8), p.node(t, Options{}, 8)}
	concurrently(t, 4, rounds.Of(25), func(n int) {
		rec := fresh(nodes[0], "ada")
		if n%4 == 3 {
			rec.Key = session.ForeignKey("test", fmt.Sprint(n))
		}
		var made [2]<-chan error
		for i, s := range nodes {
			mine := rec
			mine.Data = []byte{byte(i)}
			made[i] = async(func() error { _, err := s.Create(t.Context(), mine); return err })
		}
		errs := results(made[:])
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		wantErr(t, "the first", errs[winner], nil)
		wantErr(t, "the second", errs[1-winner], session.ErrExists)
		got, err := nodes[1-winner].Get(t.Context(), rec.Key)
		if err != nil || !bytes.Equal(got.Data, []byte{byte(winner)}) {
			t.Errorf("Get = %+v, %v; want the data of node %d", got, err, winner)
		}
	})
}

func TestOnceDestroyedNeverLive(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	nodes := []*Store{p.node(t, Options{}, 8), p.node(t, Options{}, 8)}
	concurrently(t, 3, rounds.Of(12), func(n int) {
		rec, err := nodes[0].Create(t.Context(), fresh(nodes[0], "ada"))
		wantErr(t, "create", err, nil)
		stop := make(chan struct{})
		var destroyed atomic.Bool
		// loop calls do until stop, and reports what was live after the end.
		loop := func(what string, do func(i int) error) <-chan error {
			return async(func() error {
				dead := false
				for i := 0; ; i++ {
					last := false
					select {
					case <-stop:
						last = true
					default:
					}
					late := destroyed.Load()
					err := do(i)
					switch {
					case err == nil && (late || dead):
						return fmt.Errorf("%s: live after its end", what)
					case errors.Is(err, session.ErrNotFound):
						dead = true
					case err != nil && !errors.Is(err, session.ErrConflict):
						return fmt.Errorf("%s: %w", what, err)
					}
					if last {
						return nil
					}
				}
			})
		}
		var loops []<-chan error
		for i, s := range nodes {
			current := rec
			loops = append(loops,
				loop("Get", func(int) error {
					_, err := s.Get(t.Context(), rec.Key)
					return err
				}),
				loop("Save", func(int) error {
					saved, err := s.Save(t.Context(), current)
					if errors.Is(err, session.ErrConflict) {
						if read, getErr := s.Get(t.Context(), rec.Key); getErr == nil {
							current = read
						}
					} else if err == nil {
						current = saved
					}
					return err
				}),
				loop("Touch", func(n int) error {
					_, err := s.Touch(t.Context(), rec.Key, rec.Expires.Add(time.Duration(n*2+i)*time.Millisecond))
					return err
				}))
		}
		dbtest.Eventually(t, "it was written to", func() bool { return rowOf(t, p, rec.Key).Version > rec.Version })
		count, err := nodes[n%2].Destroy(t.Context(), rec.Key)
		destroyed.Store(true)
		if count != 1 || err != nil {
			t.Errorf("Destroy = %d, %v", count, err)
		}
		close(stop)
		for _, err := range results(loops) {
			wantErr(t, "a session that was destroyed", err, nil)
		}
		if isLive(t, p, rec.Key) {
			t.Error("it is live")
		}
	})
}

// A node may believe in another time; the database's counts.
func TestTheDatabasesClockDecides(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{}, 4)

	t.Run("a session that has expired there is refused here", func(t *testing.T) {
		rec := create(t, s, "ada")
		p.exec(t, `UPDATE `+p.schema+`.sessions SET expires_at = clock_timestamp() WHERE key = $1`, rec.Key.Hash[:])
		if !rec.Expires.After(s.Now()) {
			t.Fatal("this node ought to take it for live")
		}
		next := fresh(s, "ada")
		next.Version = rec.Version
		_, err := s.Get(t.Context(), rec.Key)
		wantErr(t, "Get", err, session.ErrNotFound)
		_, err = s.Save(t.Context(), rec)
		wantErr(t, "Save", err, session.ErrNotFound)
		_, err = s.Touch(t.Context(), rec.Key, rec.Deadline)
		wantErr(t, "Touch", err, session.ErrNotFound)
		_, err = s.Renew(t.Context(), rec.Key, next, time.Minute)
		wantErr(t, "Renew", err, session.ErrNotFound)
		_, err = s.Put(t.Context(), rec)
		wantErr(t, "Put", err, session.ErrNotFound)
		if n, err := s.Destroy(t.Context(), rec.Key); n != 0 || err != nil {
			t.Errorf("Destroy = %d, %v", n, err)
		}
		if isLive(t, p, rec.Key) || isLive(t, p, next.Key) {
			t.Error("it is live again")
		}
	})

	// shifted is a node whose clock is wrong until it reads the facts again.
	shifted := func(t *testing.T, by time.Duration) *Store {
		node := p.node(t, Options{}, 4)
		f := *node.table.Known.Load()
		f.DatabaseTime = f.DatabaseTime.Add(by)
		node.table.Known.Store(&f)
		return node
	}
	t.Run("an hour late", func(t *testing.T) {
		late := shifted(t, -time.Hour)
		live := create(t, s, "ada")
		_, err := late.Get(t.Context(), live.Key)
		wantErr(t, "Get of a live session", err, nil)
		// Half an hour to live by its own clock.
		rec := fresh(late, "ada")
		_, err = late.Create(t.Context(), rec)
		wantErr(t, "Create of an expired session", err, session.ErrDeadline)
		if rowOf(t, p, rec.Key) != nil {
			t.Error("it was written")
		}
		live.Expires = rec.Expires
		_, err = late.Save(t.Context(), live)
		wantErr(t, "Save with an expiry that has passed", err, nil)
		if isLive(t, p, live.Key) {
			t.Error("it did not end the session")
		}
	})
	t.Run("an hour early", func(t *testing.T) {
		early := shifted(t, time.Hour)
		rec := create(t, early, "ada")
		for _, node := range []*Store{early, s} {
			_, err := node.Get(t.Context(), rec.Key)
			wantErr(t, "Get", err, nil)
		}
		saved, err := early.Save(t.Context(), rec)
		wantErr(t, "Save", err, nil)
		_, err = early.Touch(t.Context(), rec.Key, rec.Expires.Add(time.Hour))
		wantErr(t, "Touch", err, nil)
		// Long live: the longest lifetime counts from the database's time.
		far := fresh(early, "ada")
		far.Deadline = early.Now().Add(early.Longest())
		far.Key = session.NewID(far.Deadline).Key()
		_, err = early.Create(t.Context(), far)
		wantErr(t, "Create beyond the longest lifetime", err, session.ErrDeadline)
		if n, err := early.Destroy(t.Context(), saved.Key); n != 1 || err != nil {
			t.Errorf("Destroy = %d, %v", n, err)
		}
	})
}
