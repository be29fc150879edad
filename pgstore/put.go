package pgstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// Put implements session.Putter.
//
// A key without a bucket could be in any partition, so Put takes a lock on the
// key and looks at all of them. It is slower than Create and Save.
func (s *Store) Put(ctx context.Context, rec session.Record) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, wrap("put", err)
	}
	out, err := s.putForeign(ctx, rec, true)
	if errors.Is(s.correct(ctx, err), session.ErrDeadline) && !errors.Is(err, batch.ErrLags) { // by what this node knew of the time
		out, err = s.putForeign(ctx, rec, true)
	}
	if err != nil {
		return session.Record{}, wrap("put", err)
	}
	s.stats.saves.Add(1)
	return out, nil
}

// putForeign creates the session of a key that may be in any partition, or
// replaces the data of the one that is there.
func (s *Store) putForeign(ctx context.Context, rec session.Record, replace bool) (session.Record, error) {
	none := session.Record{}
	if err := s.limits().Content(rec); err != nil {
		return none, err
	}
	rec.Version = storekit.Step() // also of a new one, from 0
	rec.Data = bytes.Clone(notNull(rec.Data))
	if !rec.Expires.IsZero() {
		rec.Expires = storekit.Expiry(rec.Expires)
	}
	if rec.Deadline.IsZero() {
		rec.Deadline = s.limits().PutDeadline(rec.Key, s.Now())
	}
	bucket := session.BucketOf(rec.Deadline)
	if rec.Key.Bucket != 0 {
		if err := s.table.Reach(ctx, rec.Key.Bucket); isNotFound(err) { // it can only be a new one
			if _, err := s.limits().New(putRecord(rec), s.Now()); err != nil {
				return none, s.refused(err)
			}
		} else if err != nil {
			return none, err
		}
		bucket = rec.Key.Bucket
	} else if err := s.markForeign(ctx); err != nil {
		return none, err
	}

	w := s.cache.Begin(rec.Key)
	defer w.End()
	var out session.Record
	attempt := func(ctx context.Context, r db.Road) error {
		return r.Begin(ctx, func(ctx context.Context, tx *db.Transaction) error {
			var err error
			out, err = s.putLocked(ctx, tx, rec, bucket, replace)
			if replace {
				tx.Notify(s.cache.Sender().Keys(rec.Key)...)
			}
			return err
		})
	}
	// Replacing again gives the same result, except for writes that came in
	// between.
	var landed func(context.Context) (bool, error)
	if !replace {
		landed = func(ctx context.Context) (bool, error) {
			out = rec
			return s.writes.Created(ctx, session.Key{Hash: rec.Key.Hash, Bucket: bucket}, &out)
		}
	}
	if err := s.table.In(ctx, bucket, func() error { return s.writes.UntilKnown(ctx, s.app, rec.Key, attempt, landed) }); err != nil {
		return none, s.refused(err)
	}
	return out, nil
}

// putRecord is what Put makes of rec where there is no session.
func putRecord(rec session.Record) session.Record {
	if rec.Expires.After(rec.Deadline) {
		rec.Expires = time.Time{} // the deadline, as it is kept
	}
	return rec
}

func (s *Store) putLocked(ctx context.Context, tx pgx.Tx, rec session.Record, bucket int32, replace bool) (session.Record, error) {
	none := session.Record{}
	if _, err := tx.Exec(ctx, batch.WaitForStripes, s.lockClass, []int32{batch.StripeOf(rec.User)}); err != nil {
		return none, err
	}
	rows, err := s.lockKeyRows(ctx, tx, rec.Key)
	if err != nil {
		return none, err
	}
	if len(rows) > 0 && !replace {
		return none, session.ErrExists
	}
	for _, row := range rows {
		if !row.live {
			return none, session.ErrNotFound // any dead one wins
		}
	}
	out := rec
	var written pgx.Row
	switch {
	case len(rows) == 0:
		// Create checks more, which counts for a new session only.
		if replace {
			rec = putRecord(rec)
		}
		if out, err = s.limits().New(rec, s.Now()); err != nil {
			return none, err
		}
		written = tx.QueryRow(ctx, s.parent.putInsert, out.Key.Hash[:], bucket, out.Expires, out.Deadline,
			db.NullText(out.User), out.Data, (s.table.Known.Load().Longest + storekit.ClockSlack).Seconds(), out.Version)
	case rec.User != "" && rec.User != rows[0].user:
		return none, session.ErrUserChanged
	default:
		out.User = rows[0].user
		if !rec.Expires.IsZero() {
			ended, err := s.endIfPast(ctx, tx, &out, rows[0].bucket)
			if ended || err != nil {
				return out, err
			}
		}
		written = tx.QueryRow(ctx, s.parent.putUpdate, out.Key.Hash[:], rows[0].bucket, out.Data, db.NullTime(rec.Expires), rec.Version)
	}
	err = written.Scan(&out.Version, &out.Expires, &out.Deadline, &out.Created)
	switch {
	case errors.Is(err, pgx.ErrNoRows) && len(rows) == 0:
		return none, fmt.Errorf("%w: Record.Expires has passed or Record.Deadline is beyond the longest lifetime", session.ErrDeadline)
	case errors.Is(err, pgx.ErrNoRows):
		return none, session.ErrNotFound // it expired while we looked
	case err != nil:
		return none, err
	}
	out.Expires, out.Deadline, out.Created = out.Expires.UTC(), out.Deadline.UTC(), out.Created.UTC()
	return out, nil
}

// endIfPast ends the session if the expiry that was asked for has passed.
func (s *Store) endIfPast(ctx context.Context, tx pgx.Tx, out *session.Record, bucket int32) (bool, error) {
	ends := !out.Expires.After(s.Now().Add(storekit.ClockError))
	err := tx.QueryRow(ctx, s.parent.putEnd, out.Key.Hash[:], bucket, out.Expires, out.Version).Scan(&out.Version, &out.Deadline, &out.Created)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err == nil && !ends: // rolled back
		return false, batch.ErrLags
	}
	out.Deadline, out.Created = out.Deadline.UTC(), out.Created.UTC()
	return err == nil, err
}

type keyRow struct {
	bucket int32
	user   string
	live   bool
}

// lockKeyRows takes the lock on a key, which keeps it from being in two
// partitions, and then every row of it.
func (s *Store) lockKeyRows(ctx context.Context, tx pgx.Tx, key session.Key) ([]keyRow, error) {
	if _, err := tx.Exec(ctx, takeKey, int64(binary.BigEndian.Uint64(key.Hash[:]))^s.keyLock); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, s.parent.putLock, key.Hash[:])
	if err != nil {
		return nil, err
	}
	var out []keyRow
	var r keyRow
	var user zeronull.Text
	_, err = pgx.ForEachRow(rows, []any{&r.bucket, &user, &r.live}, func() error {
		r.user = string(user)
		out = append(out, r)
		return nil
	})
	return out, err
}

// claimForeign locks a key without a bucket that is to be created in tx.
func (s *Store) claimForeign(ctx context.Context, tx pgx.Tx, key session.Key) error {
	rows, err := s.lockKeyRows(ctx, tx, key)
	if err == nil && len(rows) > 0 {
		err = session.ErrExists
	}
	return err
}

// markForeign notes for all nodes that keys without a bucket are in use.
func (s *Store) markForeign(ctx context.Context) error {
	if s.table.Known.Load().Foreign {
		return nil
	}
	// Passes and other nodes write the same row.
	err := s.writes.UntilKnown(ctx, s.control, nil, func(ctx context.Context, r db.Road) error {
		b := r.NewBatch(ctx)
		b.Queue(s.parent.markForeign)
		return r.Send(ctx, b)
	}, nil)
	if err != nil {
		return fmt.Errorf("note that keys without a bucket are in use: %w", err)
	}
	_, err = s.table.Refresh(ctx)
	return err
}
