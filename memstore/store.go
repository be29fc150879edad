package memstore

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/internal/redacted"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/worker"
	"github.com/sojourn-go/sojourn/session"
)

// placeholder makes what embeds it print as a placeholder.
type placeholder = redacted.Value

// Store is a session.Store in memory. It has the optional interfaces Clock,
// DataLimiter, Putter, Lister, Clearer, UserIndex, Pruner, Explainer and Statser.
// All methods may be called concurrently.
type Store struct {
	placeholder
	opts   Options
	limits storekit.Limits
	table  *table
	prune  worker.Worker
	closed atomic.Bool
	stats  session.Stats // guarded by the table's lock
}

// New makes an empty store. Close it to stop its pruning.
func New(opts Options) (*Store, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	auto := opts.PruneInterval >= 0
	s := newStore(opts.withDefaults(), newTable())
	if auto {
		s.StartPruning()
	}
	return s, nil
}

func newStore(opts Options, t *table) *Store {
	limits := storekit.Limits{MaxData: opts.MaxData, MaxUser: opts.MaxUser, MostUser: max(opts.MaxUser, mostUser), Longest: opts.Longest}
	return &Store{opts: opts, limits: limits, table: t}
}

// mostUser is as in sqlitestore: the longest user that another setting can have
// allowed.
const mostUser = 1 << 16

// Close implements session.Store.
func (s *Store) Close(ctx context.Context) error {
	s.closed.Store(true)
	err := s.prune.Close(ctx)
	if err == nil {
		err = s.table.acquire(ctx) // behind the last write under way
	}
	if err != nil {
		return wrap("close", err)
	}
	s.table.release()
	return nil
}

// Now implements session.Clock.
func (s *Store) Now() time.Time { return storekit.Exact(s.opts.Now()) }

// Longest implements session.Clock.
func (s *Store) Longest() time.Duration { return s.opts.Longest }

// Stats implements session.Statser.
func (s *Store) Stats() session.Stats {
	_ = s.table.acquire(context.Background()) // which does not end
	defer s.table.release()
	return s.stats
}

// read runs f with the table locked.
func (s *Store) read(ctx context.Context, op string, f func(now time.Time) error) error {
	if err := ctx.Err(); err != nil {
		return wrap(op, err)
	}
	if err := s.table.acquire(ctx); err != nil {
		return wrap(op, err)
	}
	defer s.table.release()
	if s.closed.Load() {
		return wrap(op, session.ErrClosed)
	}
	// The time is read under the lock: the wait may have outlasted a session.
	return wrap(op, f(s.Now()))
}

// write is read for an f that changes sessions or says why not.
func (s *Store) write(ctx context.Context, op string, f func(now time.Time) error) error {
	return s.read(ctx, op, func(now time.Time) error {
		err := f(now)
		if err != nil {
			s.stats.Refused++
		}
		return err
	})
}

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("memstore: %s: %w", op, err)
}

// MaxData implements session.DataLimiter.
func (s *Store) MaxData() int { return s.limits.MaxData }

// Get implements session.Store.
func (s *Store) Get(ctx context.Context, key session.Key) (rec session.Record, err error) {
	err = s.read(ctx, "get", func(now time.Time) error {
		s.stats.Gets++
		asked := s.table.find(key)
		r := asked
		for r != nil && r.inGrace(now) {
			r = r.successor
		}
		if r == nil || !r.live(now) {
			return session.NotFound(asked.fate(now))
		}
		rec = r.rec
		if r == asked {
			rec.Key = key
		}
		return nil
	})
	return rec, err
}

// Fate implements session.Explainer.
func (s *Store) Fate(ctx context.Context, key session.Key) (fate session.Fate, err error) {
	err = s.read(ctx, "fate", func(now time.Time) error {
		s.stats.Gets++
		fate = s.table.find(key).fate(now)
		return nil
	})
	return fate, err
}

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, rec session.Record) (session.Record, error) {
	rec, _, err := s.create(ctx, rec, session.UserLimit{})
	return rec, err
}

// Save implements session.Store.
func (s *Store) Save(ctx context.Context, rec session.Record) (out session.Record, err error) {
	err = s.write(ctx, "save", func(now time.Time) error {
		if err := s.limits.Saved(rec); err != nil {
			return err
		}
		r, err := s.table.writable(rec.Key, now)
		switch {
		case err != nil:
			return err
		case r.rec.Version != rec.Version:
			return session.ErrConflict
		case r.rec.User != rec.User:
			return session.ErrUserChanged
		}
		out = s.replace(r, rec, now)
		return nil
	})
	return out, err
}

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, key session.Key, expires time.Time) (inForce time.Time, err error) {
	err = s.write(ctx, "touch", func(now time.Time) error {
		if err := storekit.Key("the key", key); err != nil {
			return err
		}
		r, err := s.table.writable(key, now)
		if err != nil {
			return session.ErrNotFound // also in the grace period of a renewal
		}
		if expires = storekit.Earlier(storekit.Exact(expires), r.rec.Deadline); expires.After(r.rec.Expires) {
			r.rec.Expires = expires
		}
		inForce = r.rec.Expires
		s.stats.Touches++
		return nil
	})
	return inForce, err
}

// Renew implements session.Store.
func (s *Store) Renew(ctx context.Context, old session.Key, rec session.Record, grace time.Duration) (session.Record, error) {
	rec, _, err := s.renew(ctx, old, rec, grace, session.UserLimit{})
	return rec, err
}

// Destroy implements session.Store.
func (s *Store) Destroy(ctx context.Context, keys ...session.Key) (n int64, err error) {
	err = s.write(ctx, "destroy", func(now time.Time) error {
		for _, key := range keys {
			if err := storekit.Key("a key", key); err != nil {
				return err
			}
		}
		for _, key := range keys {
			if r := s.table.head(key); r != nil {
				n += s.end(now, r)
			}
		}
		return nil
	})
	return n, err
}
