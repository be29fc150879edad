package mysqlstore

import (
	"context"
	"slices"

	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

func (f fast) Create(ctx context.Context, rec session.Record) (session.Record, error) {
	o := &op{key: rec.Key, rec: rec}
	if err := f.s.creates.Do(ctx, o); err != nil {
		return session.Record{}, err
	}
	return o.made, nil
}

func createManner() manner {
	return manner{name: "create", lone: createLone, batch: createBatch, apart: createApart}
}

// createLone knows the time only roughly, so its statement refuses what looks
// too early or too late, and a user whose stripe somebody holds. createBatch and
// createApart find out why.
func createLone(t *tx, o *op) (bool, error) {
	if !t.instant {
		return false, nil
	}
	rec := o.rec
	rec.Created = storekit.Expiry(t.s.Now())
	limits := t.s.limits()
	inTime := []any{storekit.Micros(rec.Expires), storekit.Micros(rec.Deadline), (limits.Longest + limits.Slack).Microseconds()}
	var q query
	var args []any
	if rec.User == "" {
		q, args = insertAnonymous, append(inTime, insertArgs(nil, rec, 0)...)
	} else {
		q, args = insertOfUser, append(append(insertArgs(nil, rec, 0), stripeOf(rec.User)), inTime...)
	}
	out, err := t.exec(t.ctx, one(q), args...)
	o.made = rec
	return out.rows == 1, err
}

func createBatch(t *tx, ops []*op) error {
	var users []int64
	for _, o := range ops {
		if o.lost == nil && o.rec.User != "" {
			users = append(users, stripeOf(o.rec.User))
		}
	}
	slices.Sort(users)
	shared, now, err := t.shareStripes(slices.Compact(users))
	if err != nil {
		return err
	}
	limits := t.s.limits()
	var recs []session.Record
	for _, o := range ops {
		if o.lost != nil || o.rec.User != "" && !slices.Contains(shared, stripeOf(o.rec.User)) {
			continue
		}
		o.made = o.rec
		o.made.Created = now
		if o.refusal = limits.InTime(o.made, now); o.refusal == nil {
			o.written = true
			recs = append(recs, o.made)
		}
	}
	for len(recs) > 0 {
		n := sizeFor(len(recs))
		if n > len(recs) {
			n /= 2
		}
		var args []any
		for _, rec := range recs[:n] {
			args = insertArgs(args, rec, 0)
		}
		if _, err := t.exec(t.ctx, text{insertSome, n}, args...); err != nil {
			return err
		}
		recs = recs[n:]
	}
	return nil
}

func createApart(t *tx, o *op) (err error) {
	o.made, err = sqlstore.Create(t, o.rec, t.s.limits)
	return err
}
