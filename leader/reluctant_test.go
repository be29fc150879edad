package leader_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/pglock"
)

func TestTheReluctantLeaveTheLockToOthers(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	var fit atomic.Bool
	asked := func(context.Context, *pgx.Conn) (bool, error) { return fit.Load(), nil }
	const free = 300 * time.Millisecond
	plain := pglock.New(config(t, dsn), 1, "")
	reluctant := pglock.Reluctant(plain, free, asked)

	s := open(t, reluctant)
	other := open(t, plain)
	if lock(t, s) {
		t.Error("it took the lock at once")
	}
	if !lock(t, other) {
		t.Fatal("looking at the lock holds it")
	}
	held := time.Now()
	dbtest.Eventually(t, "it was held for long", func() bool { return lock(t, s) || time.Since(held) > 2*free })
	shut(t, other)
	var first time.Time
	dbtest.Eventually(t, "it takes the lock", func() bool {
		if first.IsZero() {
			first = time.Now()
		}
		return lock(t, s)
	})
	if d := time.Since(first); d < free {
		t.Errorf("it took the lock after %v, which was to be free for %v", d, free)
	}
	if err := s.Verify(within(t)); err != nil {
		t.Error(err)
	}
	shut(t, s)

	fit.Store(true)
	s = open(t, reluctant)
	dbtest.Eventually(t, "the fit one takes the lock", func() bool { return lock(t, s) })
}

// Whoever is fit leads soon after it has come, and stays.
func TestAFitProcessLeadsInsteadOfTheReluctant(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	opts := leader.Options{Poll: 50 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 4)
	var unfitTerms, fitTerms atomic.Int64
	start := func(fit bool) {
		terms := &unfitTerms
		if fit {
			terms = &fitTerms
		}
		locker := pglock.Reluctant(pglock.New(config(t, dsn), 1, ""), 200*time.Millisecond,
			func(context.Context, *pgx.Conn) (bool, error) { return fit, nil })
		go func() {
			ended <- leader.Run(ctx, locker, opts, func(leading context.Context, _ *leader.Term[*pgx.Conn]) error {
				terms.Add(1)
				if fit {
					<-leading.Done()
				}
				return nil
			})
		}()
	}
	for range 3 {
		start(false)
	}
	dbtest.Eventually(t, "the unfit take turns", func() bool { return unfitTerms.Load() >= 3 })
	start(true)
	dbtest.Eventually(t, "the fit one leads", func() bool { return fitTerms.Load() == 1 })
	cancel()
	for range 4 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
