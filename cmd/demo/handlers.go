package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/session"
)

// view is a session as callers see it. Its key is no secret.
type view struct {
	Node     string            `json:"node"`
	Key      string            `json:"key"`
	User     string            `json:"user"`
	Values   map[string]string `json:"values"`
	Version  int64             `json:"version"`
	Created  time.Time         `json:"created"`
	Expires  time.Time         `json:"expires"`
	Deadline time.Time         `json:"deadline"`
	// Conflicts is how often a change had to be repeated.
	Conflicts int `json:"conflicts,omitempty"`
}

func (s *server) view(rec session.Record) (view, error) {
	v, err := decode(rec)
	return view{
		Node: s.conf.Name, Key: rec.Key.String(), User: rec.User, Values: v, Version: rec.Version,
		Created: rec.Created, Expires: rec.Expires, Deadline: rec.Deadline,
	}, err
}

func (s *server) event(what string, rec session.Record, more ...zap.Field) {
	s.log.Info(what, append(more, zap.String("user", rec.User), zap.Stringer("session", rec.Key))...)
}

// me answers with the session; with fresh=1 as the database has it.
func (s *server) me(_ http.ResponseWriter, r *http.Request) (any, error) {
	load := s.sessions.load
	if r.FormValue("fresh") != "" {
		load = s.sessions.loadFresh
	}
	rec, err := load(r)
	if err != nil {
		return nil, err
	}
	return s.view(rec)
}

func (s *server) login(w http.ResponseWriter, r *http.Request) (any, error) {
	user := r.FormValue("user")
	if user == "" {
		return nil, badRequest("who? /login?user=alice")
	}
	rec, err := s.sessions.logIn(w, r, user)
	if err != nil {
		return nil, err
	}
	s.event("logged in", rec)
	return s.view(rec)
}

func (s *server) set(_ http.ResponseWriter, r *http.Request) (any, error) {
	key, value := r.FormValue("key"), r.FormValue("value")
	if key == "" {
		return nil, badRequest("what? /set?key=colour&value=blue")
	}
	rec, err := s.sessions.load(r)
	if err != nil {
		return nil, err
	}
	return s.save(r.Context(), rec, key, value)
}

func (s *server) save(ctx context.Context, rec session.Record, key, value string) (any, error) {
	rec, conflicts, err := s.sessions.change(ctx, rec, func(v values) { v[key] = value })
	if err != nil {
		return nil, err
	}
	saved, err := s.view(rec)
	saved.Conflicts = conflicts
	return saved, err
}

// touch postpones the idle timeout; with later=1 without waiting for the
// database, where that is possible.
func (s *server) touch(_ http.ResponseWriter, r *http.Request) (any, error) {
	do := s.store.Touch
	if r.FormValue("later") != "" {
		do = s.store.TouchLater
	}
	rec, err := s.sessions.touch(r, do)
	if err != nil {
		return nil, err
	}
	return s.view(rec)
}

func (s *server) renew(w http.ResponseWriter, r *http.Request) (any, error) {
	grace, err := duration(r.FormValue("grace"), session.MaxGrace)
	if err != nil {
		return nil, badRequest("grace: " + err.Error())
	}
	rec, err := s.sessions.renew(w, r, grace)
	if err != nil {
		return nil, err
	}
	s.event("renewed", rec, zap.Stringer("grace", grace))
	return s.view(rec)
}

// slow reads the session, says so (102, as an upload takes long), waits for ms
// milliseconds and for the end of the request's body, and only then saves it.
func (s *server) slow(w http.ResponseWriter, r *http.Request) (any, error) {
	ms, err := strconv.Atoi("0" + r.URL.Query().Get("ms"))
	if err != nil || ms > int(slowLimit/time.Millisecond) {
		return nil, badRequest("ms is not a number of milliseconds up to " + strconv.Itoa(int(slowLimit/time.Millisecond)))
	}
	rec, err := s.sessions.load(r)
	if err != nil {
		return nil, err
	}
	if r.ProtoAtLeast(1, 1) {
		w.WriteHeader(http.StatusProcessing)
	}
	note, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, badRequest("the body is incomplete or longer than " + strconv.Itoa(bodyLimit) + " bytes")
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
	reply, err := s.save(r.Context(), rec, "slow", strings.ToValidUTF8(string(note), "?"))
	if errors.Is(err, errNoSession) {
		s.event("late save refused", rec)
	}
	return reply, err
}

// logout ends the session; with strict=1 it answers once no node can serve it.
func (s *server) logout(w http.ResponseWriter, r *http.Request) (any, error) {
	end := s.store.Destroy
	if r.FormValue("strict") != "" {
		end = s.store.DestroyStrict
	}
	rec, err := s.sessions.logOut(w, r, end)
	if err != nil {
		return nil, err
	}
	s.event("logged out", rec)
	return map[string]int64{"ended": 1}, nil
}

func (s *server) logoutAll(w http.ResponseWriter, r *http.Request) (any, error) {
	rec, ended, err := s.sessions.logOutEverywhere(w, r)
	if err != nil {
		return nil, err
	}
	s.event("logged out everywhere", rec, zap.Int64("ended", ended))
	return map[string]int64{"ended": ended}, nil
}

// revoke ends those sessions of the user that the fields key name.
func (s *server) revoke(_ http.ResponseWriter, r *http.Request) (any, error) {
	if err := r.ParseForm(); err != nil {
		return nil, badRequest("which? /revoke with fields key=…, of up to " + strconv.Itoa(listLimit) + " bytes in all")
	}
	rec, ended, err := s.sessions.revoke(r, r.Form["key"])
	if err != nil {
		return nil, err
	}
	s.event("revoked", rec, zap.Int64("ended", ended))
	return map[string]int64{"ended": ended}, nil
}

// device is one of the sessions of a user.
type device struct {
	Key     string    `json:"key"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	This    bool      `json:"this"` // the one that asks
}

func (s *server) list(_ http.ResponseWriter, r *http.Request) (any, error) {
	rec, err := s.sessions.load(r)
	if err != nil {
		return nil, err
	}
	all, err := s.store.ListUser(r.Context(), rec.User)
	if err != nil {
		return nil, err
	}
	devices := []device{}
	for _, other := range all {
		devices = append(devices, device{other.Key.String(), other.Created, other.Expires, other.Key == rec.Key})
	}
	return devices, nil
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
