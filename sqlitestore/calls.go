package sqlitestore

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Get implements session.Store.
func (s *Store) Get(ctx context.Context, key session.Key) (session.Record, error) {
	return s.engine.Get(ctx, key)
}

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, rec session.Record) (session.Record, error) {
	return s.engine.Create(ctx, rec)
}

// Save implements session.Store.
func (s *Store) Save(ctx context.Context, rec session.Record) (session.Record, error) {
	return s.engine.Save(ctx, rec)
}

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	return s.engine.Touch(ctx, key, expires)
}

// Renew implements session.Store.
func (s *Store) Renew(ctx context.Context, old session.Key, rec session.Record, grace time.Duration) (session.Record, error) {
	return s.engine.Renew(ctx, old, rec, grace)
}

// Destroy implements session.Store. It ends sessions in transactions of up to
// 1,000. When it fails, it returns how many it had ended before.
func (s *Store) Destroy(ctx context.Context, keys ...session.Key) (int64, error) {
	return s.engine.Destroy(ctx, keys...)
}

// Put implements session.Putter. When the answer to a commit was lost, it is
// written again, with another version.
func (s *Store) Put(ctx context.Context, rec session.Record) (session.Record, error) {
	return s.engine.Put(ctx, rec)
}

// CreateLimited implements session.UserIndex.
func (s *Store) CreateLimited(ctx context.Context, rec session.Record, limit session.UserLimit) (session.Record, []session.Key, error) {
	return s.engine.CreateLimited(ctx, rec, limit)
}

// RenewLimited implements session.UserIndex.
func (s *Store) RenewLimited(ctx context.Context, old session.Key, rec session.Record, grace time.Duration, limit session.UserLimit) (session.Record, []session.Key, error) {
	return s.engine.RenewLimited(ctx, old, rec, grace, limit)
}

// ListUser implements session.UserIndex. Each page looks at the times of all sessions
// of the user.
func (s *Store) ListUser(ctx context.Context, user string, after session.Record, most int) ([]session.Record, error) {
	return s.engine.ListUser(ctx, user, after, most)
}

// CountUser implements session.UserIndex.
func (s *Store) CountUser(ctx context.Context, user string) (int64, error) {
	return s.engine.CountUser(ctx, user)
}

// DestroyUser implements session.UserIndex. It ends sessions in transactions of
// up to 500, so that other writes get in between; all together may take as long as
// ctx lasts.
func (s *Store) DestroyUser(ctx context.Context, user string, except ...session.Key) (int64, error) {
	return s.engine.DestroyUser(ctx, user, slices.Clone(except)...)
}

// Clear implements session.Clearer. It ends sessions in transactions of up to 500
// rows, so that other writes get in between; all together may take as long as ctx
// lasts.
func (s *Store) Clear(ctx context.Context) (int64, error) { return s.engine.Clear(ctx) }

// Len implements session.Lister. It reads the whole table.
func (s *Store) Len(ctx context.Context) (int64, error) { return s.engine.Len(ctx) }

// Keys implements session.Lister.
func (s *Store) Keys(ctx context.Context) iter.Seq2[session.Key, error] { return s.engine.Keys(ctx) }

// All implements session.Lister.
func (s *Store) All(ctx context.Context) iter.Seq2[session.Record, error] { return s.engine.All(ctx) }

// MaxData implements session.DataLimiter.
func (s *Store) MaxData() int { return s.opts.MaxData }

// Fate implements session.Explainer.
func (s *Store) Fate(ctx context.Context, key session.Key) (session.Fate, error) {
	return s.engine.Fate(ctx, key)
}

// Stats implements session.Statser.
func (s *Store) Stats() session.Stats {
	st := s.engine.Stats()
	st.Queue = s.writer.Queue.Stats()
	return st
}

// Close implements session.Store. It leaves a caller's *sql.DB open.
func (s *Store) Close(ctx context.Context) error { return s.engine.Close(ctx) }
