package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/sojourn-go/sojourn/pgstore"
	"github.com/sojourn-go/sojourn/session"
)

// A __Host- cookie would be the right one, but browsers take it over HTTPS
// only, and this is plain HTTP on the loopback interface. Cookies do not know
// ports: a browser that logs in on one node is logged in on all.
const cookieName = "demo_session"

const (
	lifetime    = 12 * time.Hour
	idleTimeout = 30 * time.Minute
)

// errNoSession says that a request has no live session.
var errNoSession = errors.New("not logged in")

// sessions ties requests to sessions: the cookie on one side, the store on the
// other.
type sessions struct {
	store *pgstore.Store
}

type values map[string]string

// load returns the session of a request.
func (s *sessions) load(r *http.Request) (session.Record, error) { return s.find(r, s.store.Get) }

// loadFresh is load from the database.
func (s *sessions) loadFresh(r *http.Request) (session.Record, error) {
	return s.find(r, s.store.GetFresh)
}

func (s *sessions) find(r *http.Request, get func(context.Context, session.Key) (session.Record, error)) (session.Record, error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return session.Record{}, errNoSession
	}
	id, err := session.ParseID(cookie.Value, s.store.Window())
	if err != nil {
		return session.Record{}, errNoSession
	}
	rec, err := get(r.Context(), id.Key())
	return rec, notLoggedIn(err)
}

func notLoggedIn(err error) error {
	if errors.Is(err, session.ErrNotFound) {
		return errNoSession
	}
	return err
}

// logIn begins a session. One that the browser had before is replaced: nobody
// who planted or knew its ID shall be logged in with the user (OWASP Session
// Management Cheat Sheet, "Renew the Session ID After Any Privilege Level
// Change").
func (s *sessions) logIn(w http.ResponseWriter, r *http.Request, user string) (session.Record, error) {
	for {
		old, err := s.load(r)
		if err != nil && !errors.Is(err, errNoSession) {
			return session.Record{}, err
		}
		id, rec := s.fresh(s.store.Now().Add(lifetime))
		rec.User, rec.Version = user, old.Version
		if err != nil {
			rec, err = s.store.Create(r.Context(), rec)
		} else {
			rec, err = s.store.Renew(r.Context(), old.Key, rec, 0)
		}
		if !old.Key.IsZero() && (errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound)) {
			continue // it was written or ended meanwhile
		}
		if err == nil {
			setCookie(w, id)
		}
		return rec, err
	}
}

// fresh is a new session, by the store's clock.
func (s *sessions) fresh(deadline time.Time) (session.ID, session.Record) {
	id := session.NewID(deadline)
	expires := s.store.Now().Add(idleTimeout)
	if expires.After(deadline) {
		expires = deadline
	}
	return id, session.Record{Key: id.Key(), Expires: expires, Deadline: deadline}
}

// change changes values of a session as it was loaded. Where somebody else has
// saved meanwhile, the change is made again to what they saved; conflicts says
// how often.
func (s *sessions) change(ctx context.Context, rec session.Record, do func(values)) (saved session.Record, conflicts int, err error) {
	key := rec.Key
	for {
		v, err := decode(rec)
		if err != nil {
			return rec, conflicts, err
		}
		do(v)
		if rec.Data, err = json.Marshal(v); err != nil {
			return rec, conflicts, err
		}
		rec.Expires = time.Time{} // as it is: it may have been touched since it was read
		saved, err := s.store.Save(ctx, rec)
		if !errors.Is(err, session.ErrConflict) {
			return saved, conflicts, notLoggedIn(err)
		}
		conflicts++
		select { // those who met here shall not meet again
		case <-time.After(rand.N(time.Millisecond * time.Duration(min(conflicts, 20)))):
		case <-ctx.Done():
			return rec, conflicts, context.Cause(ctx)
		}
		if rec, err = s.store.Get(ctx, key); err != nil {
			return rec, conflicts, notLoggedIn(err)
		}
	}
}

// touch postpones the idle timeout by touch, the store's Touch or TouchLater.
func (s *sessions) touch(r *http.Request, touch func(context.Context, session.Key, time.Time) (time.Time, error)) (rec session.Record, err error) {
	if rec, err = s.load(r); err != nil {
		return rec, err
	}
	rec.Expires, err = touch(r.Context(), rec.Key, s.store.Now().Add(idleTimeout))
	return rec, notLoggedIn(err)
}

// renew gives the session a new ID. For the grace period, which is for requests
// that are under way, the old one leads to it.
func (s *sessions) renew(w http.ResponseWriter, r *http.Request, grace time.Duration) (session.Record, error) {
	for {
		old, err := s.load(r)
		if err != nil {
			return old, err
		}
		id, rec := s.fresh(old.Deadline) // only a login makes it last longer
		rec.User, rec.Data, rec.Version = old.User, old.Data, old.Version
		rec, err = s.store.Renew(r.Context(), old.Key, rec, grace)
		if errors.Is(err, session.ErrConflict) {
			continue
		}
		if err == nil {
			setCookie(w, id)
		}
		return rec, notLoggedIn(err)
	}
}

// logOut ends the session by end, the store's Destroy or DestroyStrict.
func (s *sessions) logOut(w http.ResponseWriter, r *http.Request, end func(context.Context, ...session.Key) (int64, error)) (session.Record, error) {
	rec, err := s.load(r)
	if err != nil {
		return rec, err
	}
	if _, err = end(r.Context(), rec.Key); err == nil {
		clearCookie(w)
	}
	return rec, err
}

// logOutEverywhere ends all sessions of the user, and returns how many.
func (s *sessions) logOutEverywhere(w http.ResponseWriter, r *http.Request) (session.Record, int64, error) {
	rec, err := s.load(r)
	if err != nil {
		return rec, 0, err
	}
	ended, err := s.store.DestroyUser(r.Context(), rec.User)
	if err == nil {
		clearCookie(w)
	}
	return rec, ended, err
}

// revoke ends the sessions of the user that are named as in listings, and
// returns how many. Names of other users' sessions are as good as none.
func (s *sessions) revoke(r *http.Request, names []string) (session.Record, int64, error) {
	rec, err := s.load(r)
	if err != nil {
		return rec, 0, err
	}
	all, err := s.store.ListUser(r.Context(), rec.User)
	if err != nil {
		return rec, 0, err
	}
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	var keys []session.Key
	for _, one := range all {
		if wanted[one.Key.String()] {
			keys = append(keys, one.Key)
		}
	}
	ended, err := s.store.Destroy(r.Context(), keys...)
	return rec, ended, err
}

func decode(rec session.Record) (values, error) {
	v := values{}
	if len(rec.Data) == 0 {
		return v, nil
	}
	if err := json.Unmarshal(rec.Data, &v); err != nil {
		return nil, fmt.Errorf("the data of session %s: %w", rec.Key, err)
	}
	return v, nil
}

func setCookie(w http.ResponseWriter, id session.ID) { writeCookie(w, id.Secret(), 0) }

func clearCookie(w http.ResponseWriter) { writeCookie(w, "", -1) }

func writeCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, MaxAge: maxAge,
		Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}
