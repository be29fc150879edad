package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// view is a session as callers see it. Its key is no secret.
type view struct {
	Node     string         `json:"node"`
	Key      string         `json:"key"`
	User     string         `json:"user"`
	Label    string         `json:"label"`
	Values   map[string]any `json:"values"`
	Version  int64          `json:"version"`
	Created  time.Time      `json:"created"`
	Expires  time.Time      `json:"expires"`
	Deadline time.Time      `json:"deadline"`
	// Conflicts is how often the Manager had to make a change again, to what
	// others had saved meanwhile.
	Conflicts int `json:"conflicts,omitempty"`
}

func (s *server) view(r *http.Request, sess *session.Session) (view, error) {
	info := sess.Info()
	v := view{
		Node: s.conf.Name, Key: info.Key, User: info.User, Label: info.Label, Values: map[string]any{},
		Created: info.Created, Expires: info.Expires, Deadline: info.Deadline,
	}
	v.Version, v.Conflicts = notesOf(r.Context())
	for _, key := range sess.Keys() {
		value, err := session.Get[any](sess, key)
		if err != nil {
			return v, err
		}
		v.Values[key] = value
	}
	return v, nil
}

// me answers with the session; with fresh=1 as the database has it.
func (s *server) me(_ http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	if r.FormValue("fresh") != "" {
		if err := sess.Reload(r.Context()); err != nil {
			return nil, err
		}
	}
	return s.view(r, sess)
}

// login believes everybody. With keep=1 it lasts when the browser is closed.
func (s *server) login(_ http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	user := r.FormValue("user")
	if user == "" {
		return nil, badRequest("who? /login with a field user=alice")
	}
	login := session.Login{Label: strings.TrimSpace(r.FormValue("label"))}
	if login.Label == "" {
		login.Label = deviceOf(r.UserAgent())
	}
	if r.FormValue("keep") != "" {
		policy := session.PolicyRememberMe()
		login.Policy = &policy
	}
	if err := sess.Login(r.Context(), user, login); err != nil {
		return nil, err
	}
	if err := tell(r, sess, "You are logged in as "+user+"."); err != nil {
		return nil, err
	}
	return s.view(r, sess)
}

// set does not care who else changes the session: the Manager merges.
func (s *server) set(_ http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	key, value := r.FormValue("key"), r.FormValue("value")
	if key == "" {
		return nil, badRequest("what? /set with fields key=colour and value=blue")
	}
	if err := sess.Set(key, value); err != nil {
		return nil, err
	}
	return s.save(r, sess)
}

// count adds one to a number: of two requests at once, both do.
func (s *server) count(_ http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	key := r.FormValue("key")
	if key == "" {
		return nil, badRequest("what? /count with a field key=clicks")
	}
	if _, err := session.Get[int](sess, key); err != nil {
		return nil, badRequest("what has this key is no number")
	}
	if err := session.Update(sess, key, func(n int) int { return n + 1 }); err != nil {
		return nil, err
	}
	return s.save(r, sess)
}

// save saves now, to tell what came of it: a session that has ended meanwhile
// stays so.
func (s *server) save(r *http.Request, sess *session.Session) (any, error) {
	if err := sess.Save(r.Context()); err != nil {
		return nil, err
	}
	return s.view(r, sess)
}

// touch postpones the idle timeout now; with later=1 without waiting for the
// database, where that is possible. The Manager does so by itself, with the
// first request after a minute.
func (s *server) touch(_ http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	touch := s.store.Touch
	if r.FormValue("later") != "" && s.memory != nil {
		touch = s.memory.TouchLater
	}
	expires, err := touch(r.Context(), sess.Key(), s.store.Now().Add(idleTimeout))
	if err != nil {
		return nil, err
	}
	v, err := s.view(r, sess)
	v.Expires = expires
	return v, err
}

// renew gives the session a new ID. For the grace period, which is for requests
// that are under way, the old one leads to it.
func (s *server) renew(_ http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	grace, err := duration(r.FormValue("grace"), session.MaxGrace)
	if err != nil {
		return nil, badRequest("grace: " + err.Error())
	}
	if err := sess.Renew(r.Context(), grace); err != nil {
		return nil, err
	}
	return s.view(r, sess)
}

// slow reads the session, says so (102, as an upload takes long), waits for ms
// milliseconds and for the end of the request's body, and only then saves it,
// under a key of the caller's choice.
func (s *server) slow(w http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	query := r.URL.Query()
	ms, err := strconv.Atoi("0" + query.Get("ms"))
	if err != nil || ms > int(slowLimit/time.Millisecond) {
		return nil, badRequest("ms is not a number of milliseconds up to " + strconv.Itoa(int(slowLimit/time.Millisecond)))
	}
	key := query.Get("key")
	if key == "" {
		key = "slow"
	}
	if r.ProtoAtLeast(1, 1) {
		w.WriteHeader(http.StatusProcessing)
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, badRequest("the body is incomplete or longer than " + strconv.Itoa(bodyLimit) + " bytes")
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
	if err := sess.Set(key, string(text)); err != nil {
		return nil, err
	}
	return s.save(r, sess)
}

// ended is the answer of those that end sessions.
type ended struct {
	Ended int64 `json:"ended"`
}

// logout ends the session; with nodes=all it answers once no node can serve it,
// which is always so where none answers from its memory.
func (s *server) logout(_ http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	end := sess.Logout
	if r.FormValue("nodes") == "all" && s.memory != nil {
		end = sess.DestroyOnAllNodes
	}
	if err := end(r.Context()); err != nil {
		return nil, err
	}
	return ended{1}, nil
}

// logoutAll ends all sessions of the user.
func (s *server) logoutAll(_ http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	n, err := s.manager.RevokeUser(r.Context(), sess.User())
	return ended{n}, err
}

// list shows the user's sessions.
func (s *server) list(_ http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	return s.manager.Sessions(r.Context(), sess.User())
}

// revoke ends the session of the user that key names, as in the list. Those of
// others are as good as none.
func (s *server) revoke(_ http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	err := s.manager.Revoke(r.Context(), sess.User(), r.FormValue("key"))
	if errors.Is(err, session.ErrNotFound) {
		return nil, errNoDevice
	}
	if err != nil {
		return nil, err
	}
	return ended{1}, tell(r, sess, "That device is logged out.")
}

// revokeOthers ends all sessions of the user but this.
func (s *server) revokeOthers(_ http.ResponseWriter, r *http.Request, sess *session.Session) (any, error) {
	n, err := s.manager.RevokeOthers(r.Context())
	if err != nil {
		return nil, err
	}
	return ended{n}, tell(r, sess, "Logged out elsewhere: "+strconv.FormatInt(n, 10)+".")
}

// duration reads a duration from 0 to most; without a unit, it is in seconds.
func duration(text string, most time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil {
		return 0, errors.New("not a duration such as 5s")
	}
	if d < 0 || d > most {
		return 0, errors.New("it must be from 0s to " + most.String())
	}
	return d, nil
}
