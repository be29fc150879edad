// Package places keeps sessions in two places while an application moves from an old
// store to this module's: see the package moving. It is for frameworks whose tokens stay
// the same.
//
// The new store decides where a session is. It is in the old one as long as the new one
// knows nothing of it, or has a note in its stead that says so. Each step that moves a
// session is one write to the new store, which fails if another node was faster. So a
// session is in one place at a time for all nodes that ask the new store first, and one
// that has ended stays dead whatever the old store still has.
package places

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/adapters/internal/unversioned"
	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/session"
)

// Old is a framework's store. Find and Delete know no expired sessions.
type Old interface {
	Find(ctx context.Context, token string) (data []byte, found bool, err error)
	// Commit keeps a session for as long as it lasts if it is not used, by any clock;
	// 0 is for as long as a session may, and less than that ends it.
	Commit(ctx context.Context, token string, data []byte, lasts time.Duration) error
	Delete(ctx context.Context, token string) error
}

// Form is how a framework's data stand in a record of the new store.
type Form struct {
	Wrap   func(token string, data []byte) []byte
	Unwrap func(data []byte) ([]byte, bool)
	// About tells what the new store has to know of a session that moves there.
	About func(token string, data []byte) (unversioned.About, error)
}

// Store is both places. All methods may be called concurrently.
type Store struct {
	sessions        *unversioned.Store
	old             Old
	phase           moving.Phase
	form            Form
	moved, returned atomic.Uint64
}

// New returns a Store. The error is session.ErrInvalid if there is no such phase, and
// errors.ErrUnsupported if the new store cannot tell what has ended from what never was.
func New(sessions *unversioned.Store, old Old, phase moving.Phase, form Form) (*Store, error) {
	if phase < moving.Beside || phase > moving.Return {
		return nil, fmt.Errorf("%w: Options.Phase is %v; it must be Beside, Move or Return", session.ErrInvalid, phase)
	}
	if _, ok := sessions.Store.(session.Explainer); !ok {
		return nil, fmt.Errorf("Options.Old needs a store that is a session.Explainer: %w", errors.ErrUnsupported)
	}
	return &Store{sessions: sessions, old: old, phase: phase, form: form}, nil
}

// Progress returns what this node has done.
func (s *Store) Progress() moving.Progress {
	return moving.Progress{Moved: s.moved.Load(), Returned: s.returned.Load()}
}

// place is where a session is.
type place int

const (
	nowhere place = iota // it has ended
	inOld
	inNew
)

// note stands in the new store for the data of a session that is in the old one.
var note = []byte("\x00in the old store")

type getter func(context.Context, session.Key) (session.Record, error)

// where returns the record of the new store too, which is a note or zero if the session
// is in the old one.
func (s *Store) where(ctx context.Context, key session.Key, get getter) (place, session.Record, error) {
	rec, err := get(ctx, key)
	switch {
	case errors.Is(err, session.ErrNotFound) && session.FateOf(err) == session.FateUnknown:
		return inOld, session.Record{}, nil
	case errors.Is(err, session.ErrNotFound), err == nil && rec.Key.Hash != key.Hash: // it was renewed
		return nowhere, session.Record{}, nil
	case err != nil:
		return nowhere, session.Record{}, err
	case bytes.Equal(rec.Data, note):
		return inOld, rec, nil
	}
	return inNew, rec, nil
}

// mostTurns is how often a call begins anew because other nodes move the session. A
// session that is moved to and fro by nodes in phases Move and Return comes to rest
// between two of its requests.
const mostTurns = 10

// errMoving says that a call has begun anew too often.
var errMoving = fmt.Errorf("%w: other nodes move the session to and fro", session.ErrConflict)

// Find returns a live session's data as the framework has made them, and moves the
// session if that is due.
func (s *Store) Find(ctx context.Context, token string, key session.Key) ([]byte, bool, error) {
	get := s.sessions.Get
	for range mostTurns {
		at, rec, err := s.where(ctx, key, get)
		if err != nil || at == nowhere {
			return nil, false, err
		}
		data, found, again, err := s.findIn(ctx, at, token, key, rec)
		switch {
		case err != nil:
			return nil, false, err
		case found:
			return data, true, nil
		case !again:
			return nil, false, nil
		}
		get = s.sessions.Fresh
	}
	return nil, false, errMoving
}

// findIn is Find for a session that was there a moment ago; again says that it may have
// been moved since.
func (s *Store) findIn(ctx context.Context, at place, token string, key session.Key, rec session.Record) (data []byte, found, again bool, err error) {
	if at == inNew {
		data, ok := s.form.Unwrap(rec.Data)
		if s.phase == moving.Return && ok {
			done, err := s.giveBack(ctx, token, rec, data)
			return data, done, !done, err
		}
		return data, ok, false, nil
	}
	data, found, err = s.old.Find(ctx, token)
	switch {
	case err != nil:
		return nil, false, false, err
	case !found:
		now, _, err := s.where(ctx, key, s.sessions.Fresh)
		return nil, false, now == inNew, err
	case s.phase != moving.Move:
		return data, true, false, nil
	}
	return s.take(ctx, token, key, rec, data)
}

// take moves a session to the new store. The data of what it returns may be later than
// those it was given.
func (s *Store) take(ctx context.Context, token string, key session.Key, rec session.Record, data []byte) (latest []byte, found, again bool, err error) {
	rec, err = s.claim(ctx, token, key, rec, data)
	if isOthers(err) {
		return nil, false, true, nil
	} else if err != nil {
		return nil, false, false, err
	}
	// Until now another node may have gone by what the new store said before.
	latest, found, err = s.old.Find(ctx, token)
	switch {
	case err != nil:
		return nil, false, false, err
	case !found:
		_, err := s.sessions.Destroy(ctx, key)
		return nil, false, false, err
	case !bytes.Equal(latest, data):
		rec.Key, rec.Data = key, s.form.Wrap(token, latest)
		if _, err := s.sessions.Save(ctx, rec); isOthers(err) {
			return nil, false, true, nil
		} else if err != nil {
			return nil, false, false, err
		}
	}
	if err := s.old.Delete(ctx, token); err != nil {
		return nil, false, false, fmt.Errorf("end what has moved: %w", err)
	}
	s.moved.Add(1)
	return latest, true, false, nil
}

// isOthers reports whether a write failed since another node has changed the session.
func isOthers(err error) bool {
	return errors.Is(err, session.ErrExists) || errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound)
}

// claim makes the session's record in the new store, unless there is one.
func (s *Store) claim(ctx context.Context, token string, key session.Key, rec session.Record, data []byte) (session.Record, error) {
	if !rec.Key.IsZero() { // a note
		rec.Key, rec.Data = key, s.form.Wrap(token, data)
		return s.sessions.Save(ctx, rec)
	}
	about, err := s.form.About(token, data)
	if err != nil {
		return session.Record{}, err
	}
	return s.create(ctx, session.Record{Key: key, Data: s.form.Wrap(token, data), User: about.User}, about.Lifetime)
}

func (s *Store) create(ctx context.Context, rec session.Record, lifetime time.Duration) (session.Record, error) {
	made, err := session.Record{}, session.ErrDeadline
	for range 2 { // a store that refuses a deadline has read its clock anew
		if !errors.Is(err, session.ErrDeadline) {
			break
		}
		rec.Deadline = s.deadline(rec.Key, lifetime)
		made, err = s.sessions.Create(ctx, rec)
	}
	return made, err
}

// deadline is that of a session that moves.
func (s *Store) deadline(key session.Key, lifetime time.Duration) time.Time {
	if longest := s.sessions.Longest(); longest > 0 {
		lifetime = min(max(lifetime, 0), longest)
	}
	return s.sessions.Deadline(key, lifetime)
}

// giveBack moves a session to the old store, and reports whether it has.
func (s *Store) giveBack(ctx context.Context, token string, rec session.Record, data []byte) (done bool, err error) {
	lasts := rec.Expires.Sub(s.sessions.Now())
	if lasts <= 0 {
		return false, nil
	}
	if err := s.old.Commit(ctx, token, data, lasts); err != nil {
		return false, err
	}
	rec.Data, rec.Expires = note, rec.Deadline
	_, err = s.sessions.Save(ctx, rec)
	switch {
	case err == nil:
		s.returned.Add(1)
		return true, nil
	case errors.Is(err, session.ErrNotFound): // it has ended meanwhile
		return false, s.old.Delete(ctx, token)
	case errors.Is(err, session.ErrConflict):
		return false, nil
	}
	return false, err
}

// IsInOld reports whether a session is in the old store if it is anywhere.
func (s *Store) IsInOld(ctx context.Context, key session.Key) (bool, error) {
	at, _, err := s.where(ctx, key, s.sessions.Get)
	return at == inOld, err
}

// Commit writes a session where it is, a new one where new ones begin. data are the
// framework's, of which w is what the new store would be given. One that has ended is
// session.ErrNotFound.
func (s *Store) Commit(ctx context.Context, token string, data []byte, w unversioned.Write) error {
	at, rec, err := s.where(ctx, w.Key, s.sessions.Get)
	switch {
	case err != nil:
		return err
	case at == nowhere:
		return session.ErrNotFound
	case at == inOld && s.phase != moving.Move:
		if _, err := w.About(rec.Key.IsZero()); err != nil {
			return err
		}
		return s.old.Commit(ctx, token, data, w.Lasts)
	}
	if _, err := s.sessions.Write(ctx, w); err != nil {
		return err
	}
	if at == inOld && !rec.Key.IsZero() {
		s.moved.Add(1)
		return s.old.Delete(ctx, token)
	}
	return nil
}

// Delete ends a session in both places. It returns how many were live in the new one.
func (s *Store) Delete(ctx context.Context, token string, key session.Key) (int64, error) {
	at, rec, err := s.where(ctx, key, s.sessions.Get)
	if err != nil {
		return 0, err
	}
	if at == inOld && rec.Key.IsZero() {
		if err := s.bury(ctx, token, key); err != nil {
			return 0, err
		}
	}
	n, err := s.sessions.Destroy(ctx, key)
	if err != nil {
		return n, err
	}
	return n, s.old.Delete(ctx, token)
}

// bury has the new store know of a session of the old one, so that it can end there. A
// slow request of the old program may bring back what ends in the old store only.
func (s *Store) bury(ctx context.Context, token string, key session.Key) error {
	data, found, err := s.old.Find(ctx, token)
	if err != nil || !found {
		return err
	}
	about, err := s.form.About(token, data)
	if err != nil {
		about = unversioned.About{} // what cannot be read is ended all the same
	}
	if _, err := s.create(ctx, session.Record{Key: key, Data: note}, about.Lifetime); !errors.Is(err, session.ErrExists) {
		return err
	}
	return nil
}
