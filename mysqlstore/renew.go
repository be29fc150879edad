package mysqlstore

import (
	"bytes"
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Renew implements session.Store.
func (s *Store) Renew(ctx context.Context, old session.Key, rec session.Record, grace time.Duration) (session.Record, error) {
	made, err := s.renew(ctx, old, rec, grace, session.UserLimit{})
	return made.rec, wrap("renew", err)
}

// RenewLimited implements session.UserIndex.
func (s *Store) RenewLimited(ctx context.Context, old session.Key, rec session.Record, grace time.Duration, limit session.UserLimit) (session.Record, []session.Key, error) {
	if err := s.limits().UserLimit(rec.User, limit); err != nil {
		return session.Record{}, nil, wrap("renew", err)
	}
	made, err := s.renew(ctx, old, rec, grace, limit)
	return made.rec, made.evicted, wrap("renew", err)
}

func (s *Store) renew(ctx context.Context, old session.Key, rec session.Record, grace time.Duration, limit session.UserLimit) (made, error) {
	if err := s.begun(ctx); err != nil {
		return made{}, err
	}
	if err := storekit.Grace(grace); err != nil {
		return made{}, err
	}
	if err := storekit.Key("the old key", old); err != nil {
		return made{}, err
	}
	rec, err := s.newRecord(ctx, rec, func() storekit.Limits { return s.limits().ReplacingAny() })
	if err != nil {
		return made{}, err
	}
	rec.Data = bytes.Clone(rec.Data)
	version := rec.Version
	rec.Version = storekit.Version(version)
	var evicted []session.Key // by an attempt whose outcome is open
	out, err := write(ctx, s, "renew", func(t *tx) (made, error) {
		// First the user, then the row, in the order in which DestroyUser locks
		// them.
		if err := t.admit(rec.User, limit); err != nil {
			return made{}, err
		}
		r, err := t.lockKey(old)
		if err != nil {
			return made{}, err
		}
		if t.lost != nil {
			if done, err := t.wasRenewed(r, rec); err != nil {
				return made{}, err
			} else if done != nil {
				return made{*done, evicted}, nil
			}
		}
		created, err := r.Renew(rec, version)
		if err != nil {
			return made{}, err
		}
		next, err := t.insert(rec, r.KeptTo, created, r.Now, s.limits().Replacing(r.Rec.Deadline, r.Now))
		if err != nil {
			return made{}, err
		}
		if evicted, err = t.makeRoom(rec.User, []session.Key{old, rec.Key}, limit); err != nil {
			return made{}, err
		}
		until := storekit.Earlier(r.Now.Add(grace), r.Rec.Deadline)
		_, err = t.exec(t.ctx, one(renewed), storekit.Micros(r.Now), rec.Key.Hash[:], storekit.Micros(until), old.Hash[:])
		return made{next, evicted}, err
	})
	if err == nil {
		s.stats.renews.Add(1)
		s.stats.destroys.Add(uint64(len(out.evicted)))
	}
	return out, err
}

// wasRenewed returns the new session, if a renewal whose outcome was open has
// taken place.
func (t *tx) wasRenewed(old *sqlrow.Row, rec session.Record) (*session.Record, error) {
	if !old.RenewedTo(rec.Key) {
		return nil, nil
	}
	next, err := t.lock(rec.Key.Hash) // whatever came after it, nobody else knows the new key
	switch {
	case err != nil:
		return nil, err
	case next == nil:
		return nil, storekit.Unknown(t.lost)
	}
	rec.Created = next.Rec.Created
	return &rec, nil
}
