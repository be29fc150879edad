// Package unversioned writes the sessions of frameworks that know no versions: what they
// write last counts, and a session that has ended stays dead.
package unversioned

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
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
	// Now is the time by which the store decides what is live.
	Now   func() time.Time
	since func(ctx context.Context, key session.Key, version int64) (session.Record, error)
	touch func(context.Context, session.Key, time.Time) (time.Time, error)
	// met are sessions that this node has found lately. A framework looks for a session
	// before it writes it, so one that is not met is most likely new.
	met [1 << 12]atomic.Uint64
}

// Get implements session.Store.
func (s *Store) Get(ctx context.Context, key session.Key) (session.Record, error) {
	rec, err := s.Store.Get(ctx, key)
	if err == nil {
		s.meet(key)
	}
	return rec, err
}

// meet notes that there is a session of key.
func (s *Store) meet(key session.Key) {
	mark, at := markOf(key)
	s.met[at%uint64(len(s.met))].Store(mark)
}

func (s *Store) hasMet(key session.Key) bool {
	mark, at := markOf(key)
	return s.met[at%uint64(len(s.met))].Load() == mark
}

func markOf(key session.Key) (mark, at uint64) {
	return binary.BigEndian.Uint64(key.Hash[:8]), binary.BigEndian.Uint64(key.Hash[8:16])
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
	s := &Store{Store: store, Putter: putter, Now: func() time.Time { return time.Now().UTC() }, touch: store.Touch}
	s.users, _ = store.(session.UserIndex)
	s.lister, _ = store.(session.Lister)
	if clock, ok := store.(session.Clock); ok {
		s.Now = clock.Now
	}
	if later, ok := store.(session.LateToucher); ok {
		s.touch = later.TouchLater
	}
	if versions, ok := store.(session.VersionGetter); ok && versions.Lag() > 0 {
		s.since = versions.GetVersion
	}
	return s, nil
}

// Write is what a framework has kept of a session.
type Write struct {
	Key  session.Key
	Data []byte
	// Exists says that there was a session when the request began, so that none is
	// created.
	Exists bool
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

// KeyOf returns the key of an ID that an adapter has made. scheme keeps it apart from
// what the same ID would be to a session.Manager, and to other adapters.
func KeyOf(scheme string, id session.ID) session.Key {
	return session.Key{Hash: session.ForeignKey(scheme, id.Secret()).Hash, Bucket: id.Key().Bucket}
}

// Fresh is Get past the node's memory.
func (s *Store) Fresh(ctx context.Context, key session.Key) (session.Record, error) {
	if f, ok := s.Store.(session.FreshGetter); ok {
		return f.GetFresh(ctx, key)
	}
	return s.Get(ctx, key)
}

// Longest is for how long a session that is made now may last in all; 0 means that the
// store does not tell.
func (s *Store) Longest() time.Duration {
	if clock, ok := s.Store.(session.Clock); ok {
		return clock.Longest()
	}
	return 0
}

// Lags reports whether a Get may return what another node has replaced.
func (s *Store) Lags() bool { return s.since != nil }

// Since is Get that returns no version before the given one, as the store may.
func (s *Store) Since(ctx context.Context, key session.Key, version int64) (session.Record, error) {
	if s.since == nil || version <= 0 {
		return s.Get(ctx, key)
	}
	return s.since(ctx, key, version)
}

// Write creates the session, or replaces the data of the live one. Where the data are
// the Same, it only moves the expiry, and that not more often than ten times in Lasts
// or once a minute. A session that has ended stays dead: that is session.ErrNotFound.
// It is session.ErrUserChanged if the live session has another user, or none.
// Write returns the session as it is then.
//
// All times are counted from the store's clock, whatever the clock of this node says.
func (s *Store) Write(ctx context.Context, w Write) (session.Record, error) {
	rec, err := s.write(ctx, w)
	if errors.Is(err, session.ErrDeadline) { // the store has read its clock anew
		rec, err = s.write(ctx, w)
	}
	return rec, err
}

func (s *Store) write(ctx context.Context, w Write) (session.Record, error) {
	none := session.Record{}
	if !s.hasMet(w.Key) && !w.Exists && w.Lasts >= 0 {
		rec, err := s.begin(ctx, w)
		if !errors.Is(err, session.ErrExists) {
			return rec, err
		}
	}
	rec, err := s.Get(ctx, w.Key)
	switch {
	case errors.Is(err, session.ErrNotFound) && (w.Exists || w.Lasts < 0):
		return none, session.ErrNotFound
	case errors.Is(err, session.ErrNotFound):
		about, err := w.about(true)
		if err != nil {
			return none, err
		}
		return s.put(ctx, w, about)
	case err != nil:
		return none, err
	case rec.Key.Hash != w.Key.Hash: // it was renewed
		return none, session.ErrNotFound
	}
	now, expires := s.Now(), rec.Deadline
	if lasts := now.Add(w.Lasts); w.Lasts != 0 && lasts.Before(expires) {
		expires = lasts
	}
	if w.same(rec.Data) {
		slack := max(min(expires.Sub(now)/10, time.Minute), 0)
		switch off := rec.Expires.Sub(expires); {
		case off < -slack:
			rec.Expires, err = s.touch(ctx, w.Key, expires)
			return rec, err
		case off <= slack:
			return rec, nil
		} // else the framework's timeout is shorter than it was
	}
	about, err := w.about(false)
	switch {
	case err != nil:
		return none, err
	case about.User != "" && about.User != rec.User:
		return none, session.ErrUserChanged
	}
	rec.Data, rec.Expires = w.Data, expires
	rec, err = s.Save(ctx, rec)
	if errors.Is(err, session.ErrConflict) { // another request was faster
		return s.put(ctx, w, about)
	}
	return rec, err
}

// begin creates the session, without a look whether there is one: a store that has to
// search for the key does that once then.
func (s *Store) begin(ctx context.Context, w Write) (session.Record, error) {
	about, err := w.about(true)
	if err != nil {
		return session.Record{}, err
	}
	rec := session.Record{Key: w.Key, Data: w.Data, User: about.User, Deadline: s.Deadline(w.Key, about.Lifetime)}
	if expires := s.Now().Add(w.Lasts); w.Lasts != 0 && expires.Before(rec.Deadline) {
		rec.Expires = expires
	}
	rec, err = s.Create(ctx, rec)
	if err == nil {
		s.meet(w.Key)
	}
	return rec, err
}

// Deadline is that of a new session which may last for lifetime in all; 0 is for as long
// as the key and the store allow.
func (s *Store) Deadline(key session.Key, lifetime time.Duration) time.Time {
	const month = 30 * 24 * time.Hour
	longest := s.Now().Add(cmp.Or(s.Longest(), month))
	switch {
	case key.Bucket != 0 && session.BucketOf(longest) == key.Bucket:
		return longest
	case key.Bucket != 0:
		return time.Unix(int64(key.Bucket)*3600, 0).UTC()
	case lifetime == 0:
		return longest
	}
	return s.Now().Add(lifetime)
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

func (s *Store) put(ctx context.Context, w Write, about About) (session.Record, error) {
	rec := session.Record{Key: w.Key, Data: w.Data, User: about.User}
	now := s.Now()
	if w.Lasts != 0 {
		rec.Expires = now.Add(w.Lasts)
	}
	if about.Lifetime != 0 {
		rec.Deadline = now.Add(about.Lifetime)
	}
	return s.Put(ctx, rec)
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
