package memstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func TestOptionsOutOfRangeAreNamed(t *testing.T) {
	t.Parallel()
	for field, opts := range map[string]Options{
		"Options.Longest is -1s":     {Longest: -time.Second},
		"Options.MaxData is -1":      {MaxData: -1},
		"Options.MaxUser is -2":      {MaxUser: -2},
		"Options.RetireGrace is -1s": {RetireGrace: -time.Second},
	} {
		s, err := New(opts)
		if s != nil || err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("New = %v, %v; want an error with %q", s, err, field)
		}
	}
}

func TestOptionsSetTheLimits(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Longest: time.Hour, MaxData: 3, MaxUser: 5, PruneInterval: -1})
	deadline := s.Now().Add(30 * time.Minute)
	rec := session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline, Data: []byte("1234")}
	if _, err := s.Create(t.Context(), rec); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("Create with too much data: %v", err)
	}
	rec.Data, rec.User = []byte("123"), "123456"
	if _, err := s.Create(t.Context(), rec); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("Create with too long a user: %v", err)
	}
	rec.User = "12345"
	if _, err := s.Create(t.Context(), rec); err != nil {
		t.Errorf("Create at the limits: %v", err)
	}
	deadline = s.Now().Add(time.Hour + time.Minute)
	rec = session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline}
	if _, err := s.Create(t.Context(), rec); !errors.Is(err, session.ErrDeadline) {
		t.Errorf("Create beyond the longest lifetime: %v", err)
	}
	if got := s.Longest(); got != time.Hour {
		t.Errorf("Longest is %v; want %v", got, time.Hour)
	}
}

func TestADeadKeyIsRememberedUntilItsBucketAndTheGraceHavePassed(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	s := open(t, Options{Now: func() time.Time { return now }, RetireGrace: 2 * time.Hour, PruneInterval: -1})
	rec := session.Record{Deadline: now.Add(5 * time.Minute), Data: []byte("data")}
	rec.Key = session.NewID(rec.Deadline).Key()
	if _, err := s.Create(t.Context(), rec); err != nil {
		t.Fatal(err)
	}

	// The deadline has passed, but another one in the same hour has not.
	for _, step := range []time.Duration{10 * time.Minute, time.Hour, 2 * time.Hour} {
		now = rec.Deadline.Truncate(time.Hour).Add(step)
		if p, err := s.PruneNow(t.Context()); err != nil || p.Rows != 0 {
			t.Fatalf("at %v PruneNow = %+v, %v; want none, nil", now, p, err)
		}
		again := rec
		again.Deadline = rec.Deadline.Truncate(time.Hour).Add(time.Hour)
		if _, err := s.Create(t.Context(), again); !errors.Is(err, session.ErrExists) && !errors.Is(err, session.ErrDeadline) {
			t.Errorf("at %v Create with a dead key: %v", now, err)
		}
		if r := s.table.rows[rec.Key.Hash]; r == nil || r.rec.Data != nil {
			t.Errorf("at %v the row is gone or still has its data", now)
		}
	}

	now = rec.Deadline.Truncate(time.Hour).Add(3*time.Hour + 1)
	if p, err := s.PruneNow(t.Context()); err != nil || p.Rows != 1 {
		t.Errorf("PruneNow = %+v, %v; want 1 row, nil", p, err)
	}
	if len(s.table.rows) != 0 {
		t.Errorf("%d rows are left", len(s.table.rows))
	}
	if _, err := s.Create(t.Context(), rec); !errors.Is(err, session.ErrDeadline) {
		t.Errorf("Create with a forgotten key: %v", err)
	}
	if got := s.Stats(); got.Pruned.Rows != 1 || !got.Maintained.Equal(now) {
		t.Errorf("Stats = %+v", got)
	}
}

func TestAFateStaysTheSameUntilTheKeyIsForgotten(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	s := open(t, Options{Now: func() time.Time { return now }, RetireGrace: 2 * time.Hour, PruneInterval: -1})
	want := map[session.Key]session.Fate{}
	deadline := now.Add(30 * time.Minute)
	for _, fate := range []session.Fate{session.FateEnded, session.FateExpired, session.FateRenewed} {
		rec := session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline, Expires: now.Add(5 * time.Minute)}
		rec, err := s.Create(t.Context(), rec)
		if err != nil {
			t.Fatal(err)
		}
		want[rec.Key] = fate
		switch fate {
		case session.FateEnded:
			_, err = s.Destroy(t.Context(), rec.Key)
		case session.FateRenewed:
			next := rec
			next.Key = session.NewID(deadline).Key()
			_, err = s.Renew(t.Context(), rec.Key, next, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		for key, want := range want {
			if got, err := s.Fate(t.Context(), key); got != want || err != nil {
				t.Errorf("at %v Fate = %v, %v; want %v", now, got, err, want)
			}
		}
	}
	for _, step := range []time.Duration{5 * time.Minute, time.Hour, 3 * time.Hour} {
		now = deadline.Truncate(time.Hour).Add(step)
		check()
		if p, err := s.PruneNow(t.Context()); err != nil || p.Rows != 0 {
			t.Fatalf("at %v PruneNow = %+v, %v; want none, nil", now, p, err)
		}
		check()
	}

	now = deadline.Truncate(time.Hour).Add(3*time.Hour + 1)
	check()
	if _, err := s.PruneNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	for key := range want {
		want[key] = session.FateUnknown
	}
	check()
}

func TestAStorePrunesByItself(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		interval time.Duration
		start    bool
		want     bool
	}{
		"by default":                   {0, false, true},
		"unless it shall not":          {-1, false, false},
		"when it is told to":           {-1, true, true},
		"as often as the option says":  {time.Second, false, true},
		"told to though it does so":    {0, true, true},
		"once its interval has passed": {time.Hour, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := New(Options{PruneInterval: c.interval})
				if err != nil {
					t.Fatal(err)
				}
				if c.start {
					s.StartPruning()
				}
				<-time.After(2 * time.Minute) // of the bubble's clock
				if got := !s.Stats().Maintained.IsZero(); got != c.want {
					t.Errorf("after two minutes it has pruned: %v; want %v", got, c.want)
				}
				if err := s.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A moment is of no length here, so its ends can be told apart.
func TestWhatHappensInOneMoment(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	s := open(t, Options{Now: func() time.Time { return now }, PruneInterval: -1})
	deadline := now.Add(time.Hour)
	limit := session.UserLimit{Max: 2, Evict: true}
	var recs []session.Record
	for i := range 9 {
		rec := session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline, User: "ada"}
		rec, evicted, err := s.CreateLimited(t.Context(), rec, limit)
		if err != nil {
			t.Fatal(err)
		}
		if i >= limit.Max && (len(evicted) != 1 || evicted[0] != recs[i-limit.Max].Key) {
			t.Errorf("login %d ended %v; want the one that began first, %v", i, evicted, recs[i-limit.Max].Key)
		}
		recs = append(recs, rec)
	}

	old := recs[8]
	next := session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline, User: "ada", Version: old.Version}
	if _, err := s.Renew(t.Context(), old.Key, next, time.Minute); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute - 1)
	if got, err := s.Get(t.Context(), old.Key); err != nil || got.Key != next.Key {
		t.Errorf("just before the end of the grace period: %+v, %v", got, err)
	}
	now = now.Add(1)
	if _, err := s.Get(t.Context(), old.Key); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("at the end of the grace period: %v; want ErrNotFound", err)
	}
}

func TestCloseWaitsForTheWriteUnderWay(t *testing.T) {
	t.Parallel()
	s := open(t, Options{PruneInterval: -1})
	release := lock(s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close while a write is under way, for who gives up: %v; want context.Canceled", err)
	}
	release()
}

func TestUsersWithoutSessionsTakeNoMemory(t *testing.T) {
	t.Parallel()
	s := open(t, Options{PruneInterval: -1})
	deadline := s.Now().Add(time.Hour)
	for _, user := range []string{"alice", "bob"} {
		rec := session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline, User: user}
		if _, err := s.Create(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		if n, err := s.DestroyUser(t.Context(), user); n != 1 || err != nil {
			t.Fatalf("DestroyUser = %d, %v", n, err)
		}
	}
	if len(s.table.users) != 0 {
		t.Errorf("%d users are still known", len(s.table.users))
	}
}

func open(t *testing.T, opts Options) *Store {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}
