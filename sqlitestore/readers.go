package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/wait"
)

// readers are connections for reading. In WAL mode no writer keeps them
// waiting.
type readers struct {
	*sqlstore.Gate
	open func(ctx context.Context) (*conn, error)
	wait time.Duration

	mu   sync.Mutex
	idle []*conn // the one used last is the next: it has pages in its cache
}

func newReaders(db *sql.DB, texts *queries, n int, opts Options, now func() time.Time) *readers {
	return &readers{
		Gate: sqlstore.NewGate(n),
		open: func(ctx context.Context) (*conn, error) {
			c, err := newConn(ctx, db, texts, opts)
			if err == nil {
				c.now = now
			}
			return c, err
		},
		wait: opts.WriteTimeout,
	}
}

// do calls f with a connection, and again while the database is locked.
func (r *readers) do(ctx context.Context, f func(*conn) error) error {
	if err := r.Enter(ctx); err != nil {
		return err
	}
	defer r.Leave()
	c, err := r.take(ctx)
	if err != nil {
		return err
	}
	defer r.put(c)
	if err = f(c); err == nil || !isBusy(err) {
		return err
	}
	return retry(ctx, r.wait, func() error { return f(c) })
}

func (r *readers) take(ctx context.Context) (*conn, error) {
	r.mu.Lock()
	if last := len(r.idle) - 1; last >= 0 {
		c := r.idle[last]
		r.idle = r.idle[:last]
		r.mu.Unlock()
		return c, nil
	}
	r.mu.Unlock()
	return r.open(ctx)
}

func (r *readers) put(c *conn) {
	r.mu.Lock()
	r.idle = append(r.idle, c)
	r.mu.Unlock()
}

// close waits for the connections in use.
func (r *readers) close(ctx context.Context) error {
	r.Close()
	var errs []error
	for _, c := range r.idle {
		errs = append(errs, c.close(ctx))
	}
	return errors.Join(errs...)
}

// retry calls f until the database is not locked, for as long as limit.
func retry(ctx context.Context, limit time.Duration, f func() error) error {
	var until time.Time
	for try := 1; ; try++ {
		err := f()
		if err == nil || !isBusy(err) {
			return err
		}
		if until.IsZero() {
			until = time.Now().Add(limit)
		}
		if time.Now().After(until) {
			return fmt.Errorf("for %v: %w", limit, err)
		}
		if !backoff.Pause(ctx, try) {
			return wait.Because(ctx, err)
		}
	}
}

// backoff is how a read or a write waits for other writers: a commit takes a
// fraction of a millisecond or a few.
var backoff = wait.Backoff{First: 200 * time.Microsecond, Most: 5 * time.Millisecond}
