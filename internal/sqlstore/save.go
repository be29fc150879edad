package sqlstore

import (
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Save is session.Store.Save.
func (e *Engine) Save(ctx context.Context, rec session.Record) (session.Record, error) {
	rec, err := e.save(ctx, rec)
	return rec, e.Wrap("save", err)
}

func (e *Engine) save(ctx context.Context, rec session.Record) (out session.Record, err error) {
	if err := e.Begun(ctx); err != nil {
		return session.Record{}, err
	}
	if err := e.Limits().Saved(rec); err != nil {
		return session.Record{}, err
	}
	if err := e.possible(rec.Key); err != nil {
		return session.Record{}, err
	}
	if !rec.Expires.IsZero() {
		rec.Expires = storekit.Expiry(rec.Expires)
	}
	becomes, mayEnd := storekit.Version(rec.Version), e.mayEnd(rec)
	if e.Fast != nil {
		out, err = e.Fast.Save(ctx, rec, becomes, mayEnd)
	} else {
		out, err = write(ctx, e, Work{What: "save", Data: &rec.Data}, func(tx Tx) (session.Record, error) {
			return Save(tx, rec, becomes, mayEnd)
		})
	}
	if err != nil {
		return session.Record{}, err
	}
	e.saves.Add(1)
	return out, nil
}

// possible is session.ErrNotFound for a key that no session can have.
func (e *Engine) possible(key session.Key) error {
	if storekit.Possible(key) {
		return nil
	}
	e.refused.Add(1)
	return session.ErrNotFound
}

// Save saves rec in tx. See sqlrow.Row.Save.
func Save(tx Tx, rec session.Record, becomes int64, mayEnd bool) (session.Record, error) {
	r, err := lockKey(tx, rec.Key)
	if err != nil {
		return session.Record{}, err
	}
	if lost := tx.Lost(); lost != nil {
		done, err := r.WasSaved(rec, becomes, lost)
		if err != nil {
			return session.Record{}, err
		} else if done != nil {
			return *done, nil
		}
	}
	out, err := r.Save(rec, becomes, mayEnd)
	if err != nil {
		return session.Record{}, err
	}
	return out, replace(tx, r, out)
}

// replace writes what a save or a Put came to.
func replace(tx Tx, r *sqlrow.Row, out session.Record) error {
	if !r.Now.Before(out.Expires) {
		return tx.End(r)
	}
	return tx.Save(r, out)
}

// Touch is session.Store.Touch.
func (e *Engine) Touch(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	expires, err := e.touch(ctx, key, expires)
	return expires, e.Wrap("touch", err)
}

func (e *Engine) touch(ctx context.Context, key session.Key, expires time.Time) (inForce time.Time, err error) {
	if err := e.Begun(ctx); err != nil {
		return time.Time{}, err
	}
	if err := storekit.Key("the key", key); err != nil {
		return time.Time{}, err
	}
	if err := e.possible(key); err != nil {
		return time.Time{}, err
	}
	expires = storekit.Expiry(expires)
	if e.Fast != nil {
		inForce, err = e.Fast.Touch(ctx, key, expires)
	} else {
		inForce, err = write(ctx, e, Work{What: "touch"}, func(tx Tx) (time.Time, error) { return Touch(tx, key, expires) })
	}
	if err != nil {
		return time.Time{}, err
	}
	e.touches.Add(1)
	return inForce, nil
}

// Touch touches a session in tx. A touch that was lost is done again.
func Touch(tx Tx, key session.Key, expires time.Time) (time.Time, error) {
	r, err := lockKey(tx, key)
	if err != nil {
		return time.Time{}, err
	}
	inForce, later, err := r.Touch(expires)
	if later {
		err = tx.Touch(r, inForce)
	}
	return inForce, err
}
