package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// own is one of our stores.
type own struct {
	store session.Store
	pool  func() error // closes what the store does not
}

func (o own) close(ctx context.Context) error { return errors.Join(o.store.Close(ctx), o.pool()) }

func (o own) create(ctx context.Context, data []byte) (visitor, error) {
	now := time.Now()
	deadline := now.Add(absoluteTimeout)
	id := session.NewID(deadline)
	rec, err := o.store.Create(ctx, session.Record{Key: id.Key(), Expires: now.Add(idleTimeout), Deadline: deadline, Data: data})
	if err != nil {
		return nil, err
	}
	return &ownVisitor{o.store, id, rec}, nil
}

// ownVisitor knows what a request would: the cookie's ID, which is hashed each
// time, and the session that it has read.
type ownVisitor struct {
	store session.Store
	id    session.ID
	read  session.Record
}

func (v *ownVisitor) get(ctx context.Context) ([]byte, error) {
	rec, err := v.store.Get(ctx, v.id.Key())
	if errors.Is(err, session.ErrNotFound) {
		return nil, errGone
	}
	return rec.Data, err
}

func (v *ownVisitor) save(ctx context.Context, data []byte) error {
	rec := v.read
	rec.Key, rec.Expires, rec.Data = v.id.Key(), time.Now().Add(idleTimeout), data
	rec, err := v.store.Save(ctx, rec)
	if err == nil {
		v.read = rec
	}
	return err
}

func (v *ownVisitor) touch(ctx context.Context) error {
	until := time.Now().Add(idleTimeout)
	got, err := v.store.Touch(ctx, v.id.Key(), until)
	if err == nil && got.Before(until.Truncate(time.Microsecond)) {
		err = fmt.Errorf("touched until %v instead of %v", got, until)
	}
	return err
}

func (v *ownVisitor) destroy(ctx context.Context) error {
	n, err := v.store.Destroy(ctx, v.id.Key())
	if err == nil && n != 1 {
		err = fmt.Errorf("%d sessions were destroyed instead of 1", n)
	}
	return err
}
