package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlitecode"
	"github.com/sojourn-go/sojourn/internal/testrig/await"
	"github.com/sojourn-go/sojourn/internal/testrig/paging"
	"github.com/sojourn-go/sojourn/session"
)

// holdLock takes the write lock, until release.
func holdLock(t testing.TB, db *sql.DB) (release func()) {
	t.Helper()
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	sqlExec(t, conn, `BEGIN IMMEDIATE`)
	return sync.OnceFunc(func() {
		sqlExec(t, conn, `ROLLBACK`)
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestWritesThatWaitShareATransaction(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	release := holdLock(t, openDB(t, DSN(path)))
	before := s.Stats().Flushes
	const n = 300
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := s.Create(t.Context(), newSession(s, "data")); err != nil {
				t.Error(err)
			}
		})
	}
	await.True(t, "all wait", func() bool { return s.writer.waiting() == n })
	release()
	wg.Wait()
	if got := s.Stats().Flushes - before; got != 1 {
		t.Errorf("%d writes took %d transactions", n, got)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]Options{
		"by their number": {BatchItems: 10, PruneInterval: -1},
		"by their size":   {BatchBytes: 12_000, PruneInterval: -1},
	} {
		path := newPath(t)
		s := openStore(t, path, opts)
		release := holdLock(t, openDB(t, DSN(path)))
		before := s.Stats().Flushes
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := s.Create(t.Context(), newSession(s, string(make([]byte, 1000)))); err != nil {
					t.Error(err)
				}
			})
		}
		await.True(t, "all wait", func() bool { return s.writer.waiting() == 100 })
		release()
		wg.Wait()
		if got := s.Stats().Flushes - before; got != 10 {
			t.Errorf("%s: 100 writes took %d transactions; want 10", name, got)
		}
	}
}

func TestReadsWaitForNobody(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	rec := newSession(s, "data")
	rec.User = "alice"
	rec = create(t, s, rec)
	db := openDB(t, DSN(path))
	tx, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sqlExec(t, tx, `BEGIN EXCLUSIVE`)
	sqlExec(t, tx, `UPDATE sojourn_sessions SET data = x'00'`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := s.Get(ctx, rec.Key); err != nil || string(got.Data) != "data" {
		t.Errorf("Get = %q, %v", got.Data, err)
	}
	if n, err := s.Len(ctx); n != 1 || err != nil {
		t.Errorf("Len = %d, %v", n, err)
	}
	if recs, err := s.ListUser(ctx, "alice", session.Record{}, 1000); len(recs) != 1 || err != nil {
		t.Errorf("ListUser = %d, %v", len(recs), err)
	}
	sqlExec(t, tx, `ROLLBACK`)
	if err := tx.Close(); err != nil {
		t.Error(err)
	}
}

func TestALockThatIsKeptFailsWritesInTime(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	opts := quiet
	opts.WriteTimeout = 2 * time.Second
	s := openStore(t, path, opts)
	rec := create(t, s, newSession(s, "data"))
	release := holdLock(t, openDB(t, DSN(path)))
	_, err := s.Save(t.Context(), rec)
	if !errors.Is(err, ErrLocked) || errors.Is(err, session.ErrUnknown) || sqlitecode.Of(err) != sqlitecode.Busy {
		t.Errorf("Save: %v; want ErrLocked with the driver's error", err)
	}
	if _, err := s.Get(t.Context(), rec.Key); err != nil {
		t.Errorf("Get meanwhile: %v", err)
	}
	release()
	saved, err := s.Save(t.Context(), rec)
	if err != nil || saved.Version <= rec.Version {
		t.Errorf("Save afterwards = version %d, %v", saved.Version, err)
	}
}

func TestWhoGivesUpBeforeTheLockHasWrittenNothing(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	rec := create(t, s, newSession(s, "data"))
	release := holdLock(t, openDB(t, DSN(path)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := s.Save(ctx, rec); done <- err }()
	await.True(t, "it waits", func() bool { return s.writer.waiting() == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || errors.Is(err, session.ErrUnknown) {
		t.Errorf("Save: %v; want that it was cancelled and nothing else", err)
	}
	release()
	if got, err := s.Save(t.Context(), rec); err != nil || got.Version <= rec.Version {
		t.Errorf("Save afterwards = version %d, %v", got.Version, err)
	}
}

func TestPagesOfSessionsThatBeganInOneMoment(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	const sessions = 10
	for range sessions {
		rec := newSession(s, "")
		rec.User = "alice"
		create(t, s, rec)
	}
	sqlExec(t, openDB(t, DSN(path)), `UPDATE sojourn_sessions SET created_at = 7`)
	paging.Tied(t.Context(), t, s, "alice", sessions)
}
