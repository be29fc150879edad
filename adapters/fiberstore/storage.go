// Package fiberstore keeps the sessions of Fiber's session middleware, versions 2 and 3,
// in a session.Store. It does not import Fiber: a Storage has the methods that both
// versions ask for.
//
//	storage, err := fiberstore.New(store, fiberstore.Options{})
//	app.Use(session.New(session.Config{
//		Storage: storage, KeyGenerator: storage.NewKey,
//		CookieSecure: true, CookieHTTPOnly: true, // Fiber's default is neither
//	}))
//
// What has ended stays dead. Fiber's middleware saves a session at the end of every
// request, so with its own storages a request that is slower than a logout brings the
// session back. For the same reason a Storage is for sessions only. Middleware that
// uses a key again after it was deleted or has expired needs another one: limiter,
// cache, idempotency, and csrf without a session.
//
// All values of a session are written at once, so of two requests that change different
// ones at the same time, the last one wins. No storage can mend that.
package fiberstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/sojourn-go/sojourn/adapters/internal/places"
	"github.com/sojourn-go/sojourn/adapters/internal/unversioned"
	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/session"
)

// Options are a Storage's settings. The zero Options work.
type Options struct {
	// Name keeps the sessions of several Storages apart on one store.
	Name string
	// Lifetime is how long a session may last from its first Set, rounded up to a
	// whole hour where NewKey has made its key. 0 is the longest lifetime of the
	// session.Store, or 30 days if the store does not tell.
	Lifetime time.Duration
	// Old is the storage that the application had before. With it sessions move from
	// there without a logout, as Phase says. The store has to be a session.Explainer.
	// Fiber's storages do not tell how long a session has left, so one that moves lasts
	// for Lifetime until its next Set. nil is none.
	Old Old
	// Phase is what becomes of the sessions of Old.
	Phase moving.Phase
	// FailDead makes Set fail with session.ErrNotFound when the session has ended
	// meanwhile. Without it the request is answered as if it had been saved.
	FailDead bool
}

// Storage is a fiber.Storage. All methods may be called concurrently. Those without a
// context are the same as those with one, for as long as the session.Store takes. What
// they are given is copied, and what they return is the caller's.
type Storage struct {
	kept *unversioned.Store
	both *places.Store // nil if there is no old storage
	opts Options
	mark string // in front of the data, and in the hash of the keys
}

// New makes a Storage. The error is errors.ErrUnsupported if the store is no
// session.Putter.
func New(store session.Store, opts Options) (*Storage, error) {
	kept, err := unversioned.New(store)
	if err != nil {
		return nil, wrap("new", err)
	}
	if opts.Lifetime < 0 {
		return nil, fmt.Errorf("fiberstore: %w: Options.Lifetime is %v; it must not be negative", session.ErrInvalid, opts.Lifetime)
	}
	opts.Lifetime = cmp.Or(opts.Lifetime, kept.Longest(), 30*24*time.Hour)
	s := &Storage{kept: kept, opts: opts, mark: fmt.Sprintf("fiber:%d:%s:", len(opts.Name), opts.Name)}
	if opts.Old == nil {
		return s, nil
	}
	if s.both, err = places.New(kept, oldStorage{opts.Old}, opts.Phase, s.form()); err != nil {
		return nil, wrap("new", err)
	}
	return s, nil
}

// NewKey makes the key of a new session: a session.ID, which tells Postgres in which
// partition the session is. It is for KeyGenerator of the middleware's Config. Sessions
// with other keys, as Fiber makes them by default, have to be searched for.
func (s *Storage) NewKey() string { return session.NewID(s.kept.Now().Add(s.opts.Lifetime)).Secret() }

func (s *Storage) keyOf(key string) session.Key {
	if id, err := session.ParseID(key); err == nil {
		return unversioned.KeyOf(s.mark, id)
	}
	return session.ForeignKey(s.mark, key)
}

// Get is GetWithContext.
func (s *Storage) Get(key string) ([]byte, error) { return s.GetWithContext(context.Background(), key) }

// GetWithContext returns the data of a live session, and nil if there is none.
func (s *Storage) GetWithContext(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil || key == "" {
		return nil, wrap("get", err)
	}
	k := s.keyOf(key)
	if s.both != nil {
		data, _, err := s.both.Find(ctx, key, k)
		return bytes.Clone(data), wrap("get", err)
	}
	rec, err := s.kept.Get(ctx, k)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, wrap("get", err)
	}
	data, here := places.Here(rec.Data)
	if !here {
		return nil, nil
	}
	data, _ = bytes.CutPrefix(data, []byte(s.mark))
	return bytes.Clone(data), nil
}

// Set is SetWithContext.
func (s *Storage) Set(key string, val []byte, exp time.Duration) error {
	return s.SetWithContext(context.Background(), key, val, exp)
}

// SetWithContext creates a session, or replaces the data of the live one. It lasts for
// exp; 0 is for as long as Options.Lifetime. Values that are the same are not written,
// and the expiry is moved not more often than ten times in exp or once a minute. Without
// a key or a value it does nothing.
func (s *Storage) SetWithContext(ctx context.Context, key string, val []byte, exp time.Duration) error {
	if err := ctx.Err(); err != nil || key == "" || len(val) == 0 {
		return wrap("set", err)
	}
	k := s.keyOf(key)
	w := unversioned.Write{
		Key: k, Data: append([]byte(s.mark), val...), Lasts: exp,
		Same: func(data []byte) bool {
			was, _ := bytes.CutPrefix(data, []byte(s.mark))
			return same[map[any]any](was, val) || same[map[string]any](was, val)
		},
		About: func(bool) (unversioned.About, error) { return s.about(k), nil },
	}
	var err error
	if s.both != nil {
		err = s.both.Commit(ctx, key, val, w)
	} else {
		_, err = s.kept.Write(ctx, w)
	}
	if errors.Is(err, session.ErrNotFound) && !s.opts.FailDead {
		return nil
	}
	return wrap("set", err)
}

// about tells how long a session lasts whose key does not say so.
func (s *Storage) about(k session.Key) (about unversioned.About) {
	if k.Bucket == 0 {
		about.Lifetime = s.opts.Lifetime
	}
	return about
}

// same compares the values of sessions as Fiber encodes them: gob writes maps in any
// order. Version 3 has values by any key, version 2 by strings.
func same[V any](a, b []byte) bool {
	var was, is V
	return gob.NewDecoder(bytes.NewReader(a)).Decode(&was) == nil && gob.NewDecoder(bytes.NewReader(b)).Decode(&is) == nil &&
		reflect.DeepEqual(was, is)
}

// Delete is DeleteWithContext.
func (s *Storage) Delete(key string) error { return s.DeleteWithContext(context.Background(), key) }

// DeleteWithContext ends a session for good: a Set of the same key makes none. It is no
// error if there is none.
func (s *Storage) DeleteWithContext(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil || key == "" {
		return wrap("delete", err)
	}
	k := s.keyOf(key)
	var err error
	if s.both != nil {
		_, err = s.both.Delete(ctx, key, k)
	} else {
		_, err = s.kept.Destroy(ctx, k)
	}
	return wrap("delete", err)
}

// Reset is ResetWithContext.
func (s *Storage) Reset() error { return s.ResetWithContext(context.Background()) }

// atOnce is how many sessions Reset ends in one call.
const atOnce = 500

// ResetWithContext ends all sessions of this Storage's Name, and no other sessions on the
// store. It reads all of them. The error is errors.ErrUnsupported if the session.Store is
// no session.Lister. It resets Options.Old too, with all that this holds.
func (s *Storage) ResetWithContext(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return wrap("reset", err)
	}
	var keys []session.Key
	end := func() error {
		_, err := s.kept.Destroy(ctx, keys...)
		keys = keys[:0]
		return err
	}
	for rec, err := range s.kept.All(ctx) {
		data, here := places.Here(rec.Data)
		if err == nil && here && bytes.HasPrefix(data, []byte(s.mark)) {
			keys = append(keys, rec.Key)
		}
		if err == nil && len(keys) == atOnce {
			err = end()
		}
		if err != nil {
			return wrap("reset", err)
		}
	}
	if err := end(); err != nil || s.both == nil {
		return wrap("reset", err)
	}
	return wrap("reset", oldStorage{s.opts.Old}.reset(ctx))
}

// Close does nothing, as the session.Store stays the caller's to close.
func (s *Storage) Close() error { return nil }

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("fiberstore: %s: %w", op, err)
}
