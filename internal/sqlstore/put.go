package sqlstore

import (
	"context"
	"errors"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Put is session.Putter.Put. When the answer to a commit was lost, it is written
// again, with another version.
func (e *Engine) Put(ctx context.Context, rec session.Record) (session.Record, error) {
	rec, err := e.put(ctx, rec)
	return rec, e.Wrap("put", err)
}

func (e *Engine) put(ctx context.Context, rec session.Record) (session.Record, error) {
	if err := e.Begun(ctx); err != nil {
		return session.Record{}, err
	}
	if err := e.Limits().Content(rec); err != nil {
		return session.Record{}, err
	}
	rec.Version = storekit.Step() // also of a new one, from 0
	mayEnd := e.mayEnd(rec)
	out, err := write(ctx, e, Work{What: "put", Data: &rec.Data}, func(tx Tx) (result, error) {
		return put(tx, rec, e.Limits(), mayEnd)
	})
	switch {
	case err != nil:
		return session.Record{}, err
	case out.isNew:
		e.creates.Add(1)
	default:
		e.saves.Add(1)
	}
	return out.rec, nil
}

// result is what a Put came to.
type result struct {
	rec   session.Record
	isNew bool
}

// errVanished has the Put tried once more.
var errVanished = errors.New("a session with that key came and went")

func put(tx Tx, rec session.Record, limits storekit.Limits, mayEnd bool) (result, error) {
	// By the hash alone: with another bucket it would be another session's.
	r, err := tx.Lock(rec.Key.Hash)
	if err != nil {
		return result{}, err
	}
	if r == nil {
		made, err := putNew(tx, rec, limits)
		if !errors.Is(err, session.ErrExists) {
			return result{made, true}, err
		}
		// It was made just now.
		if r, err = tx.Lock(rec.Key.Hash); err != nil || r == nil {
			return result{}, errors.Join(err, errVanished)
		}
	}
	out, err := r.Put(rec, mayEnd, tx.Lost())
	if err != nil {
		return result{}, err
	}
	return result{out, false}, replace(tx, r, out)
}

// putNew goes by the database's clock alone.
func putNew(tx Tx, rec session.Record, limits storekit.Limits) (session.Record, error) {
	var now time.Time
	var err error
	if rec.User == "" {
		now, err = tx.Now()
	} else {
		// If there is a row of this session it is locked already. A transaction that
		// ends the user's sessions takes the user first, and then finds this row, or
		// waits for it.
		now, err = tx.Admit(rec.User, false)
	}
	if err != nil {
		return session.Record{}, err
	}
	if rec, err = sqlrow.PutNew(rec, limits, now); err != nil {
		return session.Record{}, err
	}
	rec.Created = now
	return rec, tx.Insert(rec, 0)
}
