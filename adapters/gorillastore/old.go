package gorillastore

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/sessions"

	"github.com/sojourn-go/sojourn/adapters/internal/unversioned"
	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/session"
)

// Progress tells how many sessions this node has moved from Config.Old.
func (s *Store) Progress() moving.Progress { return moving.Progress{Moved: s.moved.Load()} }

func (c Config) checkOld(kept *unversioned.Store) error {
	if c.Old == nil {
		return nil
	}
	if _, ok := kept.Store.(session.Explainer); !ok {
		return fmt.Errorf("gorillastore: Config.Old needs a store that is a session.Explainer: %w", errors.ErrUnsupported)
	}
	switch c.Phase {
	case moving.Beside, moving.Move:
		return nil
	case moving.Return:
		return fmt.Errorf("gorillastore: Config.Phase is Return, but a session that has moved has another cookie: %w", errors.ErrUnsupported)
	}
	return fmt.Errorf("gorillastore: %w: Config.Phase is %v; it must be Beside or Move", session.ErrInvalid, c.Phase)
}

// origin is what a request without a session of ours came with.
type origin struct {
	old *sessions.Session // as the old store gives it
	err error             // of the old store
	// key is how our store knows an old session: it is claimed under that key, and then
	// renewed to an ID of ours, so that parallel requests find it for a while. Zero: the
	// request has no old cookie.
	key session.Key
	rec session.Record // of ours, unless it is unknown or has ended
	// known says that ours has it, ended that it has ended there.
	known, ended bool
}

// originOf looks for the session that a request has in the old store.
func (s *Store) originOf(r *http.Request, name string) (origin, error) {
	old, err := s.cfg.Old.New(r, name)
	if old == nil {
		return origin{}, fmt.Errorf("%w: Config.Old has returned no session: %w", session.ErrInvalid, err)
	}
	o := origin{old: old, err: err}
	cookie, none := r.Cookie(name)
	if none != nil {
		return o, nil
	}
	if s.cookieName(name) == name && len(s.sent(r, name)) > 0 { // it is ours
		o.err = nil
		return o, nil
	}
	id := old.ID
	if id == "" { // the session is in its cookie
		id = cookie.Value
	}
	o.key = session.ForeignKey("gorilla-old:"+name, id)
	rec, err := s.kept.Get(r.Context(), o.key)
	switch {
	case err == nil:
		o.rec, o.known = rec, true
	case !errors.Is(err, session.ErrNotFound):
		return o, err
	case session.FateOf(err) != session.FateUnknown:
		o.ended = true
	}
	return o, nil
}

// isInOld reports whether the old store has it, and ours knows nothing of it.
func (o origin) isInOld() bool {
	return !o.key.IsZero() && !o.known && !o.ended && o.err == nil && !o.old.IsNew
}

// newFromOld is New for a request without a session of ours. made is an empty one.
func (s *Store) newFromOld(r *http.Request, made *sessions.Session) (*sessions.Session, error) {
	o, err := s.originOf(r, made.Name())
	if err != nil {
		return made, err
	}
	if s.cfg.Phase == moving.Beside {
		options := *o.old.Options
		made.Options = &options
	}
	switch {
	case o.known:
		if err := s.cfg.Codec.Decode(o.rec.Data, made.Values); err != nil {
			clear(made.Values)
			return made, fmt.Errorf("%w: %w", session.ErrUndecodable, err)
		}
		made.IsNew = false
	case o.ended:
	case o.isInOld():
		made.Values, made.IsNew = o.old.Values, false
		if s.cfg.Phase == moving.Beside {
			made.ID = o.old.ID
		}
	default:
		return made, o.err
	}
	return made, nil
}

// saveAside is Save where the old store has to do with it. It reports whether there is
// nothing left to do.
func (s *Store) saveAside(r *http.Request, w http.ResponseWriter, saved *sessions.Session) (done bool, err error) {
	if s.cfg.Old == nil {
		return false, nil
	}
	_, id, err := s.find(r, saved.Name())
	if err != nil || !id.IsZero() {
		return false, err
	}
	if _, err := session.ParseID(saved.ID); err == nil { // this request has made it
		return false, nil
	}
	return s.saveOld(r, w, saved)
}

// saveOld is Save for a request without a session of ours.
func (s *Store) saveOld(r *http.Request, w http.ResponseWriter, saved *sessions.Session) (done bool, err error) {
	const mostTurns = 10
	for range mostTurns { // parallel requests move the session too
		o, err := s.originOf(r, saved.Name())
		switch {
		case err != nil:
			return true, err
		case saved.Options.MaxAge < 0 && !o.key.IsZero():
			return true, s.endOld(r, w, saved, o)
		case o.known && o.rec.Key.Hash != o.key.Hash: // another request has got the cookie
			return true, s.saveAs(r, o.rec.Key, saved)
		case o.known:
			return true, s.replace(r, w, saved, o)
		case o.isInOld() && s.cfg.Phase == moving.Move:
			moved, err := s.move(r, w, saved, o)
			if moved || err != nil {
				return true, err
			}
		case !o.isInOld() && !saved.IsNew && !o.key.IsZero():
			return true, fmt.Errorf("%w: it has ended since it was read", session.ErrNotFound)
		case s.cfg.Phase == moving.Beside:
			return true, s.cfg.Old.Save(r, w, saved)
		default:
			return false, nil
		}
	}
	return true, fmt.Errorf("%w: other requests move the session", session.ErrConflict)
}

// saveAs writes the session of a key.
func (s *Store) saveAs(r *http.Request, key session.Key, saved *sessions.Session) error {
	data, err := s.cfg.Codec.Encode(saved.Values)
	if err != nil {
		return err
	}
	_, err = s.kept.Write(r.Context(), unversioned.Write{
		Key: key, Data: data, Exists: true, Lasts: s.lasts(saved),
		Same: func(was []byte) bool { return s.same(was, data) },
	})
	return err
}

// claim makes the old session's record in our store.
func (s *Store) claim(r *http.Request, key session.Key, data []byte) (rec session.Record, err error) {
	err = session.ErrDeadline
	for range 2 { // a store that refuses a deadline has read its clock anew
		if !errors.Is(err, session.ErrDeadline) {
			break
		}
		rec, err = s.kept.Create(r.Context(), session.Record{Key: key, Data: data, Deadline: s.kept.Now().Add(s.cfg.Lifetime)})
	}
	return rec, err
}

// move makes an old session ours, unless another request is faster.
func (s *Store) move(r *http.Request, w http.ResponseWriter, saved *sessions.Session, o origin) (moved bool, err error) {
	data, err := s.cfg.Codec.Encode(saved.Values)
	if err != nil {
		return false, err
	}
	o.rec, err = s.claim(r, o.key, data)
	if errors.Is(err, session.ErrExists) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if o.old, o.err = s.cfg.Old.New(r, saved.Name()); o.err != nil || o.old.IsNew { // it was ended there meanwhile
		if _, err := s.kept.Destroy(r.Context(), o.key); err != nil {
			return false, err
		}
		return false, fmt.Errorf("%w: it has ended in the old store", session.ErrNotFound)
	}
	return true, s.replace(r, w, saved, o)
}

// parallel is for how long requests are served that were sent with the old cookie.
const parallel = time.Minute

// replace gives a claimed session an ID and a cookie of ours, and ends the old one.
func (s *Store) replace(r *http.Request, w http.ResponseWriter, saved *sessions.Session, o origin) error {
	data, err := s.cfg.Codec.Encode(saved.Values)
	if err != nil {
		return err
	}
	now := s.kept.Now()
	deadline := now.Add(s.cfg.Lifetime)
	id := session.NewID(deadline)
	rec, err := s.kept.Renew(r.Context(), o.key, session.Record{
		Key: keyOf(saved.Name(), id), Version: o.rec.Version, Deadline: deadline, Data: data,
		Expires: now.Add(min(s.lasts(saved), s.cfg.Lifetime)),
	}, parallel)
	if errors.Is(err, session.ErrConflict) { // by a parallel request
		if rec, err = s.kept.Fresh(r.Context(), o.key); err == nil {
			return s.saveAs(r, rec.Key, saved)
		}
	}
	if err != nil {
		return err
	}
	s.moved.Add(1)
	if err := s.endThere(r, w, o); err != nil {
		return err
	}
	s.give(w, saved, id, rec)
	return nil
}

// endThere ends the session in the old store, which also clears its cookie.
func (s *Store) endThere(r *http.Request, w http.ResponseWriter, o origin) error {
	ended, options := *o.old, *o.old.Options
	options.MaxAge, ended.Options = -1, &options
	return s.cfg.Old.Save(r, w, &ended)
}

// endOld ends a session in both places, so that no slow request brings it back.
func (s *Store) endOld(r *http.Request, w http.ResponseWriter, saved *sessions.Session, o origin) error {
	if o.isInOld() {
		if _, err := s.claim(r, o.key, nil); err != nil && !errors.Is(err, session.ErrExists) {
			return err
		}
	}
	if _, err := s.kept.Destroy(r.Context(), o.key); err != nil {
		return err
	}
	if err := s.endThere(r, w, o); err != nil {
		return err
	}
	return s.end(r, w, saved)
}
