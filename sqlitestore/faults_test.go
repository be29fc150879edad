package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/sojourn-go/sojourn/internal/sqlitecode"
	"github.com/sojourn-go/sojourn/internal/testrig/await"
	"github.com/sojourn-go/sojourn/session"
)

// With no room left, what is there can be read, touched and ended, nothing
// acknowledged is lost, and writing goes on once there is room again.
func TestAFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	s := openStore(t, newPath(t), quiet)
	first := newSession(s, "first")
	first.Expires = first.Deadline.Add(-time.Hour)
	first = create(t, s, first)
	limit := func(pages int) {
		if _, err := s.writer.conn.sql.ExecContext(t.Context(), fmt.Sprintf(`PRAGMA max_page_count = %d`, pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(100)
	var made []session.Record
	var err error
	for range 10_000 {
		var rec session.Record
		if rec, err = s.Create(t.Context(), newSession(s, string(make([]byte, 3000)))); err != nil {
			break
		}
		made = append(made, rec)
	}
	var driver *sqlite.Error
	if !errors.Is(err, ErrFull) || !errors.As(err, &driver) || errors.Is(err, session.ErrUnknown) {
		t.Fatalf("after %d: %v; want ErrFull and the driver's error", len(made), err)
	}
	if _, err := s.Touch(t.Context(), first.Key, first.Deadline); err != nil {
		t.Errorf("Touch: %v", err)
	}
	for _, rec := range made {
		if got, err := s.Get(t.Context(), rec.Key); err != nil || len(got.Data) != 3000 {
			t.Errorf("Get: %v", err)
		}
	}
	if n, err := s.Len(t.Context()); n != int64(len(made)+1) || err != nil {
		t.Errorf("Len = %d, %v; want %d", n, err, len(made)+1)
	}

	// Large and small ones together: only those without room fail.
	results := make(chan error, 20)
	for i := range 20 {
		go func() {
			if i%2 == 0 {
				_, err := s.Create(t.Context(), newSession(s, string(make([]byte, 500_000))))
				if !errors.Is(err, ErrFull) {
					err = fmt.Errorf("a large one: %v; want ErrFull", err)
				} else {
					err = nil
				}
				results <- err
				return
			}
			_, err := s.Touch(t.Context(), first.Key, first.Deadline)
			results <- err
		}()
	}
	for range 20 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}

	if n, err := s.Destroy(t.Context(), made[0].Key, made[1].Key, made[2].Key); n != 3 || err != nil {
		t.Errorf("Destroy = %d, %v", n, err)
	}
	create(t, s, newSession(s, "in the room of those"))
	limit(1_000_000)
	create(t, s, newSession(s, string(make([]byte, 500_000))))
	integrity(t, s)
}

// A damaged page fails what needs it, with the driver's error, and nothing else
// is served from it.
func TestDamageIsReported(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	var keys []session.Key
	for range 200 {
		keys = append(keys, create(t, s, newSession(s, string(make([]byte, 600)))).Key)
	}
	closeStore(t, s)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(10 * 4096); at < info.Size(); at += 4096 {
		if _, err := file.WriteAt(make([]byte, 4096), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path, quiet)
	damaged := 0
	for _, key := range keys {
		_, err := s.Get(t.Context(), key)
		switch {
		case errors.Is(err, ErrDamaged):
			damaged++
		case err != nil && !errors.Is(err, session.ErrNotFound):
			t.Errorf("Get: %v", err)
		}
	}
	if damaged == 0 {
		t.Error("nothing was found to be damaged")
	}
}

// What another program has put into a column is not taken for a session.
func TestColumnsOfAnotherKindAreDamage(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	db := openDB(t, DSN(path))
	sqlExec(t, db, `PRAGMA ignore_check_constraints = 1`)
	for _, set := range []string{`renewed_to = x'00', ended_at = 1`, `renewed_to = x'', ended_at = 1`} {
		rec := create(t, s, newSession(s, "data"))
		sqlExec(t, db, `UPDATE sojourn_sessions SET `+set+` WHERE key = ?1`, rec.Key.Hash[:])
		if _, err := s.Get(t.Context(), rec.Key); !errors.Is(err, ErrDamaged) {
			t.Errorf("with %s, Get: %v; want ErrDamaged", set, err)
		}
	}
}

func TestBackgroundFailuresAreReported(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	db := migratedDB(t, path)
	sqlExec(t, db, `CREATE TRIGGER no BEFORE UPDATE ON sojourn_sessions_meta BEGIN SELECT raise(ABORT, 'not now'); END`)
	failed := make(chan error, 1000)
	s, err := New(t.Context(), db, Options{NextPrune: func() time.Duration { return time.Millisecond }, OnError: func(err error) {
		select {
		case failed <- err:
		default:
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, s)
	if err := <-failed; err == nil || sqlitecode.Of(err) != sqlitecode.Constraint {
		t.Errorf("OnError was told %v", err)
	}
	if s.Stats().BackgroundErrors == 0 {
		t.Error("it was not counted")
	}
	sqlExec(t, db, `DROP TRIGGER no`)
	await.True(t, "it prunes all the same", func() bool { return !s.Stats().Maintained.IsZero() })
}

func integrity(t testing.TB, s *Store) {
	t.Helper()
	var result string
	err := s.scan(context.Background(), func(c *conn) error {
		return c.sql.QueryRowContext(context.Background(), `PRAGMA integrity_check`).Scan(&result)
	})
	if err != nil || result != "ok" {
		t.Errorf("integrity_check: %s, %v", result, err)
	}
}
