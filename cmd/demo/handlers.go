package main

import (
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

const clicks = "clicks" // the key of a number in a session

// view is a session as callers see it. Its key is no secret.
type view struct {
	Node    string    `json:"node"` // that answers
	User    string    `json:"user"`
	Clicks  int       `json:"clicks"`
	Label   string    `json:"label"`
	Handle  string    `json:"handle"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

func (s *server) view(sess *session.Session) (view, error) {
	n, err := session.Get[int](sess, clicks)
	info := sess.Info()
	return view{
		Node: s.conf.Name, User: info.User, Clicks: n, Label: info.Label,
		Handle: info.Handle, Created: info.Created, Expires: info.Expires,
	}, err
}

func (s *server) me(_ *http.Request, sess *session.Session) (any, error) { return s.view(sess) }

// login believes everybody.
func (s *server) login(r *http.Request, sess *session.Session) (any, error) {
	user := r.FormValue("user")
	if user == "" {
		return nil, &refusal{http.StatusBadRequest, "who? /login with a field user=alice"}
	}
	if err := sess.Login(r.Context(), user, session.Login{Label: r.FormValue("label")}); err != nil {
		return nil, err
	}
	if err := sess.Save(r.Context()); err != nil { // now, and not with the answer, which shows it
		return nil, err
	}
	return s.view(sess)
}

// count adds one to a number. The Manager merges what others change at the same
// time: of two requests at once, both count.
func (s *server) count(r *http.Request, sess *session.Session) (any, error) {
	if err := session.Update(sess, clicks, func(n int) int { return n + 1 }); err != nil {
		return nil, err
	}
	if err := sess.Save(r.Context()); err != nil { // now, and not after the answer, which tells the number
		return nil, err
	}
	return s.view(sess)
}

// ended is the answer of those that end sessions.
type ended struct {
	Ended int64 `json:"ended"`
}

// logout ends the session; with nodes=all it answers once no node can serve it,
// which is always so where none answers from its memory.
func (s *server) logout(r *http.Request, sess *session.Session) (any, error) {
	err := errors.ErrUnsupported
	if r.FormValue("nodes") == "all" {
		err = sess.DestroyOnAllNodes(r.Context())
	}
	if errors.Is(err, errors.ErrUnsupported) {
		err = sess.Logout(r.Context())
	}
	return ended{1}, err
}

// logoutAll ends all sessions of the user.
func (s *server) logoutAll(r *http.Request, sess *session.Session) (any, error) {
	n, err := s.manager.RevokeUser(r.Context(), sess.User())
	return ended{n}, err
}

// list shows the user's sessions.
func (s *server) list(r *http.Request, sess *session.Session) (any, error) {
	return collect(s.manager.Sessions(r.Context(), sess.User()))
}

// revoke ends the session of the user that handle names, as in the list. Those of
// others are as good as none.
func (s *server) revoke(r *http.Request, sess *session.Session) (any, error) {
	err := s.manager.Revoke(r.Context(), sess.User(), r.FormValue("handle"))
	if errors.Is(err, session.ErrNotFound) {
		return nil, &refusal{http.StatusNotFound, "there is no such session of yours"}
	}
	return ended{1}, err
}

// collect returns what a list has, and the error that ended it.
func collect[T any](list iter.Seq2[T, error]) (all []T, err error) {
	for one, err := range list {
		if err != nil {
			return all, err
		}
		all = append(all, one)
	}
	return all, nil
}
