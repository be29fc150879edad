package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// Renew implements session.Store.
func (s *Store) Renew(ctx context.Context, old session.Key, rec session.Record, grace time.Duration) (session.Record, error) {
	rec, _, err := s.renew(ctx, old, rec, grace, session.UserLimit{})
	return rec, wrap("renew", err)
}

// RenewLimited implements session.UserIndex.
func (s *Store) RenewLimited(ctx context.Context, old session.Key, rec session.Record, grace time.Duration, limit session.UserLimit) (session.Record, []session.Key, error) {
	if err := s.limits().UserLimit(rec.User, limit); err != nil {
		return session.Record{}, nil, wrap("renew", err)
	}
	made, evicted, err := s.withRoom(ctx, rec.User, limit, old, func() (session.Record, []session.Key, error) {
		return s.renew(ctx, old, rec, grace, limit)
	})
	return made, evicted, wrap("renew", err)
}

func (s *Store) renew(ctx context.Context, old session.Key, rec session.Record, grace time.Duration, limit session.UserLimit) (session.Record, []session.Key, error) {
	none := session.Record{}
	if err := s.begun(ctx); err != nil {
		return none, nil, err
	}
	if err := storekit.Grace(grace); err != nil {
		return none, nil, err
	}
	version := rec.Version
	rec, err := s.newRecord(ctx, rec, s.limits().ReplacingAny)
	if err != nil {
		return none, nil, err
	}
	rec.Data = bytes.Clone(rec.Data) // what is kept in memory must not change
	rec.Version = storekit.Version(version)
	oldAt, err := s.locateToWrite(ctx, s.app, old)
	if err != nil {
		return none, nil, s.refused(err)
	}
	at := session.Key{Hash: rec.Key.Hash, Bucket: session.BucketOf(rec.Deadline)}
	if at == oldAt {
		return none, nil, session.ErrExists
	}
	if rec.Key.Bucket == 0 {
		if err := s.markForeign(ctx); err != nil {
			return none, nil, err
		}
	}

	var evicted []session.Key
	w := s.cache.Begin(oldAt)
	defer w.End()
	var ran db.ServerTime
	ticket := s.cache.Reserve(at)
	attempt := func(ctx context.Context, road db.Road) error {
		ran = db.ServerTime{}
		r := &renewal{old: oldAt, at: at, version: version, rec: &rec, grace: grace}
		if limit.Max == 0 && rec.Key.Bucket != 0 { // one round trip
			b := road.NewNotifyingBatch(ctx, s.cache.Sender().Keys(oldAt)...)
			b.Queue(batch.WaitForStripes, s.lockClass, []int32{batch.StripeOf(rec.User)})
			s.queueRenewal(&b.Batch, r)
			if err := road.Send(ctx, b); err != nil {
				return err
			}
			ran = r.ran
			return r.verdict()
		}
		var ended []session.Key
		err := road.Begin(ctx, func(ctx context.Context, tx *db.Transaction) error {
			tx.Notify(s.cache.Sender().Keys(oldAt)...)
			var err error
			if ended, err = s.makeRoom(ctx, tx, w, rec.User, limit, oldAt); err != nil {
				return err
			}
			if rec.Key.Bucket == 0 {
				if err := s.claimForeign(ctx, tx, rec.Key); err != nil {
					return err
				}
			}
			b := &pgx.Batch{}
			s.queueRenewal(b, r)
			if err := tx.SendBatch(ctx, b).Close(); err != nil {
				return err
			}
			return r.verdict()
		})
		if err == nil || db.OutcomeOf(err) == db.TxOpen {
			evicted = ended
		}
		return err
	}
	landed := func(ctx context.Context) (bool, error) {
		was, err := s.writes.Look(ctx, oldAt)
		if err != nil || was.Next != at {
			return false, err
		}
		// The new key tells, whatever came after the renewal: nobody else knows
		// it.
		made, err := s.writes.Look(ctx, at)
		if err == nil && made.Version == 0 {
			return false, session.ErrUnknown
		}
		rec.Created = made.Created
		return err == nil, err
	}
	var same any = oldAt
	if limit.Max > 0 {
		same = batch.StripeOf(rec.User)
	}
	err = s.table.In(ctx, at.Bucket, func() error { return s.writes.UntilKnown(ctx, s.app, same, attempt, landed) })
	if err != nil {
		if db.IsCode(err, "23505") { // unique_violation: the new key
			err = errors.Join(session.ErrExists, err)
		}
		return none, nil, s.correct(ctx, s.refused(err))
	}
	if ran != (db.ServerTime{}) {
		s.cache.Fill(ticket, written(ticket.Server(), rec, ran))
	}
	s.stats.renews.Add(1)
	return rec, evicted, nil
}

// renewal is a transaction that replaces one session by another, and what came
// of it.
type renewal struct {
	old, at session.Key
	version int64
	rec     *session.Record
	grace   time.Duration
	longest time.Duration

	was  batch.State
	made bool
	ran  db.ServerTime // from after the write
}

// queueRenewal adds the statements. The user's stripe is locked before them, so
// that every transaction locks rows second.
func (s *Store) queueRenewal(b *pgx.Batch, r *renewal) {
	r.longest = s.table.Known.Load().Longest + storekit.ClockSlack
	b.Queue(batch.LookOld(s.names.Sessions)+` FOR UPDATE`, r.old.Hash[:], r.old.Bucket).QueryRow(func(row pgx.Row) (err error) {
		r.was, err = batch.ScanState(row)
		return err
	})
	rec := r.rec
	b.Queue(s.parent.renew,
		r.old.Hash[:], r.old.Bucket, r.at.Hash[:], r.at.Bucket, rec.Expires, rec.Deadline, db.NullText(rec.User), rec.Data,
		r.version, r.longest.Seconds(), r.grace.Seconds(), rec.Version,
	).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&rec.Version, &rec.Expires, &rec.Deadline, &rec.Created}, func() error {
			rec.Expires, rec.Deadline, rec.Created = rec.Expires.UTC(), rec.Deadline.UTC(), rec.Created.UTC()
			r.made = true
			return nil
		})
		return err
	})
	b.Queue(db.DatabaseTime).QueryRow(func(row pgx.Row) error { return row.Scan(&r.ran.Server, &r.ran.Clock) })
}

// verdict says why nothing was made, if nothing was.
func (r *renewal) verdict() error {
	switch {
	case r.made:
		return nil
	case !r.was.Live && r.was.InGrace:
		return db.NotDone(session.ErrConflict)
	case !r.was.Live:
		return db.NotDone(session.ErrNotFound)
	case r.was.Version != r.version:
		return db.NotDone(session.ErrConflict)
	case !r.rec.Expires.After(r.ran.Clock), r.rec.Deadline.After(r.ran.Clock.Add(r.longest)):
		return db.NotDone(fmt.Errorf("%w: Record.Expires has passed or Record.Deadline is beyond the longest lifetime", session.ErrDeadline))
	}
	return db.NotDone(session.ErrNotFound) // the old one expired while we looked
}
