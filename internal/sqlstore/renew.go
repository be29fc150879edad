package sqlstore

import (
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Renew is session.Store.Renew.
func (e *Engine) Renew(ctx context.Context, old session.Key, rec session.Record, grace time.Duration) (session.Record, error) {
	made, err := e.renew(ctx, old, rec, grace, session.UserLimit{})
	return made.rec, e.Wrap("renew", err)
}

// RenewLimited is session.UserIndex.RenewLimited.
func (e *Engine) RenewLimited(ctx context.Context, old session.Key, rec session.Record, grace time.Duration, limit session.UserLimit) (session.Record, []session.Key, error) {
	if err := e.Limits().UserLimit(rec.User, limit); err != nil {
		return session.Record{}, nil, e.Wrap("renew", err)
	}
	made, err := e.renew(ctx, old, rec, grace, limit)
	return made.rec, made.evicted, e.Wrap("renew", err)
}

func (e *Engine) renew(ctx context.Context, old session.Key, rec session.Record, grace time.Duration, limit session.UserLimit) (out made, err error) {
	if err := e.Begun(ctx); err != nil {
		return made{}, err
	}
	if err := storekit.Grace(grace); err != nil {
		return made{}, err
	}
	if err := storekit.Key("the old key", old); err != nil {
		return made{}, err
	}
	if rec, err = e.newRecord(ctx, rec, func() storekit.Limits { return e.Limits().ReplacingAny() }); err != nil {
		return made{}, err
	}
	n := &renewal{old: old, rec: rec, version: rec.Version, grace: grace, limits: e.Limits, limit: limit}
	n.rec.Version = storekit.Version(n.version)
	if out, err = write(ctx, e, Work{What: "renew", Data: &n.rec.Data}, n.do); err != nil {
		return made{}, err
	}
	e.renews.Add(1)
	e.destroys.Add(uint64(len(out.evicted)))
	return out, nil
}

// renewal is a renewal, in as many attempts as it takes.
type renewal struct {
	old     session.Key
	rec     session.Record // the new session
	version int64          // of the old one
	grace   time.Duration
	limits  func() storekit.Limits
	limit   session.UserLimit
	evicted []session.Key // by the latest attempt, whose outcome may be open
}

func (n *renewal) do(tx Tx) (made, error) {
	// First the user, then the row: DestroyUser locks them in that order.
	if n.rec.User != "" {
		if _, err := tx.Admit(n.rec.User, n.limit.Max > 0); err != nil {
			return made{}, err
		}
	}
	r, err := lockKey(tx, n.old)
	if err != nil {
		return made{}, err
	}
	if lost := tx.Lost(); lost != nil {
		if done, err := n.wasDone(tx, r, lost); err != nil {
			return made{}, err
		} else if done != nil {
			return made{*done, n.evicted}, nil
		}
	}
	rec := n.rec
	if rec.Created, err = r.Renew(rec, n.version); err != nil {
		return made{}, err
	}
	if n.evicted, err = add(tx, rec, r, n.limits(), n.limit, r.Now); err != nil {
		return made{}, err
	}
	until := storekit.Earlier(r.Now.Add(n.grace), r.Rec.Deadline)
	return made{rec, n.evicted}, tx.Renew(r, rec.Key, until)
}

// wasDone returns the new session, if an attempt whose outcome was open has taken
// place.
func (n *renewal) wasDone(tx Tx, old *sqlrow.Row, lost error) (*session.Record, error) {
	if !old.RenewedTo(n.rec.Key) {
		return nil, nil
	}
	next, err := tx.Lock(n.rec.Key.Hash) // whatever came after it, nobody else knows the new key
	switch {
	case err != nil:
		return nil, err
	case next == nil:
		return nil, storekit.Unknown(lost)
	}
	rec := n.rec
	rec.Created = next.Rec.Created
	return &rec, nil
}
