package mysqlstore

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, rec session.Record) (session.Record, error) {
	rec, err := s.create(ctx, rec)
	return rec, wrap("create", err)
}

func (s *Store) create(ctx context.Context, rec session.Record) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, err
	}
	rec, err := s.newRecord(ctx, rec, s.limits)
	if err != nil {
		return session.Record{}, err
	}
	rec.Version = storekit.Version(0)
	o := &op{key: rec.Key, rec: rec}
	if err := s.creates.Do(ctx, o); err != nil {
		return session.Record{}, err
	}
	s.stats.creates.Add(1)
	return o.made, nil
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
	made, err := s.createLimited(ctx, rec, limit)
	return made.rec, made.evicted, wrap("create", err)
}

// made is a new session and what was ended to make room for it.
type made struct {
	rec     session.Record
	evicted []session.Key
}

func (s *Store) createLimited(ctx context.Context, rec session.Record, limit session.UserLimit) (made, error) {
	if err := s.begun(ctx); err != nil {
		return made{}, err
	}
	rec, err := s.newRecord(ctx, rec, s.limits)
	if err != nil {
		return made{}, err
	}
	rec.Data = bytes.Clone(rec.Data)
	rec.Version = storekit.Version(0)
	var evicted []session.Key // by an attempt whose outcome is open
	out, err := write(ctx, s, "create", func(t *tx) (made, error) {
		if t.lost != nil {
			if done, err := t.created(rec); err != nil {
				return made{}, err
			} else if done != nil {
				return made{*done, evicted}, nil
			}
		}
		if err := t.takeStripe(rec.User); err != nil {
			return made{}, err
		}
		var err error
		if evicted, err = t.makeRoom(rec.User, nil, limit); err != nil {
			return made{}, err
		}
		now, err := t.now()
		if err != nil {
			return made{}, err
		}
		rec, err := t.insert(rec, 0, now, now, s.limits())
		return made{rec, evicted}, err
	})
	if err == nil {
		s.stats.creates.Add(1)
		s.stats.destroys.Add(uint64(len(out.evicted)))
	}
	return out, err
}

// newRecord checks a session that is to be created, and returns it as it is
// kept. It asks the database again before it refuses a time that is out of
// range by what this node knows.
func (s *Store) newRecord(ctx context.Context, rec session.Record, limits func() storekit.Limits) (session.Record, error) {
	made, err := limits().New(rec, s.Now())
	if !errors.Is(err, session.ErrDeadline) || rec.Deadline.IsZero() {
		return made, err
	}
	if err := s.refresh(ctx); err != nil {
		return rec, err
	}
	return limits().New(rec, s.Now())
}

// insert adds a session, whose key nobody may have used, and which is kept until
// the bucket keptTo at least. It is ErrExists if the key was used, and ErrDeadline
// if its time has passed by the database's clock, which this node knows then.
func (t *tx) insert(rec session.Record, keptTo int32, created, now time.Time, limits storekit.Limits) (session.Record, error) {
	rec.Created = created
	if err := limits.InTime(rec, now); err != nil {
		return rec, err
	}
	_, err := t.exec(t.ctx, text{insertSome, 1}, insertArgs(nil, rec, keptTo)...)
	switch {
	case numberOf(err) != errDuplicate:
		return rec, err
	case t.lost != nil:
		return rec, errLate
	}
	return rec, session.ErrExists
}

// errLate has the write tried once more: what was lost has been done just now.
var errLate = errors.New("an attempt whose answer was lost was still under way")

// insertArgs appends a row.
func insertArgs(args []any, rec session.Record, keptTo int32) []any {
	bucket := session.BucketOf(rec.Deadline)
	return append(args, rec.Key.Hash[:], int64(bucket), int64(max(bucket, keptTo)), rec.Version,
		storekit.Micros(rec.Expires), storekit.Micros(rec.Deadline), storekit.Micros(rec.Created), nullText(rec.User), sqlrow.NullBytes(rec.Data))
}

// stripes is how many locks the users share.
const stripes = 256

// stripeOf is the lock that a transaction which creates or renews a session of
// user holds, shared, until it is committed. A transaction that holds the lock
// alone therefore sees all sessions of the user, and none can be added.
func stripeOf(user string) int64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(user)) // which does not fail
	return int64(h.Sum32() % stripes)
}

func createManner() manner {
	return manner{name: "create", lone: createLone, batch: createBatch, apart: createApart}
}

// createLone knows the time only roughly, so its statement refuses what looks
// too early or too late. createBatch and createApart find out why.
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
	now, err := t.shareStripes(slices.Compact(users))
	if err != nil {
		return err
	}
	limits := t.s.limits()
	var recs []session.Record
	for _, o := range ops {
		if o.lost != nil {
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
	if t.lost != nil {
		if done, err := t.created(o.rec); err != nil {
			return err
		} else if done != nil {
			o.made = *done
			return nil
		}
	}
	var users []int64
	if o.rec.User != "" {
		users = append(users, stripeOf(o.rec.User))
	}
	now, err := t.shareStripes(users)
	if err != nil {
		return err
	}
	o.made, err = t.insert(o.rec, 0, now, now, t.s.limits())
	return err
}

// shareStripes shares stripes, which are sorted. It waits until nobody holds
// one of them alone, and returns the time after that.
func (t *tx) shareStripes(of []int64) (now time.Time, err error) {
	if len(of) == 0 {
		return t.now()
	}
	var args []any
	for i := range sizeFor(len(of)) {
		args = append(args, of[min(i, len(of)-1)])
	}
	sent := time.Now()
	err = t.query(t.ctx, text{shareStripes, len(args)}, func(v []driver.Value) error {
		scan := scanner(v)
		now = scan.Time()
		return scan.Err
	}, args...)
	switch {
	case err != nil:
		return now, err
	case now.IsZero():
		return now, fmt.Errorf("%w: the locks of the users are gone", ErrDamaged)
	case !t.instant:
		return t.now()
	}
	t.s.clock.observe(sent, now, time.Now())
	return now, nil
}

// created returns the session, if an attempt whose outcome was open has created it.
func (t *tx) created(rec session.Record) (*session.Record, error) {
	r, err := t.lock(rec.Key.Hash)
	if err != nil {
		return nil, err
	}
	return r.WasCreated(rec, t.lost)
}
