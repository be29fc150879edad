// Package gorillastore keeps the sessions of github.com/gorilla/sessions in a
// session.Store: those of gorilla's own users, and of echo-contrib. For gin-contrib
// there is package ginstore.
//
// The cookie is this module's. It holds a session.ID, which has 256 random bits and
// needs no signature, and the version that the answer has saved, so that the next node
// shows that or a later one. Its name has the prefix __Host-, as long as Options allow.
//
// What has ended stays dead: a Save that comes after that is session.ErrNotFound. All
// values of a session are written at once, so of two requests that change different
// ones at the same time, the last one wins. No store of gorilla's can mend that.
package gorillastore

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/sessions"

	"github.com/sojourn-go/sojourn/adapters/internal/unversioned"
	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/session"
)

// Config are a Store's settings. The zero Config works.
type Config struct {
	// Codec makes the bytes of a session's values. nil is Gob.
	Codec Codec
	// IdleTimeout is how long a session lasts that is not saved again, where its
	// cookie has no MaxAge. 0 is a day.
	IdleTimeout time.Duration
	// Lifetime is how long a session may last from its first Save, however often it
	// is saved. 0 is the longest lifetime of the session.Store, or 30 days if
	// the store does not tell.
	Lifetime time.Duration
	// Old is the store that the application had before, with the same names. With it
	// sessions move from there without a logout, as Phase says. A session moves with its
	// first Save, and its user's browser gets our cookie for it. A cookie of Old must not
	// be valid for longer than a session of the session.Store may last, or one that has
	// ended could move once more: that is so of CookieStore. The session.Store has to be
	// a session.Explainer. nil is none.
	Old sessions.Store
	// Phase is Beside or Move. There is no way back to the old program for a session
	// that has moved, as that program does not know the cookie.
	Phase moving.Phase
}

// Store is a sessions.Store. All methods may be called concurrently.
type Store struct {
	// Options are those of new sessions, and say what the cookie is like. New sets
	// them to a cookie of 30 days for all paths of the host, Secure, HttpOnly and
	// with SameSite Lax. Change them before the first request. What is Secure or
	// HttpOnly here stays so, whatever a session's own Options say. SameSite 0 is Lax.
	//
	// The cookie's name is that of the session with a prefix in front. It is
	// __Host- if these Options are Secure, for Path / and no Domain; then the Path,
	// Domain and Secure of a session's own Options do not count. It is __Secure-
	// if they are Secure, and else there is none.
	Options *sessions.Options

	kept  *unversioned.Store
	cfg   Config
	moved atomic.Uint64
}

var _ sessions.Store = (*Store)(nil)

// New makes a Store. The session.Store stays the caller's to close. The error is
// errors.ErrUnsupported if that store is no session.Putter.
func New(store session.Store, cfg Config) (*Store, error) {
	kept, err := unversioned.New(store)
	if err != nil {
		return nil, wrap("new", err)
	}
	for field, d := range map[string]time.Duration{"IdleTimeout": cfg.IdleTimeout, "Lifetime": cfg.Lifetime} {
		if d < 0 {
			return nil, fmt.Errorf("gorillastore: %w: Config.%s is %v; it must not be negative", session.ErrInvalid, field, d)
		}
	}
	if err := cfg.checkOld(kept); err != nil {
		return nil, err
	}
	const month = 30 * 24 * time.Hour
	cfg.Lifetime = cmp.Or(cfg.Lifetime, kept.Longest(), month)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, 24*time.Hour)
	if cfg.Codec == nil {
		cfg.Codec = Gob{}
	}
	options := &sessions.Options{Path: "/", MaxAge: int(month / time.Second), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	return &Store{Options: options, kept: kept, cfg: cfg}, nil
}

// Get implements sessions.Store: it returns the session that the request has under that
// name, the same for each call of the request.
func (s *Store) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(s, name)
}

// New implements sessions.Store. The session is new if the request's cookie names no
// live one. With an error, which says that the session cannot be read, it is new and
// empty too.
func (s *Store) New(r *http.Request, name string) (*sessions.Session, error) {
	made := sessions.NewSession(s, name)
	options := *s.Options
	made.Options, made.IsNew = &options, true
	rec, id, err := s.find(r, name)
	if err == nil && id.IsZero() && s.cfg.Old != nil {
		made, err = s.newFromOld(r, made)
	}
	if err != nil || id.IsZero() {
		return made, wrap("new", err)
	}
	if err := s.cfg.Codec.Decode(rec.Data, made.Values); err != nil {
		clear(made.Values)
		return made, fmt.Errorf("gorillastore: new: %w: %w", session.ErrUndecodable, err)
	}
	made.ID, made.IsNew = id.Secret(), false
	return made, nil
}

// mostTried is how many cookies of a name are looked up.
const mostTried = 4

// find returns the live session that the request came with; the zero ID is none.
func (s *Store) find(r *http.Request, name string) (session.Record, session.ID, error) {
	for _, c := range s.sent(r, name) {
		key := keyOf(name, c.id)
		rec, err := s.kept.Since(r.Context(), key, c.version)
		switch {
		case err == nil && rec.Key == key:
			return rec, c.id, nil
		case err != nil && !errors.Is(err, session.ErrNotFound):
			return rec, session.ID{}, err
		}
	}
	return session.Record{}, session.ID{}, nil
}

// keyOf binds an ID to the name of its session.
func keyOf(name string, id session.ID) session.Key { return unversioned.KeyOf("gorilla:"+name, id) }

// sent is a cookie that may be ours.
type sent struct {
	id      session.ID
	version int64 // that the browser was told of; 0 is none
}

// A cookie is an ID, or an ID, a tilde and a version.
const (
	versionMark = "~"
	versionBase = 36
)

func (s *Store) sent(r *http.Request, name string) (all []sent) {
	for _, c := range r.CookiesNamed(s.cookieName(name)) {
		text, version, _ := strings.Cut(c.Value, versionMark)
		id, err := session.ParseID(text)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(version, versionBase, 64)
		if err != nil {
			n = 0
		}
		if all = append(all, sent{id, n}); len(all) == mostTried {
			break
		}
	}
	return all
}

// Save implements sessions.Store. It sets the cookie, and postpones the expiry to
// Options.MaxAge from now. With a negative MaxAge it ends the session and clears the
// cookie. Values that are the same are not written; see the package unversioned for how
// often an expiry is.
//
// A session whose ID is empty gets a new one. If the request came with a live session,
// that is replaced and dead from then on: an application that sets ID to "" at a
// login needs nothing else against session fixation.
//
// Save is session.ErrNotFound if the session has ended since it was read, and then
// leaves the cookie alone.
func (s *Store) Save(r *http.Request, w http.ResponseWriter, saved *sessions.Session) error {
	if done, err := s.saveAside(r, w, saved); done || err != nil {
		return wrap("save", err)
	}
	if saved.Options.MaxAge < 0 {
		return wrap("save", s.end(r, w, saved))
	}
	data, err := s.cfg.Codec.Encode(saved.Values)
	if err != nil {
		return wrap("save", err)
	}
	id, rec := session.ID{}, session.Record{}
	if saved.ID == "" {
		id, rec, err = s.begin(r, saved, data)
	} else if id, err = session.ParseID(saved.ID); err == nil {
		rec, err = s.kept.Write(r.Context(), unversioned.Write{
			Key: keyOf(saved.Name(), id), Data: data, Exists: true, Lasts: s.lasts(saved),
			Same: func(was []byte) bool { return s.same(was, data) },
		})
	}
	if err != nil {
		return wrap("save", err)
	}
	s.give(w, saved, id, rec)
	return nil
}

// give has the browser keep the ID of a session that was saved.
func (s *Store) give(w http.ResponseWriter, saved *sessions.Session, id session.ID, rec session.Record) {
	saved.ID = id.Secret()
	value := saved.ID
	if s.kept.Lags() {
		value += versionMark + strconv.FormatInt(rec.Version, versionBase)
	}
	s.setCookie(w, saved, value)
}

// same compares values: gob writes maps in any order.
func (s *Store) same(a, b []byte) bool {
	was, is := map[any]any{}, map[any]any{}
	return s.cfg.Codec.Decode(a, was) == nil && s.cfg.Codec.Decode(b, is) == nil && reflect.DeepEqual(was, is)
}

// lasts is for how long the session lasts if it is not saved again.
func (s *Store) lasts(saved *sessions.Session) time.Duration {
	if age := saved.Options.MaxAge; age > 0 {
		return time.Duration(age) * time.Second
	}
	return s.cfg.IdleTimeout
}

// begin makes a session with a new ID, in place of the one that the request came with.
func (s *Store) begin(r *http.Request, saved *sessions.Session, data []byte) (session.ID, session.Record, error) {
	replaced, old, err := s.find(r, saved.Name())
	for again := true; err == nil; again = false {
		if !saved.IsNew && old.IsZero() {
			err = session.ErrNotFound // it has ended since it was read
			break
		}
		now := s.kept.Now()
		deadline := now.Add(s.cfg.Lifetime)
		id := session.NewID(deadline)
		rec := session.Record{
			Key: keyOf(saved.Name(), id), Version: replaced.Version, Deadline: deadline, Data: data,
			Expires: now.Add(min(s.lasts(saved), s.cfg.Lifetime)),
		}
		if old.IsZero() {
			rec, err = s.kept.Create(r.Context(), rec)
		} else {
			rec, err = s.kept.Renew(r.Context(), keyOf(saved.Name(), old), rec, 0)
		}
		switch {
		case err == nil:
			return id, rec, nil
		case errors.Is(err, session.ErrConflict): // another request has saved it
			replaced, err = s.kept.Fresh(r.Context(), keyOf(saved.Name(), old))
		case again && errors.Is(err, session.ErrDeadline): // the store has read its clock anew
			err = nil
		}
	}
	return session.ID{}, session.Record{}, err
}

// end ends the session, also if it could not be read.
func (s *Store) end(r *http.Request, w http.ResponseWriter, saved *sessions.Session) error {
	var keys []session.Key
	for _, c := range s.sent(r, saved.Name()) {
		keys = append(keys, keyOf(saved.Name(), c.id))
	}
	if id, err := session.ParseID(saved.ID); err == nil {
		keys = append(keys, keyOf(saved.Name(), id))
	}
	if _, err := s.kept.Destroy(r.Context(), keys...); err != nil {
		return err
	}
	s.setCookie(w, saved, "")
	return nil
}

func (s *Store) setCookie(w http.ResponseWriter, saved *sessions.Session, value string) {
	options := *saved.Options
	if s.onlyHost() {
		options.Path, options.Domain, options.Secure = "/", "", true
	} else if options.MaxAge < 0 { // those who log out often say no more than that
		options.Path, options.Domain = cmp.Or(options.Path, s.Options.Path), cmp.Or(options.Domain, s.Options.Domain)
	}
	options.Secure = options.Secure || s.Options.Secure // the name may say so
	options.HttpOnly = options.HttpOnly || s.Options.HttpOnly
	options.SameSite = cmp.Or(options.SameSite, http.SameSiteLaxMode)
	http.SetCookie(w, sessions.NewCookie(s.cookieName(saved.Name()), value, &options))
	w.Header().Set("Cache-Control", "no-store")
}

func (s *Store) onlyHost() bool {
	return s.Options.Secure && s.Options.Path == "/" && s.Options.Domain == ""
}

func (s *Store) cookieName(name string) string {
	switch {
	case s.onlyHost():
		return "__Host-" + name
	case s.Options.Secure:
		return "__Secure-" + name
	}
	return name
}

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("gorillastore: %s: %w", op, err)
}
