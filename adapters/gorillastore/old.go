package gorillastore

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/gorilla/sessions"

	"github.com/sojourn-go/sojourn/adapters/internal/unversioned"
	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/internal/redacted"
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

// origin is what a request without a cookie of ours came with.
type origin struct {
	old *sessions.Session // as the old store gives it
	err error             // of the old store
	// key is how our store knows an old session, zero if the request has no old cookie. A
	// session that moves is first a claim under that key, and then renewed to an ID of
	// ours, so that parallel requests find it for a while. Whoever finds a claim asks the
	// old store once more, and decides by a write at the claim's version.
	key   session.Key
	rec   session.Record // a claim, or the session that it was renewed to; zero if neither
	ended bool           // it has ended in our store
}

// originOf looks for the session that a request has in the old store.
func (s *Store) originOf(r *http.Request, name string) (o origin, err error) {
	if err := s.askOld(r, name, &o); err != nil {
		return o, err
	}
	cookie, none := r.Cookie(name)
	if none != nil {
		return o, nil
	}
	if s.cookieName(name) == name && len(s.sent(r, name)) > 0 { // it is ours
		o.err = nil
		return o, nil
	}
	id := o.old.ID
	if id == "" { // the session is in its cookie
		id = cookie.Value
	}
	o.key = session.ForeignKey("gorilla-old:"+name, id)
	rec, err := s.kept.Fresh(r.Context(), o.key)
	switch {
	case err == nil:
		o.rec = rec
	case !errors.Is(err, session.ErrNotFound):
		return o, err
	case session.FateOf(err) != session.FateUnknown:
		o.ended = true
	}
	if o.isClaim() {
		return o, s.askOld(r, name, &o)
	}
	return o, nil
}

// askOld reads the session of the old store.
func (s *Store) askOld(r *http.Request, name string, o *origin) error {
	var err error
	if o.old, err = s.cfg.Old.New(r, name); o.old == nil {
		return fmt.Errorf("%w: Config.Old has returned no session: %w", session.ErrInvalid, hushed(err))
	}
	if o.err = hushed(err); errors.Is(err, fs.ErrNotExist) || errors.Is(err, sql.ErrNoRows) {
		o.err = nil // so some stores say that there is none
	}
	if o.old.Options == nil {
		options := *s.Options
		o.old.Options = &options
	}
	return nil
}

// hushed is an error of the old store, which may tell a session ID: that of gorilla's
// FilesystemStore has it in the name of a file.
func hushed(err error) error {
	if err == nil {
		return nil
	}
	return redacted.Because("Config.Old failed; why is not told, as that may tell a session ID", err)
}

func (o origin) isClaim() bool { return !o.rec.Key.IsZero() && o.rec.Key.Hash == o.key.Hash }

// isThere reports whether the old store has the session, unless it has ended in ours.
func (o origin) isThere() bool {
	return !o.key.IsZero() && !o.ended && o.err == nil && !o.old.IsNew
}

// movingID is the ID of a session that has none of ours yet, so that one which the
// application has emptied tells of a login.
const movingID = "moving"

// newFromOld is New for a request without a session of ours. made is an empty one.
func (s *Store) newFromOld(r *http.Request, made *sessions.Session) (*sessions.Session, error) {
	o, err := s.originOf(r, made.Name())
	if err == nil && o.isClaim() && !o.isThere() && o.err == nil {
		o.rec, err = s.kept.Fresh(r.Context(), o.key) // it may be ours meanwhile
		if errors.Is(err, session.ErrNotFound) || err == nil && o.isClaim() {
			return made, nil
		}
	}
	if err != nil {
		return made, err
	}
	if s.cfg.Phase == moving.Beside {
		options := *o.old.Options
		made.Options = &options
	}
	switch {
	case !o.rec.Key.IsZero() && !o.isClaim():
		if err := s.cfg.Codec.Decode(o.rec.Data, made.Values); err != nil {
			clear(made.Values)
			return made, fmt.Errorf("%w: %w", session.ErrUndecodable, err)
		}
		made.ID, made.IsNew = movingID, false
	case o.ended:
	case o.isThere():
		made.Values, made.IsNew, made.ID = o.old.Values, false, movingID
		if s.cfg.Phase == moving.Beside && o.rec.Key.IsZero() {
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
	const mostTurns = 10
	for range mostTurns { // parallel requests move the session too
		if done, err = s.saveOld(r, w, saved); !isOthers(err) {
			return done, err
		}
	}
	return true, fmt.Errorf("%w: other requests move the session", session.ErrConflict)
}

// isOthers reports whether a step failed since another request was faster.
func isOthers(err error) bool {
	return errors.Is(err, session.ErrExists) || errors.Is(err, session.ErrConflict)
}

// errAgain says that a step was taken, and that the session is to be looked for again.
var errAgain = fmt.Errorf("%w: look again", session.ErrConflict)

var errEnded = fmt.Errorf("%w: it has ended since it was read", session.ErrNotFound)

// saveOld is Save for a request without a session of ours. Its error is one of isOthers if
// the session was moved meanwhile.
func (s *Store) saveOld(r *http.Request, w http.ResponseWriter, saved *sessions.Session) (done bool, err error) {
	o, err := s.originOf(r, saved.Name())
	login := saved.ID == ""
	switch {
	case err != nil:
		return true, err
	case saved.Options.MaxAge < 0 && !o.key.IsZero():
		return true, s.endOld(r, w, saved, o)
	case o.isClaim() && o.err == nil && o.old.IsNew:
		return true, s.refute(r, o)
	case o.isClaim() && o.err == nil:
		return true, s.replace(r, w, saved, o)
	case !o.rec.Key.IsZero() && !o.isClaim() && login:
		return true, s.replace(r, w, saved, o)
	case !o.rec.Key.IsZero() && !o.isClaim(): // another request has got the cookie
		return true, s.saveAs(r, o.rec.Key, saved)
	case o.err != nil && !saved.IsNew:
		return true, o.err
	case o.isThere() && s.cfg.Phase == moving.Move:
		if err := s.claim(r, o.key); err != nil {
			return true, err
		}
		return true, errAgain
	case !o.isThere() && !saved.IsNew && !o.key.IsZero():
		return true, errEnded
	case s.cfg.Phase == moving.Beside:
		return true, s.saveBeside(r, w, saved, o)
	}
	return false, nil
}

// saveBeside writes to the old store, and looks afterwards whether the session has moved
// or ended meanwhile.
func (s *Store) saveBeside(r *http.Request, w http.ResponseWriter, saved *sessions.Session, o origin) error {
	if err := s.cfg.Old.Save(r, w, saved); err != nil || o.key.IsZero() || o.ended {
		return hushed(err)
	}
	_, err := s.kept.Fresh(r.Context(), o.key)
	switch {
	case err == nil:
		return errAgain
	case !errors.Is(err, session.ErrNotFound):
		return err
	case session.FateOf(err) != session.FateUnknown:
		return cmp.Or(s.endThere(r, w, o), errEnded)
	}
	return nil
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

// claim puts an old session into our store, for as long as that can keep it dead.
func (s *Store) claim(r *http.Request, key session.Key) error {
	err := session.ErrDeadline
	for range 2 { // a store that refuses a deadline has read its clock anew
		if !errors.Is(err, session.ErrDeadline) {
			break
		}
		_, err = s.kept.Create(r.Context(), session.Record{Key: key, Deadline: s.kept.Deadline(key, 0)})
	}
	return err
}

// refute ends a claim: the old store does not have the session any more.
func (s *Store) refute(r *http.Request, o origin) error {
	rec := o.rec
	rec.Expires = rec.Created.Add(-time.Minute) // so that this Save ends it
	if _, err := s.kept.Save(r.Context(), rec); err != nil {
		return err
	}
	return errEnded
}

// parallel is for how long requests are served that were sent with the old cookie.
const parallel = time.Minute

// replace gives a session an ID and a cookie of ours. If it was a claim, the old one ends.
func (s *Store) replace(r *http.Request, w http.ResponseWriter, saved *sessions.Session, o origin) error {
	data, err := s.cfg.Codec.Encode(saved.Values)
	if err != nil {
		return err
	}
	grace := parallel
	if saved.ID == "" { // whoever knows the old cookie may not be who logs in
		grace = 0
	}
	now := s.kept.Now()
	deadline := now.Add(s.cfg.Lifetime)
	id := session.NewID(deadline)
	rec, err := s.kept.Renew(r.Context(), o.rec.Key, session.Record{
		Key: keyOf(saved.Name(), id), Version: o.rec.Version, Deadline: deadline, Data: data,
		Expires: now.Add(min(s.lasts(saved), s.cfg.Lifetime)),
	}, grace)
	if err != nil {
		return err
	}
	defer func() { s.give(w, saved, id, rec) }() // after the old cookie is cleared
	if !o.isClaim() {
		return nil
	}
	s.moved.Add(1)
	return s.endThere(r, w, o)
}

// endThere ends the session in the old store, which also clears its cookie.
func (s *Store) endThere(r *http.Request, w http.ResponseWriter, o origin) error {
	ended, options := *o.old, *o.old.Options
	options.MaxAge, ended.Options = -1, &options
	return hushed(s.cfg.Old.Save(r, w, &ended))
}

// endOld ends a session in both places, so that no slow request brings it back, and in
// the old one also if ours cannot be reached.
func (s *Store) endOld(r *http.Request, w http.ResponseWriter, saved *sessions.Session, o origin) (err error) {
	if o.rec.Key.IsZero() && o.isThere() {
		if err = s.claim(r, o.key); errors.Is(err, session.ErrExists) {
			err = nil
		}
	}
	if err == nil {
		_, err = s.kept.Destroy(r.Context(), o.key)
	}
	return errors.Join(err, s.endThere(r, w, o), s.end(r, w, saved))
}
