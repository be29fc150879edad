package sqlitestore

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/handover"
	"github.com/sojourn-go/sojourn/internal/testrig/await"
	"github.com/sojourn-go/sojourn/session"
)

// Callers come and give up while another process has the lock. What they wanted
// to write does not pile up, and nothing of it is kept once they have been told.
func TestAKeptLockPilesUpNothing(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	kept, gone := create(t, s, newSession(s, "data")), create(t, s, newSession(s, "data"))
	release := holdLock(t, openDB(t, DSN(path)))
	const writers = 1000
	data := make([]byte, 64<<10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	given := make(chan error, writers)
	for i := range writers {
		go func() {
			rec := kept
			rec.Data = data
			var err error
			if i%2 == 0 {
				_, err = s.Save(ctx, rec)
			} else {
				rec.Key = session.NewID(rec.Deadline).Key()
				_, err = s.Create(ctx, rec)
			}
			given <- err
		}()
	}
	queue := func() session.QueueStats { return s.Stats().Queue }
	await.True(t, "all wait", func() bool { return queue().Writes+queue().Waiting == writers })
	most := int64(handover.Batches * s.opts.BatchBytes)
	if st := queue(); st.Bytes > most || st.Bytes < most/2 || st.Waiting < writers/2 {
		t.Errorf("the queue holds %+v; it may hold %d bytes", st, most)
	}
	full := queue().Writes
	logout := make(chan error, 1)
	go func() { _, err := s.Destroy(context.Background(), gone.Key); logout <- err }()
	await.True(t, "there is room for a logout", func() bool { return queue().Writes == full+1 })
	cancel()
	refused := uint64(0)
	for range writers {
		err := <-given
		if !errors.Is(err, context.Canceled) || errors.Is(err, session.ErrUnknown) {
			t.Errorf("told %v, want that it was cancelled and not done", err)
		}
		if errors.Is(err, session.ErrOverloaded) {
			refused++
		}
	}
	if n := queue().Refused; refused == 0 || n != refused {
		t.Errorf("%d were refused for want of room, and %d counted", refused, n)
	}
	if st := queue(); st.Writes != 1 || st.Bytes > 1000 || st.Waiting != 0 {
		t.Errorf("the queue holds %+v, want only the logout", st)
	}
	release()
	if err := <-logout; err != nil {
		t.Error("the logout:", err)
	}
	if saved, err := s.Save(t.Context(), kept); err != nil || saved.Version <= kept.Version {
		t.Errorf("Save afterwards = version %d, %v", saved.Version, err)
	}
}

// There is one writer for all. What ends sessions goes first.
func TestALogoutGoesBeforeOtherWrites(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, Options{BatchItems: 1, PruneInterval: -1})
	rec := newSession(s, "data")
	rec.User = "ada"
	gone, other := create(t, s, rec), create(t, s, newSession(s, "data"))
	release := holdLock(t, openDB(t, DSN(path)))
	const writers = 100
	done := make(chan error, writers)
	for range writers {
		go func() {
			_, err := s.Create(context.Background(), newSession(s, "data"))
			done <- err
		}()
	}
	await.True(t, "the queue is full", func() bool { st := s.Stats().Queue; return st.Writes == handover.Batches && st.Waiting > 0 })
	var logouts sync.WaitGroup
	for _, end := range []func() (int64, error){
		func() (int64, error) { return s.Destroy(context.Background(), other.Key) },
		func() (int64, error) { return s.DestroyUser(context.Background(), "ada") },
	} {
		logouts.Go(func() {
			if n, err := end(); n != 1 || err != nil {
				t.Errorf("a logout = %d, %v; want 1", n, err)
			}
		})
	}
	await.True(t, "the logouts have room", func() bool { return s.Stats().Queue.Writes == handover.Batches+2 })
	release()
	logouts.Wait()
	for range writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	var before int
	err := openDB(t, DSN(path)).QueryRow(`
SELECT count(*) FROM sojourn_sessions
WHERE ended_at IS NULL AND created_at < (SELECT max(ended_at) FROM sojourn_sessions)`).Scan(&before)
	if err != nil || before != 0 {
		t.Errorf("%d writes came before the logouts, %v", before, err)
	}
	if _, err := s.Get(t.Context(), gone.Key); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Get after the logout: %v", err)
	}
}

// A caller may be on its way into the queue when those in it are told.
func TestTheLockIsTheReasonUntilItIsThere(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, Options{BatchItems: 1, PruneInterval: -1, WriteTimeout: 20 * time.Millisecond})
	release := holdLock(t, openDB(t, DSN(path)))
	writing := func() error { _, err := s.Create(context.Background(), newSession(s, "data")); return err }
	await.True(t, "a caller is told of the lock", func() bool { return errors.Is(writing(), ErrLocked) })
	const writers = 100 // of a queue with room for 16
	for range 20 {
		given := make(chan error, writers)
		for range writers {
			go func() { given <- writing() }()
		}
		for range writers {
			if err := <-given; !errors.Is(err, ErrLocked) {
				t.Errorf("told %v, want ErrLocked", err)
			}
		}
	}
	release()
	await.True(t, "the store writes again", func() bool { return writing() == nil })
}

// Callers with all the time in the world are told as well, by what they wait for.
func TestWhoWaitsForTheLockIsToldInTime(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, Options{BatchItems: 1, PruneInterval: -1, WriteTimeout: 2 * time.Second})
	release := holdLock(t, openDB(t, DSN(path)))
	const writers = 40 // of a queue with room for 16
	given := make(chan error, writers)
	for range writers {
		go func() { _, err := s.Create(context.Background(), newSession(s, "data")); given <- err }()
	}
	for range writers {
		err := <-given
		if !errors.Is(err, ErrLocked) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, session.ErrUnknown) {
			t.Errorf("told %v, want ErrLocked", err)
		}
	}
	release()
	create(t, s, newSession(s, "data"))
}
