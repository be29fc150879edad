// Package places keeps sessions in two places while an application moves from an old
// store to this module's: see the package moving. It is for frameworks whose tokens stay
// the same.
//
// The new store decides where a session is, and knows it by what it has under the key:
//
//	nothing     the session is in the old store, if it is anywhere
//	in old      the same, for it was given back
//	coming      it is moving here; whoever finds that brings it along
//	data        it is here
//	leaving     it is here, and one node is giving it back
//	dead        it has ended, whatever the old store still has
//
// Each step from one line to another is a Save at the version that was read, or a Create.
// So one node does it, and the others look again. The old store can only be read and
// overwritten. So what is written there while a session is coming could be missed: the
// writer looks again afterwards, and writes it here then.
package places

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
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
	// Lasts tells for how long a session that moves lasts if it is not used; 0 is until
	// its deadline. nil is 0.
	Lasts func(data []byte) time.Duration
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

// place is where a session is, as the new store says.
type place int

const (
	nowhere place = iota // it has ended
	inOld                // if it is anywhere
	coming
	inNew
	leaving
)

// What the new store has in place of a session's data, or in front of it.
var (
	noteInOld   = []byte("\x00in the old store")
	noteComing  = []byte("\x00coming from the old store")
	markLeaving = []byte("\x00leaving for the old store ") // and when, in seconds, and the data
)

const stampLen = 8

// leavesFor is how long a node may take to give a session back. After that another one
// tries.
const leavesFor = time.Minute

// stand is what the new store says of a session.
type stand struct {
	at    place
	rec   session.Record // of the new store, zero if it has none
	data  []byte         // as the framework has made them, inNew and leaving
	since time.Time      // leaving
}

type getter func(context.Context, session.Key) (session.Record, error)

func (s *Store) where(ctx context.Context, key session.Key, get getter) (stand, error) {
	if key.Bucket != 0 && !s.sessions.Now().Before(endOf(key)) {
		return stand{}, nil // the old store may have postponed the end that the key tells
	}
	rec, err := get(ctx, key)
	switch {
	case errors.Is(err, session.ErrNotFound) && session.FateOf(err) == session.FateUnknown:
		return stand{at: inOld}, nil
	case errors.Is(err, session.ErrNotFound), err == nil && rec.Key.Hash != key.Hash: // it was renewed
		return stand{}, nil
	case err != nil:
		return stand{}, err
	}
	found := stand{at: inNew, rec: rec}
	found.rec.Key = key
	data, ok := rec.Data, true
	if bytes.Equal(data, noteInOld) {
		found.at = inOld
	} else if bytes.Equal(data, noteComing) {
		found.at = coming
	} else if rest, leaves := bytes.CutPrefix(data, markLeaving); leaves && len(rest) >= stampLen {
		found.at, found.since = leaving, time.Unix(int64(binary.BigEndian.Uint64(rest)), 0)
		data = rest[stampLen:]
	}
	if found.at == inNew || found.at == leaving {
		if found.data, ok = s.form.Unwrap(data); !ok {
			return stand{}, nil // it is not this framework's
		}
	}
	return found, nil
}

// Here returns the data of a record of the new store as Form.Wrap has made them. It is
// false for a session that is not there.
func Here(data []byte) ([]byte, bool) {
	if rest, ok := bytes.CutPrefix(data, markLeaving); ok && len(rest) >= stampLen {
		return rest[stampLen:], true
	}
	return data, !bytes.Equal(data, noteInOld) && !bytes.Equal(data, noteComing)
}

// mostTurns is how often a call looks again because other nodes move the session.
const mostTurns = 10

// errMoving says that a call has looked again too often.
var errMoving = fmt.Errorf("%w: other nodes move the session all the time", session.ErrConflict)

// isOthers reports whether a step failed since another node has changed the session.
func isOthers(err error) bool {
	return errors.Is(err, session.ErrExists) || errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound)
}

// errAgain says that a step was taken, and that the session is to be looked for again.
var errAgain = fmt.Errorf("%w: look again", session.ErrConflict)

// Find returns a live session's data as the framework has made them, and moves the
// session if that is due.
func (s *Store) Find(ctx context.Context, token string, key session.Key) ([]byte, bool, error) {
	get := s.sessions.Get
	for range mostTurns {
		found, err := s.where(ctx, key, get)
		if err != nil || found.at == nowhere {
			return nil, false, err
		}
		data, ok, err := s.findIn(ctx, found, token, key)
		if !isOthers(err) {
			return data, ok, err
		}
		get = s.sessions.Fresh
	}
	return nil, false, errMoving
}

// findIn is Find for a session that was there a moment ago. Its error is one of isOthers
// if it was moved since.
func (s *Store) findIn(ctx context.Context, found stand, token string, key session.Key) ([]byte, bool, error) {
	switch {
	case found.at == coming:
		return s.bring(ctx, token, found.rec)
	case s.phase == moving.Return && (found.at == inNew || found.at == leaving && s.sessions.Now().Sub(found.since) > leavesFor):
		return s.giveBack(ctx, token, found)
	case found.at != inOld:
		return found.data, true, nil
	}
	data, ok, err := s.old.Find(ctx, token)
	switch {
	case err != nil:
		return nil, false, err
	case !ok: // it may have moved since
		if now, err := s.where(ctx, key, s.sessions.Fresh); err != nil || now.at == inOld || now.at == nowhere {
			return nil, false, err
		}
		return nil, false, errAgain
	case s.phase != moving.Move:
		return data, true, nil
	}
	if err := s.announce(ctx, token, key, found.rec, data); err != nil {
		return nil, false, err
	}
	return nil, false, errAgain
}

// announce has all nodes know that a session is coming. data are for what does not
// change of it: its user and its deadline.
func (s *Store) announce(ctx context.Context, token string, key session.Key, note session.Record, data []byte) error {
	if note.Key.IsZero() {
		about, err := s.form.About(token, data)
		if err != nil {
			return err
		}
		_, err = s.create(ctx, session.Record{Key: key, Data: noteComing, User: about.User}, about.Lifetime)
		return err
	}
	note.Data = noteComing
	_, err := s.sessions.Save(ctx, note)
	return err
}

// bring takes a session that is coming out of the old store, with its data as they are
// there now. If it is not there any more, it has ended.
func (s *Store) bring(ctx context.Context, token string, rec session.Record) ([]byte, bool, error) {
	data, ok, err := s.old.Find(ctx, token)
	if err != nil {
		return nil, false, err
	}
	lasts := time.Duration(0)
	if ok && s.form.Lasts != nil {
		lasts = s.form.Lasts(data)
	}
	if !ok || lasts < 0 {
		rec.Expires = rec.Created.Add(-time.Minute) // so that this Save ends it
		_, err := s.sessions.Save(ctx, rec)
		return nil, false, err
	}
	rec.Data, rec.Expires = s.form.Wrap(token, data), rec.Deadline
	if lasts > 0 {
		rec.Expires = s.sessions.Now().Add(lasts)
	}
	if _, err := s.sessions.Save(ctx, rec); err != nil {
		return nil, false, err
	}
	if err := s.old.Delete(ctx, token); err != nil {
		return nil, false, fmt.Errorf("end what has moved: %w", err)
	}
	s.moved.Add(1)
	return data, true, nil
}

// giveBack takes a session to the old store. Until it is known to be there it stays in the
// new one, and one node at a time writes it to the old one: a later one would overwrite
// what the old program has written since.
func (s *Store) giveBack(ctx context.Context, token string, found stand) ([]byte, bool, error) {
	now := s.sessions.Now()
	lasts := found.rec.Expires.Sub(now)
	if lasts <= 0 {
		return nil, false, nil
	}
	rec, note := found.rec, bytes.Clone(markLeaving)
	note = binary.BigEndian.AppendUint64(note, uint64(now.Unix()))
	rec.Data = append(note, s.form.Wrap(token, found.data)...)
	rec, err := s.sessions.Save(ctx, rec)
	if err != nil {
		return nil, false, err
	}
	if err := s.old.Commit(ctx, token, found.data, lasts); err != nil {
		return nil, false, err
	}
	rec.Data, rec.Expires = noteInOld, rec.Deadline
	switch _, err = s.sessions.Save(ctx, rec); {
	case errors.Is(err, session.ErrNotFound): // it has ended meanwhile
		return nil, false, s.old.Delete(ctx, token)
	case err != nil:
		return nil, false, err
	}
	s.returned.Add(1)
	return found.data, true, nil
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

// endOf is when the last session of a bucket has ended.
func endOf(key session.Key) time.Time { return time.Unix(int64(key.Bucket)*3600, 0) }

// IsInOld reports whether a session is in the old store if it is anywhere.
func (s *Store) IsInOld(ctx context.Context, key session.Key) (bool, error) {
	found, err := s.where(ctx, key, s.sessions.Get)
	return found.at == inOld || found.at == coming, err
}

// Commit writes a session where it is, a new one where new ones begin. data are the
// framework's, of which w is what the new store would be given. One that has ended is
// session.ErrNotFound.
func (s *Store) Commit(ctx context.Context, token string, data []byte, w unversioned.Write) error {
	found, err := s.where(ctx, w.Key, s.sessions.Get)
	if err != nil {
		return err
	}
	brings := found.at == coming || found.at == inOld && !found.rec.Key.IsZero() // from the old store
	if found.at == inOld && s.phase != moving.Move {
		if _, err := w.About(found.rec.Key.IsZero()); err != nil {
			return err
		}
		if err := s.old.Commit(ctx, token, data, w.Lasts); err != nil {
			return err
		}
		if found, err = s.where(ctx, w.Key, s.sessions.Fresh); err != nil || found.at == inOld {
			return err
		}
		brings = true // for another node has moved or ended it meanwhile
	}
	err = session.ErrNotFound
	if found.at != nowhere {
		_, err = s.sessions.Write(ctx, w)
	}
	if !brings || err != nil && !errors.Is(err, session.ErrNotFound) {
		return err
	}
	return cmp.Or(s.old.Delete(ctx, token), err)
}

// Delete ends a session in both places, and in the old one also if the new one cannot be
// reached. It returns how many were live in the new one.
func (s *Store) Delete(ctx context.Context, token string, key session.Key) (n int64, err error) {
	found, err := s.where(ctx, key, s.sessions.Get)
	if err == nil && found.at == inOld && found.rec.Key.IsZero() {
		err = s.bury(ctx, token, key)
	}
	if err == nil {
		n, err = s.sessions.Destroy(ctx, key)
	}
	return n, errors.Join(err, s.old.Delete(ctx, token))
}

// bury has the new store know of a session of the old one, so that it can end there. A
// slow request of the old program may bring back what ends in the old store only.
func (s *Store) bury(ctx context.Context, token string, key session.Key) error {
	data, ok, err := s.old.Find(ctx, token)
	if err != nil || !ok {
		return err
	}
	about, err := s.form.About(token, data)
	if err != nil {
		about = unversioned.About{} // what cannot be read is ended all the same
	}
	if _, err := s.create(ctx, session.Record{Key: key, Data: noteInOld}, about.Lifetime); !errors.Is(err, session.ErrExists) {
		return err
	}
	return nil
}
