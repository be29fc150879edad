package sqlitestore

import (
	"bytes"
	"context"
	"time"

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
	if err := s.limits.UserLimit(rec.User, limit); err != nil {
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
	rec, err := s.limits.ReplacingAny().New(rec, s.Now())
	if err != nil {
		return made{}, err
	}
	version := rec.Version
	rec.Version = storekit.Version(version)
	var evicted []session.Key // by an attempt whose outcome is open
	out, err := writeData(ctx, s, &rec.Data, func(t *tx) (made, error) {
		now := t.now()
		if t.lost != nil {
			if done, err := t.wasRenewed(old, rec); err != nil {
				return made{}, err
			} else if done != nil {
				return made{*done, evicted}, nil
			}
		}
		r, err := t.writable(old, now)
		if err != nil {
			return made{}, err
		}
		if r.rec.Version != version {
			return made{}, session.ErrConflict
		}
		rec := rec
		rec.Created = now
		if rec.User == r.rec.User {
			rec.Created = r.rec.Created
		}
		if evicted, err = t.add(rec, r, limit, now); err != nil {
			return made{}, err
		}
		until := storekit.Earlier(now.Add(grace), r.rec.Deadline)
		_, err = t.exec(renewed, r.id, storekit.Micros(now), rec.Key.Hash[:], storekit.Micros(until))
		return made{rec, evicted}, err
	})
	if err == nil {
		s.stats.renews.Add(1)
		s.stats.destroys.Add(uint64(len(out.evicted)))
	}
	return out, err
}

// wasRenewed returns the new session, if a renewal whose outcome was open has
// taken place.
func (t *tx) wasRenewed(old session.Key, rec session.Record) (*session.Record, error) {
	r, err := t.find(old, find)
	if err != nil || r == nil || !bytes.Equal(r.next, rec.Key.Hash[:]) {
		return nil, err
	}
	next, err := t.find(session.Key{Hash: rec.Key.Hash}, find) // whatever came after it, nobody else knows the new key
	switch {
	case err != nil:
		return nil, err
	case next == nil:
		return nil, storekit.Unknown(t.lost)
	}
	rec.Created = next.rec.Created
	return &rec, nil
}
