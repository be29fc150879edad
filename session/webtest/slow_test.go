package webtest

import (
	"net/http"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Of requests that take their time: what they began with may have ended.

// slow is a session on two nodes while one of its requests is under way.
type slow struct {
	*web
	home, away *node
	b          *browser
	user       string
	key        session.Key
}

// meanwhile ends that session. What it leaves in the browser is another one,
// of that user, or none if user is empty.
type meanwhile struct {
	name string
	end  func(s *slow)
	left func(s *slow) (user string)
}

func nobody(*slow) string { return "" }

func themselves(s *slow) string { return s.user }

var meanwhiles = []meanwhile{
	{name: "a logout in the same browser", left: nobody, end: func(s *slow) { s.b.visit(s.home, logout) }},
	{name: "a logout on another node", left: nobody, end: func(s *slow) { s.b.visit(s.away, logout) }},
	{name: "a renewal without grace", left: themselves, end: func(s *slow) { s.b.visit(s.home, renewed(0)) }},
	{name: "a renewal on another node", left: themselves, end: func(s *slow) { s.b.visit(s.away, renewed(0)) }},
	{name: "a login without a logout", left: themselves, end: func(s *slow) {
		s.b.visit(s.home, func(v *visit) { v.login(s.user) })
	}},
	{name: "the login of another user", left: func(s *slow) string { return s.user + "2" }, end: func(s *slow) {
		s.b.visit(s.away, func(v *visit) { v.login(s.user + "2") })
	}},
	{name: "a logout and a new login", left: themselves, end: func(s *slow) {
		s.b.visit(s.home, logout)
		s.b.visit(s.home, func(v *visit) { v.login(s.user) })
	}},
	{name: "a logout and a new session without a user", left: nobody, end: func(s *slow) {
		s.b.visit(s.away, logout)
		s.b.visit(s.away, func(v *visit) { v.set("new", true) })
	}},
	{name: "its expiry", left: nobody, end: func(s *slow) { s.expire(s.key) }},
	{name: "RevokeUser", left: nobody, end: func(s *slow) {
		if n, err := s.away.m.RevokeUser(s.ctx, s.user); n != 1 || err != nil {
			s.Errorf("RevokeUser = %d, %v; want 1, nil", n, err)
		}
	}},
	{name: "RevokeOthers", left: nobody, end: func(s *slow) {
		other, _ := s.home.loggedIn(s.user)
		other.visit(s.home, func(v *visit) {
			if n, err := v.m.RevokeOthers(v.r.Context()); n != 1 || err != nil {
				v.Errorf("RevokeOthers = %d, %v; want 1, nil", n, err)
			}
		})
	}},
}

func renewed(grace time.Duration) func(*visit) {
	return func(v *visit) {
		v.must("Renew", v.s.Renew(v.r.Context(), grace))
		v.must("Save", v.s.Save(v.r.Context()))
	}
}

// begun makes a session that both nodes have read.
func (w *web) begun() *slow {
	w.Helper()
	opts := session.Options{TouchInterval: -1}
	s := &slow{web: w, home: w.serve(0, opts), away: w.serve(1, opts), user: w.unique("user")}
	s.b, s.key = s.home.loggedIn(s.user)
	s.b.silent(s.home, func(v *visit) { v.set("before", true) })
	s.b.look(s.away)
	return s
}

func slowCases() []webCase {
	var cases []webCase
	for _, m := range meanwhiles {
		cases = append(cases,
			webCase{name: "a slow request that changes the session does nothing after " + m.name, protocols: both,
				run: func(w *web) { slowWrite(w.begun(), m, nothing) }},
			webCase{name: "a slow request that saves is told of " + m.name, protocols: onlyHTTP,
				run: func(w *web) { slowWrite(w.begun(), m, toldOfTheEnd) }},
			webCase{name: "a slow request that only reads does nothing after " + m.name, protocols: both,
				run: func(w *web) { slowRead(w.begun(), m) }},
			webCase{name: "an answer under way does nothing after " + m.name, protocols: both,
				run: func(w *web) { slowAnswer(w.begun(), m) }},
		)
	}
	return cases
}

func toldOfTheEnd(v *visit) {
	v.refused("Save", v.s.Save(v.r.Context()), session.ErrNotFound)
	v.refused("another Save", v.s.Save(v.r.Context()), session.ErrNotFound)
}

func slowWrite(s *slow, m meanwhile, save func(*visit)) {
	p := s.b.begin(s.home, func(v *visit) { v.set("late", true) }, func(v *visit) {
		save(v)
		v.say("done")
	})
	s.endedBy(p, m)
	dropped := s.home.events(session.EventSaveDropped)
	if len(dropped) != 1 || dropped[0].Key != s.key || dropped[0].User != s.user {
		s.Errorf("dropped saves: %+v; want that of the slow request", dropped)
	}
}

// slowRead has a touch due.
func slowRead(s *slow, m meanwhile) {
	p := s.b.begin(s.home, nothing, func(v *visit) {
		want(v, "before", true)
		v.say("done")
	})
	s.endedBy(p, m)
	s.home.happened(0, session.EventSaveDropped)
	s.home.happened(0, session.EventTouchFailed)
}

// slowAnswer has begun its answer when the session ends.
func slowAnswer(s *slow, m meanwhile) {
	p := s.b.begin(s.home, func(v *visit) {
		v.say("do")
		v.must("Flush", http.NewResponseController(v.rw).Flush())
		v.set("late", true)
	}, func(v *visit) { v.say("ne") })
	s.endedBy(p, m)
	s.home.happened(1, session.EventSaveDropped)
	s.home.happened(0, session.EventSaveFailed)
}

// endedBy lets a request go on when its session has ended.
func (s *slow) endedBy(p *pending, m meanwhile) {
	s.Helper()
	m.end(s)
	cookie, starts := s.b.cookie(s.home), s.home.starts()
	r := p.finish()
	if s.home.starts() != starts {
		s.Error("the slow request has created or renewed a session")
	}
	if r.status != http.StatusOK || r.body != "done" {
		s.Errorf("the slow answer is %d %q; want the handler's", r.status, r.body)
	}
	if len(r.set()) > 0 {
		s.Error("the slow answer sets a cookie")
	}
	if s.b.cookie(s.home) != cookie {
		s.Error("the browser has another cookie after the slow answer")
	}
	s.eventuallyGone(s.key)
	left := s.b.look(s.home)
	if want := m.left(s); left.user != want || left.has("late") || left.key == s.key {
		s.Errorf("what is left is %+v; want a session of %q, if any, without the late change", left, want)
	}
}
