package pgstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// A transaction that creates or renews a session of a user holds the lock on
// the user's stripe, shared, until it is committed. A transaction that holds
// the stripe alone therefore sees all sessions of the user, and none can be
// added.

// ListUser implements session.UserIndex. The index has a user's sessions in order, so
// that a page reads no more than itself.
func (s *Store) ListUser(ctx context.Context, user string, after session.Record, most int) ([]session.Record, error) {
	if err := cmp.Or(s.begun(ctx), s.limits().Page(user, most)); err != nil {
		return nil, wrap("list user", err)
	}
	var out []session.Record
	err := s.app.Query(ctx, func(rows pgx.Rows) (err error) {
		out, err = pgx.CollectRows(rows, scanSession)
		return err
	}, s.parent.userList, user, after.Created, after.Key.Hash[:], most)
	return out, wrap("list user", err)
}

// CountUser implements session.UserIndex.
func (s *Store) CountUser(ctx context.Context, user string) (int64, error) {
	if err := s.begunForUser(ctx, user); err != nil {
		return 0, wrap("count user", err)
	}
	var n int64
	err := s.app.QueryRow(ctx, func(row pgx.Row) error { return row.Scan(&n) }, s.parent.userCount, user)
	return n, wrap("count user", err)
}

const endBatch = 1000

// DestroyUser implements session.UserIndex. It ends sessions in transactions of
// up to 1,000; logins of the user wait for the one under way.
func (s *Store) DestroyUser(ctx context.Context, user string, except ...session.Key) (int64, error) {
	if err := s.begunForUser(ctx, user); err != nil {
		return 0, wrap("destroy user", err)
	}
	except, err := s.locateAll(ctx, except)
	if err != nil {
		return 0, wrap("destroy user", err)
	}
	w := s.cache.BeginUser(user)
	defer w.End()
	var total int64
	for {
		var rows, live int64
		err := s.writes.UntilKnown(ctx, s.control, batch.StripeOf(user), func(ctx context.Context, r db.Road) error {
			var err error
			rows, live, err = s.endUserBatch(ctx, r, user, except)
			return err
		}, nil) // doing it again does no harm
		if err != nil {
			return total, wrap("destroy user", err)
		}
		total += live
		if rows == 0 {
			s.stats.destroys.Add(uint64(total))
			return total, nil
		}
	}
}

// locateAll returns the keys with the buckets of their rows, without those that
// have none.
func (s *Store) locateAll(ctx context.Context, keys []session.Key) ([]session.Key, error) {
	var located []session.Key
	for _, key := range keys {
		at, err := s.locate(ctx, s.control, key)
		switch {
		case err == nil:
			located = append(located, at)
		case !isNotFound(err):
			return nil, err
		}
	}
	return located, nil
}

func (s *Store) endUserBatch(ctx context.Context, r db.Road, user string, except []session.Key) (rows, live int64, err error) {
	stripe := batch.StripeOf(user)
	spared, buckets := arraysOf(except)
	b := r.NewNotifyingBatch(ctx, s.cache.Sender().User(user))
	b.Queue(batch.TakeStripes, s.lockClass, stripe, stripe)
	b.Queue(s.parent.userEnd, user, endBatch, spared, buckets).Query(func(found pgx.Rows) error {
		var wasLive bool
		_, err := pgx.ForEachRow(found, []any{&wasLive}, func() error {
			rows++
			if wasLive {
				live++
			}
			return nil
		})
		return err
	})
	err = r.Send(ctx, b)
	return rows, live, err
}

// CreateLimited implements session.UserIndex.
func (s *Store) CreateLimited(ctx context.Context, rec session.Record, limit session.UserLimit) (session.Record, []session.Key, error) {
	if err := s.limits().UserLimit(rec.User, limit); err != nil {
		return session.Record{}, nil, wrap("create", err)
	}
	if limit.Max == 0 {
		rec, err := s.Create(ctx, rec)
		return rec, nil, err
	}
	made, evicted, err := s.withRoom(ctx, rec.User, limit, session.Key{}, func() (session.Record, []session.Key, error) {
		return s.createLimited(ctx, rec, limit)
	})
	return made, evicted, wrap("create", err)
}

func (s *Store) createLimited(ctx context.Context, rec session.Record, limit session.UserLimit) (session.Record, []session.Key, error) {
	none := session.Record{}
	if err := s.begun(ctx); err != nil {
		return none, nil, err
	}
	rec, err := s.newRecord(ctx, rec, s.limits)
	if err != nil {
		return none, nil, err
	}
	rec.Data = bytes.Clone(rec.Data)
	rec.Version = storekit.Version(0)
	bucket := session.BucketOf(rec.Deadline)
	if rec.Key.Bucket == 0 {
		if err := s.markForeign(ctx); err != nil {
			return none, nil, err
		}
	}
	var out session.Record
	var evicted []session.Key
	w := s.cache.Begin()
	defer w.End()
	attempt := func(ctx context.Context, r db.Road) error {
		var ended []session.Key
		err := r.Begin(ctx, func(ctx context.Context, tx *db.Transaction) error {
			var err error
			if ended, err = s.makeRoom(ctx, tx, w, rec.User, limit, session.Key{}); err != nil {
				return err
			}
			out, err = s.putLocked(ctx, tx, rec, bucket, false)
			return err
		})
		if err == nil || db.OutcomeOf(err) == db.TxOpen {
			evicted = ended
		}
		return err
	}
	landed := func(ctx context.Context) (bool, error) {
		out = rec
		return s.writes.Created(ctx, session.Key{Hash: rec.Key.Hash, Bucket: bucket}, &out)
	}
	if err := s.table.In(ctx, bucket, func() error { return s.writes.UntilKnown(ctx, s.app, batch.StripeOf(rec.User), attempt, landed) }); err != nil {
		return none, nil, s.correct(ctx, s.refused(err))
	}
	s.stats.creates.Add(1)
	return out, evicted, nil
}

// makeRoom locks the user's stripe, alone if there is a limit, and makes room
// for one more session. It adds to w what it ends.
func (s *Store) makeRoom(ctx context.Context, tx *db.Transaction, w *invalidation.Write, user string, limit session.UserLimit, replaced session.Key) ([]session.Key, error) {
	stripe := batch.StripeOf(user)
	if limit.Max == 0 {
		_, err := tx.Exec(ctx, batch.WaitForStripes, s.lockClass, []int32{stripe})
		return nil, err
	}
	var live []session.Key
	b := &pgx.Batch{}
	b.Queue(batch.TakeStripes, s.lockClass, stripe, stripe)
	b.Queue(s.parent.userLive, user, replaced.Hash[:], replaced.Bucket).Query(func(rows pgx.Rows) (err error) {
		live, err = pgx.CollectRows(rows, scanKey)
		return err
	})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	over := len(live) + 1 - limit.Max
	switch {
	case over <= 0:
		return nil, nil
	case !limit.Evict:
		return nil, session.ErrUserLimit
	case over > endBatch:
		return nil, errCrowded
	}
	evicted := live[:over]
	w.Add(evicted...)
	tx.Notify(s.cache.Sender().Keys(evicted...)...)
	hashes, buckets := arraysOf(evicted)
	_, err := tx.Exec(ctx, s.parent.end, hashes, buckets)
	return evicted, err
}

// errCrowded is why a transaction does not make room: it would take too long.
var errCrowded = errors.New("the user has far more sessions than the limit allows")

// withRoom runs write, which makes room by itself unless the user has far too
// many sessions, as after a limit was introduced. Then withRoom ends them
// before write, in steps.
func (s *Store) withRoom(ctx context.Context, user string, limit session.UserLimit, replaced session.Key, write func() (session.Record, []session.Key, error)) (session.Record, []session.Key, error) {
	var evicted []session.Key
	for {
		rec, more, err := write()
		if err == nil {
			return rec, append(evicted, more...), nil
		}
		if !errors.Is(err, errCrowded) {
			return session.Record{}, nil, err
		}
		var live []session.Key
		err = s.app.Query(ctx, func(rows pgx.Rows) (err error) {
			live, err = pgx.CollectRows(rows, scanKey)
			return err
		}, s.parent.userLive, user, []byte{}, 0)
		if err != nil {
			return session.Record{}, nil, err
		}
		live = slices.DeleteFunc(live, func(key session.Key) bool { return key.Hash == replaced.Hash })
		for step := range slices.Chunk(live[:max(0, len(live)-limit.Max)], endBatch) {
			if _, err := s.Destroy(ctx, step...); err != nil {
				return session.Record{}, nil, err
			}
			evicted = append(evicted, step...)
		}
	}
}

func (s *Store) begunForUser(ctx context.Context, user string) error {
	return cmp.Or(s.begun(ctx), s.limits().User("user", user))
}
