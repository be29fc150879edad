package spystore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// missing is for what the store behind has not got.
func missing(name string) error {
	return fmt.Errorf("spystore: the store is no %s: %w", name, errors.ErrUnsupported)
}

func users[T any](ctx context.Context, s *Store, c Call, f func(session.UserIndex) (T, error)) (T, error) {
	return call(ctx, s, c, func() (T, error) {
		index, ok := s.Store.(session.UserIndex)
		if !ok {
			var zero T
			return zero, missing("UserIndex")
		}
		return f(index)
	})
}

// ListUser implements session.UserIndex.
func (s *Store) ListUser(ctx context.Context, user string, after session.Record, most int) ([]session.Record, error) {
	return users(ctx, s, ListUser, func(x session.UserIndex) ([]session.Record, error) { return x.ListUser(ctx, user, after, most) })
}

// CountUser implements session.UserIndex.
func (s *Store) CountUser(ctx context.Context, user string) (int64, error) {
	return users(ctx, s, CountUser, func(x session.UserIndex) (int64, error) { return x.CountUser(ctx, user) })
}

// DestroyUser implements session.UserIndex.
func (s *Store) DestroyUser(ctx context.Context, user string, except ...session.Key) (int64, error) {
	return users(ctx, s, DestroyUser, func(x session.UserIndex) (int64, error) { return x.DestroyUser(ctx, user, except...) })
}

// limited is the result of a write under a limit.
type limited struct {
	rec     session.Record
	evicted []session.Key
}

// CreateLimited implements session.UserIndex.
func (s *Store) CreateLimited(ctx context.Context, rec session.Record, limit session.UserLimit) (session.Record, []session.Key, error) {
	out, err := users(ctx, s, CreateLimited, func(x session.UserIndex) (out limited, err error) {
		out.rec, out.evicted, err = x.CreateLimited(ctx, rec, limit)
		return out, err
	})
	return out.rec, out.evicted, err
}

// RenewLimited implements session.UserIndex.
func (s *Store) RenewLimited(ctx context.Context, old session.Key, rec session.Record, grace time.Duration, limit session.UserLimit) (session.Record, []session.Key, error) {
	out, err := users(ctx, s, RenewLimited, func(x session.UserIndex) (out limited, err error) {
		out.rec, out.evicted, err = x.RenewLimited(ctx, old, rec, grace, limit)
		return out, err
	})
	return out.rec, out.evicted, err
}

// Len implements session.Lister.
func (s *Store) Len(ctx context.Context) (int64, error) {
	return call(ctx, s, Len, func() (int64, error) {
		l, ok := s.Store.(session.Lister)
		if !ok {
			return 0, missing("Lister")
		}
		return l.Len(ctx)
	})
}

// Keys implements session.Lister.
func (s *Store) Keys(ctx context.Context) iter.Seq2[session.Key, error] {
	return listed(ctx, s, Keys, func(l session.Lister) iter.Seq2[session.Key, error] { return l.Keys(ctx) })
}

// All implements session.Lister.
func (s *Store) All(ctx context.Context) iter.Seq2[session.Record, error] {
	return listed(ctx, s, All, func(l session.Lister) iter.Seq2[session.Record, error] { return l.All(ctx) })
}

// listed is a listing as one call.
func listed[T any](ctx context.Context, s *Store, c Call, list func(session.Lister) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		stopped := false
		_, err := call(ctx, s, c, func() (struct{}, error) {
			l, ok := s.Store.(session.Lister)
			if !ok {
				return struct{}{}, missing("Lister")
			}
			for v, err := range list(l) {
				if stopped = !yield(v, err); stopped {
					break
				}
			}
			return struct{}{}, nil
		})
		if err != nil && !stopped {
			var zero T
			yield(zero, err)
		}
	}
}
