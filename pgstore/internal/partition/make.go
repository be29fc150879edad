package partition

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// Reach is ErrNotFound if no partition holds bucket, and so no session. Reach
// looks for a bucket among the partitions that exist if this node's list does
// not have it. Neither the clock nor the longest lifetime has a say: this node
// may know less of them than the node that made the session.
func (t *Table) Reach(ctx context.Context, bucket int32) error {
	f := t.Known.Load()
	if f.holds(bucket) {
		return nil
	}
	if absurd(bucket, f.Now()) && absurd(bucket, time.Now()) {
		return session.ErrNotFound
	}
	f, err := t.Refresh(ctx)
	if err != nil {
		return err
	}
	if !f.holds(bucket) {
		return session.ErrNotFound
	}
	return nil
}

// absurd reports whether bucket is further from now than any setting or clock
// can take a session.
func absurd(bucket int32, now time.Time) bool {
	const most = pgschema.MaxLifetime + 24*time.Hour
	return bucket < session.BucketOf(now.Add(-most)) || bucket > session.BucketOf(now.Add(most))
}

// In runs write, which adds a row of bucket. A partition that this node knew of
// may be gone: then it is made, and write runs again.
func (t *Table) In(ctx context.Context, bucket int32, write func() error) error {
	known := t.Find(bucket) != nil
	if err := t.need(ctx, bucket); err != nil {
		return err
	}
	err := write()
	if db.OutcomeOf(err) == db.TxNoPartition && known {
		if _, refreshErr := t.Refresh(ctx); refreshErr == nil && t.need(ctx, bucket) == nil {
			err = write()
		}
	}
	if db.OutcomeOf(err) == db.TxNoPartition && !errors.Is(err, session.ErrNoPartition) {
		err = fmt.Errorf("%w: %w", session.ErrNoPartition, err)
	}
	return err
}

// need makes the partition of bucket if this node knows of none. If it cannot,
// the write goes to the parent, which has the last word.
func (t *Table) need(ctx context.Context, bucket int32) error {
	if t.Find(bucket) != nil {
		return nil
	}
	_, err, _ := t.making.Do(fmt.Sprint(bucket), func() (any, error) {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.opts.WriteTimeout)
		defer cancel()
		if f, err := t.Refresh(call); err != nil || f.Find(bucket) != nil {
			return nil, err
		}
		if err := t.make(call, bucket); err != nil {
			t.opts.Failed("make a partition", err)
			return nil, nil
		}
		_, err := t.Refresh(call)
		return nil, err
	})
	return err
}

const lockTries = 5

// make has the database make the partition of bucket, if it lacks one. Any node
// that needs a partition may call it; the database checks that the bucket is in
// range.
func (t *Table) make(ctx context.Context, bucket int32) error {
	road := t.opts.Road
	road.LockWait = 200 * time.Millisecond
	for try := 1; ; try++ {
		b := road.NewBatch(ctx)
		b.Queue(t.queries.makePartition, bucket)
		err := road.Send(ctx, b)
		f := db.OutcomeOf(err)
		again := err != nil && (f == db.TxConflict || f == db.TxLocked)
		if !again || try == lockTries || !storekit.Backoff().Pause(ctx, try) {
			return err
		}
		road.Retries.Add(1)
	}
}
