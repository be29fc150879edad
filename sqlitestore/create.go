package sqlitestore

import (
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, rec session.Record) (session.Record, error) {
	made, err := s.create(ctx, rec, session.UserLimit{})
	return made.rec, wrap("create", err)
}

// CreateLimited implements session.UserIndex.
func (s *Store) CreateLimited(ctx context.Context, rec session.Record, limit session.UserLimit) (session.Record, []session.Key, error) {
	if err := s.limits.UserLimit(rec.User, limit); err != nil {
		return session.Record{}, nil, wrap("create", err)
	}
	made, err := s.create(ctx, rec, limit)
	return made.rec, made.evicted, wrap("create", err)
}

// made is a new session and what was ended to make room for it.
type made struct {
	rec     session.Record
	evicted []session.Key
}

func (s *Store) create(ctx context.Context, rec session.Record, limit session.UserLimit) (made, error) {
	if err := s.begun(ctx); err != nil {
		return made{}, err
	}
	rec, err := s.limits.New(rec, s.Now())
	if err != nil {
		return made{}, err
	}
	rec.Version = storekit.Version(0)
	var evicted []session.Key // by an attempt whose outcome is open
	out, err := writeData(ctx, s, &rec.Data, func(t *tx) (made, error) {
		now := t.now()
		if t.lost != nil {
			if done, err := t.created(rec); err != nil {
				return made{}, err
			} else if done != nil {
				return made{*done, evicted}, nil
			}
		}
		rec := rec
		rec.Created = now
		var err error
		evicted, err = t.add(rec, nil, limit, now)
		return made{rec, evicted}, err
	})
	if err == nil {
		s.stats.creates.Add(1)
		s.stats.destroys.Add(uint64(len(out.evicted)))
	}
	return out, err
}

// add inserts a session whose key was not used before and makes room for it.
// The row that it replaces, if any, does not count. A refusal has changed
// nothing.
func (t *tx) add(rec session.Record, replaced *sqlrow.Row, limit session.UserLimit, now time.Time) ([]session.Key, error) {
	limits := t.s.limits
	if replaced != nil {
		limits = limits.Replacing(replaced.Rec.Deadline, now)
	}
	if err := limits.InTime(rec, now); err != nil {
		return nil, err
	}
	if limit.Max > 0 { // the insert would find out, but only when others had to go
		r, err := t.find(session.Key{Hash: rec.Key.Hash})
		if err == nil && r != nil {
			err = session.ErrExists
		}
		if err != nil {
			return nil, err
		}
	}
	evicted, err := t.makeRoom(rec, replaced, limit, now)
	if err != nil {
		return nil, err
	}
	keptTo := int32(0)
	if replaced != nil {
		keptTo = replaced.KeptTo
	}
	return evicted, t.insert(rec, keptTo)
}

// insert adds a session that is kept until the bucket keptTo at least. It is
// ErrExists if the key was used before.
func (t *tx) insert(rec session.Record, keptTo int32) error {
	bucket := session.BucketOf(rec.Deadline)
	n, err := t.exec(insert, rec.Key.Hash[:], int64(bucket), int64(max(bucket, keptTo)), rec.Version,
		storekit.Micros(rec.Expires), storekit.Micros(rec.Deadline), storekit.Micros(rec.Created),
		nullText(rec.User), sqlrow.NullBytes(rec.Data))
	if err == nil && n == 0 {
		err = session.ErrExists
	}
	return err
}

// created returns the session, if an attempt whose outcome was open has created it.
func (t *tx) created(rec session.Record) (*session.Record, error) {
	r, err := t.find(session.Key{Hash: rec.Key.Hash})
	if err != nil {
		return nil, err
	}
	return r.WasCreated(rec, t.lost)
}
