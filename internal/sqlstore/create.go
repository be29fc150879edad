package sqlstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Create is session.Store.Create.
func (e *Engine) Create(ctx context.Context, rec session.Record) (session.Record, error) {
	made, err := e.create(ctx, rec, session.UserLimit{})
	return made.rec, e.Wrap("create", err)
}

// CreateLimited is session.UserIndex.CreateLimited.
func (e *Engine) CreateLimited(ctx context.Context, rec session.Record, limit session.UserLimit) (session.Record, []session.Key, error) {
	if err := e.Limits().UserLimit(rec.User, limit); err != nil {
		return session.Record{}, nil, e.Wrap("create", err)
	}
	made, err := e.create(ctx, rec, limit)
	return made.rec, made.evicted, e.Wrap("create", err)
}

// made is a new session and what was ended to make room for it.
type made struct {
	rec     session.Record
	evicted []session.Key
}

func (e *Engine) create(ctx context.Context, rec session.Record, limit session.UserLimit) (out made, err error) {
	if err := e.Begun(ctx); err != nil {
		return made{}, err
	}
	if rec, err = e.newRecord(ctx, rec, e.Limits); err != nil {
		return made{}, err
	}
	rec.Version = storekit.Version(0)
	if e.Fast != nil && limit.Max == 0 {
		out.rec, err = e.Fast.Create(ctx, rec)
	} else {
		c := &creation{rec: rec, limits: e.Limits, limit: limit}
		out, err = write(ctx, e, Work{What: "create", Data: &c.rec.Data}, c.do)
	}
	if err != nil {
		return made{}, err
	}
	e.creates.Add(1)
	e.destroys.Add(uint64(len(out.evicted)))
	return out, nil
}

// creation is the creation of a session, in as many attempts as it takes.
type creation struct {
	rec     session.Record
	limits  func() storekit.Limits
	limit   session.UserLimit
	evicted []session.Key // by the latest attempt, whose outcome may be open
}

// Create creates a session, without a limit, in tx.
func Create(tx Tx, rec session.Record, limits func() storekit.Limits) (session.Record, error) {
	made, err := (&creation{rec: rec, limits: limits}).do(tx)
	return made.rec, err
}

func (c *creation) do(tx Tx) (made, error) {
	if lost := tx.Lost(); lost != nil {
		r, err := tx.Lock(c.rec.Key.Hash)
		if err != nil {
			return made{}, err
		}
		done, err := r.WasCreated(c.rec, lost)
		if err != nil {
			return made{}, err
		} else if done != nil {
			return made{*done, c.evicted}, nil
		}
	}
	var now time.Time
	var err error
	if c.rec.User == "" {
		now, err = tx.Now()
	} else {
		now, err = tx.Admit(c.rec.User, c.limit.Max > 0)
	}
	if err != nil {
		return made{}, err
	}
	rec := c.rec
	rec.Created = now
	c.evicted, err = add(tx, rec, nil, c.limits(), c.limit, now)
	return made{rec, c.evicted}, err
}

// add inserts a session and makes room for it. The row that it replaces, if any,
// does not count. The transaction has admitted the user. A refusal has changed
// nothing.
func add(tx Tx, rec session.Record, replaced *sqlrow.Row, limits storekit.Limits, limit session.UserLimit, now time.Time) ([]session.Key, error) {
	keptTo := int32(0)
	if replaced != nil {
		limits, keptTo = limits.Replacing(replaced.Rec.Deadline, now), replaced.KeptTo
	}
	if err := limits.InTime(rec, now); err != nil {
		return nil, err
	}
	surplus, err := surplusOf(tx, rec.User, replaced, limit)
	if err != nil {
		return nil, err
	}
	if err := tx.Insert(rec, keptTo); err != nil {
		return nil, err
	}
	return evict(tx, surplus)
}

// surplusOf returns the sessions of the user that must end if one more is to fit.
func surplusOf(tx Tx, user string, replaced *sqlrow.Row, limit session.UserLimit) ([]*sqlrow.Row, error) {
	if limit.Max == 0 {
		return nil, nil
	}
	rows, err := tx.OfUser(user)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(r *sqlrow.Row) bool {
		return !r.Live() || replaced != nil && r.Rec.Key.Hash == replaced.Rec.Key.Hash
	})
	surplus := len(rows) + 1 - limit.Max
	switch {
	case surplus <= 0:
		return nil, nil
	case !limit.Evict:
		return nil, fmt.Errorf("%w: the limit is %d", session.ErrUserLimit, limit.Max)
	}
	return rows[:surplus], nil
}

// evict ends sessions and returns those that were live.
func evict(tx Tx, found []*sqlrow.Row) (evicted []session.Key, err error) {
	for some := range slices.Chunk(found, StepRows) {
		rows, err := tx.LockAll(some)
		if err != nil {
			return nil, err
		}
		// Others may have ended them since they were found.
		rows = slices.DeleteFunc(rows, func(r *sqlrow.Row) bool { return !r.Ended.IsZero() })
		if err := tx.End(rows...); err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.Live() {
				evicted = append(evicted, r.Rec.Key)
			}
		}
	}
	return evicted, nil
}
