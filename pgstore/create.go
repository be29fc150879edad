package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, rec session.Record) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, wrap("create", err)
	}
	rec, err := s.newRecord(ctx, rec, s.limits)
	if err != nil {
		return session.Record{}, wrap("create", err)
	}
	if rec.Key.Bucket == 0 {
		rec, err = s.putForeign(ctx, rec, false)
		return rec, wrap("create", s.correct(ctx, err))
	}
	rec.Version = storekit.Version(0)
	var o *op
	err = s.table.In(ctx, rec.Key.Bucket, func() error {
		o = &op{key: rec.Key, rec: rec}
		t := s.cache.Reserve(rec.Key)
		o.After = func(err error) {
			if err == nil {
				s.cache.Fill(t, written(t.Server(), o.rec, o.ran))
			}
		}
		return s.creates.Do(ctx, o)
	})
	if err != nil {
		return session.Record{}, wrap("create", s.correct(ctx, s.refused(err)))
	}
	s.stats.creates.Add(1)
	return o.rec, nil
}

// newRecord checks the record of a new session for Create and Renew, and
// returns it as it is kept. It refuses a time only by a clock that it has read
// during the call.
func (s *Store) newRecord(ctx context.Context, rec session.Record, limits func() storekit.Limits) (session.Record, error) {
	rec.Data = notNull(rec.Data)
	made, err := limits().New(rec, s.Now())
	if !errors.Is(err, session.ErrDeadline) || rec.Deadline.IsZero() {
		return made, err
	}
	if _, err := s.table.Refresh(ctx); err != nil {
		return rec, err
	}
	return limits().New(rec, s.Now())
}

func (s *Store) flushCreates(ctx context.Context, ops []*op, mode flushMode) ([]*op, error) {
	type row struct{ expires, deadline, created time.Time }
	made := make(map[session.Key]row, len(ops))
	busy := map[int32]bool{}
	var now time.Time

	before := s.Now()
	longest := (s.table.Known.Load().Longest + storekit.ClockSlack).Seconds()
	stripes := column(ops, func(o *op) int32 { return stripeOf(o.rec.User) })
	slices.Sort(stripes)
	stripes = slices.Compact(stripes)

	b := mode.road.NewBatch(ctx)
	switch mode.patience {
	case waitLocked:
		b.Queue(waitForStripes, s.lockClass, stripes)
	case skipLocked:
		b.Queue(busyStripes, s.lockClass, stripes).Query(func(rows pgx.Rows) error {
			var stripe int32
			_, err := pgx.ForEachRow(rows, []any{&stripe}, func() error { busy[stripe] = true; return nil })
			return err
		})
	}
	for _, sp := range s.spans(ops, mode) {
		b.Queue(sp.q.create, hashes(sp.ops), buckets(sp.ops),
			column(sp.ops, func(o *op) time.Time { return o.rec.Expires }),
			column(sp.ops, func(o *op) time.Time { return o.rec.Deadline }),
			column(sp.ops, func(o *op) *string { return nullText(o.rec.User) }),
			column(sp.ops, func(o *op) []byte { return o.rec.Data }),
			column(sp.ops, func(o *op) int32 { return stripeOf(o.rec.User) }),
			longest, s.lockClass,
			column(sp.ops, func(o *op) int64 { return o.rec.Version }),
		).Query(func(rows pgx.Rows) error {
			var hash []byte
			var bucket int32
			var r row
			_, err := pgx.ForEachRow(rows, []any{&hash, &bucket, &r.expires, &r.deadline, &r.created}, func() error {
				made[session.Key{Hash: [32]byte(hash), Bucket: bucket}] = r
				return nil
			})
			return err
		})
	}
	if mode.patience != optimistic {
		b.Queue(db.DatabaseTime).QueryRow(func(row pgx.Row) error { return row.Scan(nil, &now) })
	}
	if err := mode.road.Send(ctx, b); err != nil {
		return nil, err
	}
	s.stats.flushes.Add(1)
	s.table.Compare(before, b.Began.Clock)

	var held []*op
	for _, o := range ops {
		r, ok := made[o.key]
		switch {
		case ok:
			o.rec.Expires, o.rec.Deadline, o.rec.Created = r.expires.UTC(), r.deadline.UTC(), r.created.UTC()
			o.ran = b.Began
			s.creates.Finish(o, nil)
		case mode.patience == optimistic:
			held = append(held, o)
		case o.lost == nil && !o.rec.Expires.After(now):
			s.creates.Finish(o, fmt.Errorf("%w: Record.Expires has passed", session.ErrDeadline))
		case o.lost == nil && o.rec.Deadline.After(now.Add(time.Duration(longest*float64(time.Second)))):
			s.creates.Finish(o, fmt.Errorf("%w: Record.Deadline is beyond the longest lifetime", session.ErrDeadline))
		case busy[stripeOf(o.rec.User)]:
			held = append(held, o)
		case o.lost != nil:
			s.creates.Finish(o, s.createdAfterAll(ctx, o))
		default:
			s.creates.Finish(o, session.ErrExists)
		}
	}
	return held, nil
}

// createdAfterAll decides about a create whose first answer was lost.
func (s *Store) createdAfterAll(ctx context.Context, o *op) error {
	switch did, err := s.created(ctx, o.key, &o.rec); {
	case did:
		return nil
	case err != nil:
		return s.outcomeOpen(ctx, o.lost, err)
	}
	return session.ErrExists
}

// created reports whether rec was created at that key, and completes it. The
// version tells, whatever came after the creation. The error is ErrUnknown if
// there is a later version, which may have come after it.
func (s *Store) created(ctx context.Context, at session.Key, rec *session.Record) (bool, error) {
	was, err := s.lookOld(ctx, at)
	switch {
	case err != nil:
		return false, err
	case was.version > rec.Version:
		return false, session.ErrUnknown
	case was.version < rec.Version: // also where there is none
		return false, nil
	}
	rec.Created = was.created
	return true, nil
}
