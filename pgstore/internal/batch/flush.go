package batch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// ErrLags says that this node's clock is wrong. If the right clock counted, the
// write would end the session, which nobody has asked for.
var ErrLags = fmt.Errorf("%w: Record.Expires has passed, which it had not by this node's clock", session.ErrDeadline)

func (w *Writer) flushCreates(ctx context.Context, ops []*Op, mode flushMode) ([]*Op, error) {
	type row struct{ expires, deadline, created time.Time }
	made := make(map[session.Key]row, len(ops))
	busy := map[int32]bool{}
	var now time.Time

	before := w.opts.Now()
	longest := (w.opts.Longest() + storekit.ClockSlack).Seconds()
	stripes := column(ops, func(o *Op) int32 { return StripeOf(o.Rec.User) })
	slices.Sort(stripes)
	stripes = slices.Compact(stripes)

	b := mode.road.NewBatch(ctx)
	switch mode.patience {
	case waitLocked:
		b.Queue(WaitForStripes, w.opts.LockClass, stripes)
	case skipLocked:
		b.Queue(busyStripes, w.opts.LockClass, stripes).Query(func(rows pgx.Rows) error {
			var stripe int32
			_, err := pgx.ForEachRow(rows, []any{&stripe}, func() error { busy[stripe] = true; return nil })
			return err
		})
	}
	for _, sp := range w.spans(ops, mode) {
		b.Queue(sp.q.Create, hashes(sp.ops), buckets(sp.ops),
			column(sp.ops, func(o *Op) time.Time { return o.Rec.Expires }),
			column(sp.ops, func(o *Op) time.Time { return o.Rec.Deadline }),
			column(sp.ops, func(o *Op) *string { return db.NullText(o.Rec.User) }),
			column(sp.ops, func(o *Op) []byte { return o.Rec.Data }),
			column(sp.ops, func(o *Op) int32 { return StripeOf(o.Rec.User) }),
			longest, w.opts.LockClass,
			column(sp.ops, func(o *Op) int64 { return o.Rec.Version }),
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
	w.Flushes.Add(1)
	w.opts.Compare(before, b.Began.Clock)

	var held []*Op
	for _, o := range ops {
		r, ok := made[o.Key]
		switch {
		case ok:
			o.Rec.Expires, o.Rec.Deadline, o.Rec.Created = r.expires.UTC(), r.deadline.UTC(), r.created.UTC()
			o.Ran = b.Began
			w.Creates.Finish(o, nil)
		case mode.patience == optimistic:
			held = append(held, o)
		case o.lost == nil && !o.Rec.Expires.After(now):
			w.Creates.Finish(o, fmt.Errorf("%w: Record.Expires has passed", session.ErrDeadline))
		case o.lost == nil && o.Rec.Deadline.After(now.Add(time.Duration(longest*float64(time.Second)))):
			w.Creates.Finish(o, fmt.Errorf("%w: Record.Deadline is beyond the longest lifetime", session.ErrDeadline))
		case busy[StripeOf(o.Rec.User)]:
			held = append(held, o)
		case o.lost != nil:
			w.Creates.Finish(o, w.createdAfterAll(ctx, o))
		default:
			w.Creates.Finish(o, session.ErrExists)
		}
	}
	return held, nil
}

// createdAfterAll decides about a create whose first answer was lost.
func (w *Writer) createdAfterAll(ctx context.Context, o *Op) error {
	switch did, err := w.Created(ctx, o.Key, &o.Rec); {
	case did:
		return nil
	case err != nil:
		return w.outcomeOpen(ctx, o.lost, err)
	}
	return session.ErrExists
}

func (w *Writer) flushSaves(ctx context.Context, ops []*Op, mode flushMode) ([]*Op, error) {
	f := w.newWrite(ctx, ops, mode, true)
	soon := w.opts.Now().Add(storekit.ClockError)
	ends := func(o *Op) bool { return !o.Rec.Expires.After(soon) }
	err := f.send(ctx, func(q *Texts) Statements { return q.Save },
		inputOf(func(o *Op) int64 { return o.Rec.Version }),
		inputOf(func(o *Op) *time.Time { return db.NullTime(o.Rec.Expires) }),
		inputOf(func(o *Op) *string { return db.NullText(o.Rec.User) }),
		inputOf(func(o *Op) []byte { return o.Rec.Data }),
		inputOf(ends),
		inputOf(func(o *Op) int64 { return o.Becomes }))
	if err != nil {
		return nil, err
	}
	var held []*Op
	for _, o := range ops {
		was, there := f.was[o]
		now, written := f.now[o]
		switch {
		case written:
			o.saved(now)
			o.Ran = f.batch.Began
			w.Saves.Finish(o, nil)
		case f.held(o):
			held = append(held, o)
		case o.lost != nil && there && was.Version == o.Becomes: // it was written, whatever came after it
			o.saved(was)
			w.Saves.Finish(o, nil)
		case o.lost != nil && !(there && was.Version < o.Becomes): // it may have been
			w.Saves.Finish(o, w.outcomeOpen(ctx, o.lost, nil))
		case !there:
			w.Saves.Finish(o, session.ErrNotFound)
		case !was.Live && was.InGrace:
			w.Saves.Finish(o, session.ErrConflict)
		case !was.Live:
			w.Saves.Finish(o, session.ErrNotFound)
		case was.User != o.Rec.User:
			w.Saves.Finish(o, session.ErrUserChanged)
		case was.Version != o.Rec.Version:
			w.Saves.Finish(o, session.ErrConflict)
		case !ends(o) && !o.Rec.Expires.After(f.batch.Began.Clock):
			w.Saves.Finish(o, ErrLags)
		case mode.patience == skipLocked:
			// Another write came between the statement's snapshot and its lock.
			// That cannot be if the lock was taken before.
			held = append(held, o)
		default: // it expired within the statement
			w.Saves.Finish(o, session.ErrNotFound)
		}
	}
	return held, nil
}

// saved completes the record by the row as this save has left it.
func (o *Op) saved(row State) {
	o.Rec.Version, o.Rec.Expires, o.Rec.Deadline, o.Rec.Created = o.Becomes, row.Expires, row.Deadline, row.Created
}

func (w *Writer) flushTouches(ctx context.Context, ops []*Op, mode flushMode) ([]*Op, error) {
	f := w.newWrite(ctx, ops, mode, false)
	err := f.send(ctx, func(q *Texts) Statements { return q.Touch }, inputOf(func(o *Op) time.Time { return o.Rec.Expires }))
	if err != nil {
		return nil, err
	}
	var held []*Op
	for _, o := range ops {
		was, there := f.was[o]
		now, written := f.now[o]
		switch {
		case written:
			o.Rec.Expires = now.Expires
			w.Touches.Finish(o, nil)
		case f.held(o):
			held = append(held, o)
		case there && was.Live && !was.Expires.Before(storekit.Earlier(o.Rec.Expires, was.Deadline)):
			o.Rec.Expires = was.Expires // already further
			w.Touches.Finish(o, nil)
		case there && was.Live && mode.patience == skipLocked:
			held = append(held, o) // see flushSaves
		default:
			o.Expired = there && !was.Live && !was.Expires.After(f.batch.Began.Clock)
			w.Touches.Finish(o, session.ErrNotFound)
		}
	}
	return held, nil
}

func (w *Writer) flushDestroys(ctx context.Context, ops []*Op, mode flushMode) ([]*Op, error) {
	f := w.newWrite(ctx, ops, mode, true)
	if err := f.send(ctx, func(q *Texts) Statements { return q.Destroy }); err != nil {
		return nil, err
	}
	var held []*Op
	for _, o := range ops {
		now, written := f.now[o]
		if !written && f.held(o) {
			held = append(held, o)
			continue
		}
		was, there := f.was[o]
		o.Live, o.Next, o.Gone = now.Live, was.Next, !written && !there
		for _, l := range []*Lane{w.Saves, w.Touches} {
			l.FinishKey(o.Key, session.ErrNotFound)
		}
		w.Destroys.Finish(o, nil)
	}
	return held, nil
}
