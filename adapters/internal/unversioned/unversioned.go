// Package unversioned writes the sessions of frameworks that know no versions: what they
// write last counts, and a session that has ended stays dead.
package unversioned

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Store is what the adapters use of a session.Store. All methods may be called
// concurrently.
type Store struct {
	session.Store
	session.Putter
	users  session.UserIndex // nil if the store is none, as lister
	lister session.Lister
	now    func() time.Time
	touch  func(context.Context, session.Key, time.Time) (time.Time, error)
}

// New returns the Store of a store, which stays the caller's. The error is
// session.ErrInvalid if it is nil, and errors.ErrUnsupported if it is no Putter.
func New(store session.Store) (*Store, error) {
	if store == nil {
		return nil, fmt.Errorf("%w: the store is nil", session.ErrInvalid)
	}
	putter, ok := store.(session.Putter)
	if !ok {
		return nil, fmt.Errorf("the store is no session.Putter: %w", errors.ErrUnsupported)
	}
	s := &Store{Store: store, Putter: putter, now: func() time.Time { return time.Now().UTC() }, touch: store.Touch}
	s.users, _ = store.(session.UserIndex)
	s.lister, _ = store.(session.Lister)
	if clock, ok := store.(session.Clock); ok {
		s.now = clock.Now
	}
	if later, ok := store.(session.LateToucher); ok {
		s.touch = later.TouchLater
	}
	return s, nil
}

// Write is what a framework has kept of a session.
type Write struct {
	Key  session.Key
	Data []byte
	// Lasts is for how long the session lasts if it is not used. Zero is until its
	// deadline; negative ends it.
	Lasts time.Duration
	// Same reports whether the session's data say the same as Data, where the bytes
	// do not. nil is that they do not.
	Same func(data []byte) bool
	// About tells more of what is to be written, unless that is the Same. nil is
	// the zero About.
	About func(isNew bool) (About, error)
}

// About is what the store has to know of a session beside its data.
type About struct {
	// User is whose session it is. Empty keeps the user that it has.
	User string
	// Lifetime is how long a new session lasts in all. Zero is as long as the key
	// and the store allow.
	Lifetime time.Duration
}

// Write creates the session, or replaces the data of the live one. Where the data are
// the Same, it only moves the expiry, and that not more often than ten times in Lasts
// or once a minute. A session that has ended stays dead: that is session.ErrNotFound.
// It is session.ErrUserChanged if the live session has another user, or none.
//
// All times are counted from the store's clock, whatever the clock of this node says.
func (s *Store) Write(ctx context.Context, w Write) error {
	err := s.write(ctx, w)
	if errors.Is(err, session.ErrDeadline) { // the store has read its clock anew
		err = s.write(ctx, w)
	}
	return err
}

func (s *Store) write(ctx context.Context, w Write) error {
	rec, err := s.Get(ctx, w.Key)
	switch {
	case errors.Is(err, session.ErrNotFound) && w.Lasts < 0:
		return session.ErrNotFound
	case errors.Is(err, session.ErrNotFound):
		about, err := w.about(true)
		if err != nil {
			return err
		}
		return s.put(ctx, w, about)
	case err != nil:
		return err
	case rec.Key.Hash != w.Key.Hash: // it was renewed
		return session.ErrNotFound
	}
	now, expires := s.now(), rec.Deadline
	if lasts := now.Add(w.Lasts); w.Lasts != 0 && lasts.Before(expires) {
		expires = lasts
	}
	if w.same(rec.Data) {
		slack := max(min(expires.Sub(now)/10, time.Minute), 0)
		switch off := rec.Expires.Sub(expires); {
		case off < -slack:
			_, err = s.touch(ctx, w.Key, expires)
			return err
		case off <= slack:
			return nil
		} // else the framework's timeout is shorter than it was
	}
	about, err := w.about(false)
	switch {
	case err != nil:
		return err
	case about.User != "" && about.User != rec.User:
		return session.ErrUserChanged
	}
	rec.Data, rec.Expires = w.Data, expires
	_, err = s.Save(ctx, rec)
	if errors.Is(err, session.ErrConflict) { // another request was faster
		return s.put(ctx, w, about)
	}
	return err
}

func (w Write) about(isNew bool) (About, error) {
	if w.About == nil {
		return About{}, nil
	}
	return w.About(isNew)
}

func (w Write) same(data []byte) bool {
	return bytes.Equal(data, w.Data) || w.Same != nil && w.Same(data)
}

func (s *Store) put(ctx context.Context, w Write, about About) error {
	rec := session.Record{Key: w.Key, Data: w.Data, User: about.User}
	now := s.now()
	if w.Lasts != 0 {
		rec.Expires = now.Add(w.Lasts)
	}
	if about.Lifetime != 0 {
		rec.Deadline = now.Add(about.Lifetime)
	}
	_, err := s.Put(ctx, rec)
	return err
}

// All lists the live sessions of everybody who uses the store, as session.Lister does.
func (s *Store) All(ctx context.Context) iter.Seq2[session.Record, error] {
	if s.lister == nil {
		return func(yield func(session.Record, error) bool) {
			yield(session.Record{}, fmt.Errorf("the store is no session.Lister: %w", errors.ErrUnsupported))
		}
	}
	return s.lister.All(ctx)
}

// Users is the store's index of users. Its error is errors.ErrUnsupported if the store
// has none.
func (s *Store) Users() (session.UserIndex, error) {
	if s.users == nil {
		return nil, fmt.Errorf("the store is no session.UserIndex: %w", errors.ErrUnsupported)
	}
	return s.users, nil
}
