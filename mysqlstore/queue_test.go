package mysqlstore

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/handover"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
	"github.com/sojourn-go/sojourn/session"
)

// lockAll holds the rows of all sessions and the stripes of all users.
func (p place) lockAll(t testing.TB) (commit func()) {
	t.Helper()
	names, err := migrations.NamesOf(migrations.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	tx, commit := p.foreign(t)
	sqlExec(t, tx, `SELECT hash FROM `+names.Sessions+` FOR UPDATE`)
	sqlExec(t, tx, `SELECT * FROM `+names.Users+` FOR UPDATE`)
	return commit
}

// Callers come and give up while nothing can be written. What they wanted to
// write does not pile up, and nothing of it is kept once they have been told.
func TestLocksPileUpNothing(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, quiet)
		const writers = 1000
		recs := make([]session.Record, writers+2)
		var making sync.WaitGroup
		for i := range recs {
			making.Go(func() { recs[i] = create(t, s, newSession(s, "data")) })
		}
		making.Wait()
		kept, gone := recs[writers], recs[writers+1]
		unlock := p.lockAll(t)
		data := make([]byte, 64<<10)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for kind, l := range map[string]*lane{"save": s.saves, "create": s.creates} {
			given := make(chan error, writers)
			for i := range writers {
				go func() {
					rec := recs[i]
					rec.Data = data
					var err error
					if kind == "save" {
						_, err = s.Save(ctx, rec)
					} else {
						rec.Key, rec.User = session.NewID(rec.Deadline).Key(), "ada"
						_, err = s.Create(ctx, rec)
					}
					given <- err
				}()
			}
			dbtest.Eventually(t, "all wait", func() bool { st := l.Queue.Stats(); return st.Writes+st.Waiting == writers })
			most := int64(handover.Batches * s.opts.BatchBytes)
			if st := l.Queue.Stats(); st.Bytes > most || st.Bytes < most/2 || st.Waiting < writers/2 {
				t.Errorf("%s: the queue holds %+v; it may hold %d bytes", kind, st, most)
			}
			defer func() {
				for range writers {
					err := <-given
					wantErr(t, kind, err, context.Canceled)
					if errors.Is(err, session.ErrUnknown) && errors.Is(err, session.ErrOverloaded) {
						t.Errorf("%s: it is known that it was not sent: %v", kind, err)
					}
				}
			}()
		}
		logout := async(func() error { _, err := s.Destroy(context.Background(), gone.Key); return err })
		dbtest.Eventually(t, "a logout is under way all the same", func() bool { _, busy := s.destroys.Len(); return busy == 1 })
		cancel()
		dbtest.Eventually(t, "nothing but the logout is kept", func() bool {
			st := s.Stats().Queue
			return st.Writes == 1 && st.Bytes <= perItem && st.Waiting == 0
		})
		unlock()
		wantErr(t, "the logout", <-logout, nil)
		if saved, err := s.Save(t.Context(), kept); err != nil || saved.Version <= kept.Version {
			t.Errorf("Save afterwards = version %d, %v", saved.Version, err)
		}
		if _, err := s.Get(t.Context(), gone.Key); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Get after the logout: %v", err)
		}
	})
}

// lateness returns what tells the longest time, until then, that the server and the test
// took for a statement that does nothing.
func (p place) lateness(t testing.TB) func() time.Duration {
	db, longest := dbtest.DB(t, p.dsn, nil), new(atomic.Int64)
	ctx, stop := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	asking.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			_, _ = db.ExecContext(ctx, "DO SLEEP(0.02)") // it fails when the test ends
			longest.Store(max(longest.Load(), int64(time.Since(began))))
		}
	})
	t.Cleanup(func() {
		stop()
		asking.Wait()
	})
	return func() time.Duration { return time.Duration(longest.Load()) }
}

// To get a connection takes as long as others have them, or as a new one does.
func TestAWriteThatGotItsConnectionLateIsNotUnknown(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, Options{PruneInterval: -1, WriteTimeout: lockWait + lockWait/5})
		rec := create(t, s, newSession(s, "data"))
		unlock := p.lockRow(t, rec.Key)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		taken := 0
		for ; s.writes.Enter(ended) == nil; taken++ {
		}
		saved := async(func() error { _, err := s.Save(context.Background(), rec); return err })
		<-time.After(lockWait * 4 / 5)
		for range taken {
			s.writes.Leave()
		}
		if err := <-saved; err == nil || errors.Is(err, session.ErrUnknown) {
			t.Errorf("Save: %v; it is known that nothing was written", err)
		}
		unlock()
	})
}

// Callers with all the time in the world are told as well, however many are
// before them.
func TestWhoWaitsBehindALockIsToldInTime(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, Options{PruneInterval: -1, WriteTimeout: 4 * time.Second, BatchItems: 1})
		rec := create(t, s, newSession(s, "data"))
		others := make([]session.Record, 40)
		for i := range others {
			others[i] = create(t, s, newSession(s, "data"))
		}
		late := p.lateness(t)
		unlock := p.lockAll(t)
		began := time.Now()
		var got []<-chan error
		for range 30 { // one after another they would take 120 s
			got = append(got, async(func() error { _, err := s.Save(context.Background(), rec); return err }))
		}
		for _, other := range others { // of a queue with room for 16
			got = append(got, async(func() error { _, err := s.Save(context.Background(), other); return err }))
		}
		for _, result := range got {
			err := <-result
			if err == nil || !strings.Contains(err.Error(), "Options.WriteTimeout") && !errors.Is(err, ErrLocked) {
				t.Errorf("it was told %v", err)
			}
			if errors.Is(err, session.ErrUnknown) && late() < lockWait-2*lockWaitSeconds*time.Second {
				t.Errorf("what waits for a row writes nothing, but it was told %v", err)
			}
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("the last one was told after %v", took)
		}
		unlock()
		if saved, err := s.Save(t.Context(), rec); err != nil || saved.Version <= rec.Version {
			t.Errorf("Save afterwards = version %d, %v", saved.Version, err)
		}
	})
}
