package sqlitestore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/await"
	"github.com/sojourn-go/sojourn/session"
)

// writes are all kinds of writes to the live session rec. Each returns what it
// made of the session.
func writes(s *Store) map[string]func(ctx context.Context, rec session.Record) (session.Record, error) {
	next := func(rec session.Record) session.Record {
		rec.Key = session.NewID(rec.Deadline).Key()
		return rec
	}
	return map[string]func(ctx context.Context, rec session.Record) (session.Record, error){
		"Create": func(ctx context.Context, rec session.Record) (session.Record, error) {
			return s.Create(ctx, next(rec))
		},
		"Save": func(ctx context.Context, rec session.Record) (session.Record, error) {
			rec.Data = []byte("saved")
			return s.Save(ctx, rec)
		},
		"Touch": func(ctx context.Context, rec session.Record) (session.Record, error) {
			var err error
			rec.Expires, err = s.Touch(ctx, rec.Key, rec.Deadline)
			return rec, err
		},
		"Renew": func(ctx context.Context, rec session.Record) (session.Record, error) {
			return s.Renew(ctx, rec.Key, next(rec), 0)
		},
		"CreateLimited": func(ctx context.Context, rec session.Record) (session.Record, error) {
			rec, evicted, err := s.CreateLimited(ctx, next(rec), session.UserLimit{Max: 1, Evict: true})
			if err == nil && len(evicted) != 1 {
				err = errors.New("it does not tell whom it evicted")
			}
			return rec, err
		},
	}
}

func faultyStore(t *testing.T) (*Store, *commitFault) {
	path := newPath(t)
	migratedDB(t, path)
	fault := &commitFault{}
	s, err := New(t.Context(), faultyDB(t, path, fault), quiet)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, s)
	return s, fault
}

func session1(t *testing.T, s *Store) session.Record {
	rec := newSession(s, "data")
	rec.User, rec.Expires = session.NewID(rec.Deadline).Key().String(), rec.Deadline.Add(-time.Hour)
	return create(t, s, rec)
}

func TestACommitWhoseAnswerIsLostIsLookedInto(t *testing.T) {
	t.Parallel()
	s, fault := faultyStore(t)
	for name, do := range writes(s) {
		for where, counts := range map[string][2]int{"before": {1, 0}, "after": {0, 1}} {
			rec := session1(t, s)
			fault.set(counts[0], counts[1])
			got, err := do(t.Context(), rec)
			if err != nil {
				t.Errorf("%s, with a fault %s the commit: %v", name, where, err)
				continue
			}
			read, err := s.Get(t.Context(), got.Key)
			if err != nil || read.Version != got.Version || string(read.Data) != string(got.Data) || !read.Expires.Equal(got.Expires) {
				t.Errorf("%s, with a fault %s the commit: it returned version %d, %q; Get returns %d, %q, %v",
					name, where, got.Version, got.Data, read.Version, read.Data, err)
			}
		}
	}
	for _, counts := range [][2]int{{1, 0}, {0, 1}} {
		rec := session1(t, s)
		fault.set(counts[0], counts[1])
		if _, err := s.Destroy(t.Context(), rec.Key); err != nil {
			t.Errorf("Destroy: %v", err)
		}
		if _, err := s.Get(t.Context(), rec.Key); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Get after Destroy: %v", err)
		}
	}
	if st := s.Stats(); st.Unknown != 0 || st.Retries == 0 {
		t.Errorf("Unknown = %d, Retries = %d", st.Unknown, st.Retries)
	}
}

func TestWhatCannotBeFoundOutIsUnknown(t *testing.T) {
	t.Parallel()
	s, fault := faultyStore(t)
	for name, do := range writes(s) {
		for _, counts := range [][2]int{{2, 0}, {0, 2}, {1, 1}} {
			rec := session1(t, s)
			before := s.Stats().Unknown
			fault.set(counts[0], counts[1])
			_, err := do(t.Context(), rec)
			var disk diskError
			switch {
			case counts == [2]int{0, 2} && err == nil:
				// Its first attempt is found.
			case !errors.Is(err, session.ErrUnknown) || !errors.As(err, &disk):
				t.Errorf("%s with faults %v: %v; want ErrUnknown and the driver's error", name, counts, err)
			case s.Stats().Unknown != before+1:
				t.Errorf("%s: Stats().Unknown grew by %d", name, s.Stats().Unknown-before)
			}
			fault.set(0, 0)
		}
	}
}

func TestErrorsOfABatchFailOnlyTheirOwn(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	admin := migratedDB(t, path)
	sqlExec(t, admin, `CREATE TRIGGER bad BEFORE INSERT ON sojourn_sessions WHEN new.user_id = 'bad' BEGIN SELECT raise(ABORT, 'not him'); END`)
	s := openStore(t, path, quiet)
	release := holdLock(t, admin)
	const good = 20
	errs := make(chan error, good)
	bad := make(chan error, 1)
	for range good {
		go func() { _, err := s.Create(t.Context(), newSession(s, "data")); errs <- err }()
	}
	go func() {
		rec := newSession(s, "data")
		rec.User = "bad"
		_, err := s.Create(t.Context(), rec)
		bad <- err
	}()
	await.True(t, "all wait", func() bool { return s.writer.waiting() == good+1 })
	release()
	for range good {
		if err := <-errs; err != nil {
			t.Errorf("a good one: %v", err)
		}
	}
	if err := <-bad; err == nil || !strings.Contains(err.Error(), "not him") || errors.Is(err, session.ErrUnknown) {
		t.Errorf("the bad one: %v", err)
	}
	if n, err := s.Len(t.Context()); n != good || err != nil {
		t.Errorf("Len = %d, %v; want %d", n, err, good)
	}
}
