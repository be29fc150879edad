package webtest

import (
	"bytes"
	"net/http"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Of renewals whose old ID still works for a while.

func graceCases() []webCase {
	return []webCase{
		{name: "in a grace period what a slow request changes goes to the successor", protocols: both, run: graceDelta},
		{name: "in a grace period a slow request that only reads changes nothing", protocols: both, run: graceRead},
		{name: "in a grace period old and new cookies are the same session", protocols: onlyHTTP, run: graceShared},
		{name: "a logout with the old cookie ends the successor", protocols: onlyHTTP, run: graceLogout},
		{name: "a login leaves no grace to the ID before", protocols: onlyHTTP, run: loginWithoutGrace},
		{name: "what a slow request changes does not go to another user", protocols: onlyHTTP, run: graceOfAnother},
	}
}

func graceDelta(w *web) {
	for _, i := range []int{0, 1} {
		s := w.begun()
		at := []*node{s.home, s.away}[i]
		p := s.b.begin(s.home, func(v *visit) { v.set("late", true) }, func(v *visit) { v.say("done") })
		s.b.visit(at, func(v *visit) {
			v.set("renewal", true)
			renewed(time.Minute)(v)
		})
		cookie := s.b.cookie(s.home)
		r := p.finish()
		if r.status != http.StatusOK || r.body != "done" || len(r.set()) > 0 || s.b.cookie(s.home) != cookie {
			s.Errorf("the slow answer is %d %q and sets %d cookies; want the handler's and none", r.status, r.body, len(r.set()))
		}
		s.home.happened(0, session.EventSaveDropped)
		left := s.b.look(s.away)
		if left.user != s.user || left.key == s.key || !left.has("before") || !left.has("renewal") || !left.has("late") {
			s.Errorf("the successor is %+v; want it with what all requests have set", left)
		}
	}
}

func graceRead(w *web) {
	s := w.begun()
	p := s.b.begin(s.home, nothing, func(v *visit) { want(v, "before", true) })
	s.b.visit(s.away, renewed(time.Minute))
	cookie := s.b.cookie(s.home)
	if r := p.finish(); len(r.set()) > 0 || s.b.cookie(s.home) != cookie {
		s.Error("the slow answer sets a cookie")
	}
	s.home.happened(0, session.EventTouchFailed)
	if left := s.b.look(s.home); left.user != s.user || left.key == s.key {
		s.Errorf("the successor is %+v", left)
	}
}

func graceShared(w *web) {
	s := w.begun()
	late := s.b.twin(s.home)
	old := late.cookie(s.home)
	s.b.visit(s.home, renewed(time.Minute))
	if s.b.cookie(s.home) == old {
		s.Fatal("the renewal gave no new cookie")
	}
	for i, n := range []*node{s.home, s.away} {
		late.silent(n, func(v *visit) {
			v.set([]string{"at home", "away"}[i], true)
			if v.s.User() != s.user {
				v.Errorf("the user by the old cookie is %q; want %q", v.s.User(), s.user)
			}
		})
	}
	if late.cookie(s.home) != old {
		s.Error("the browser has lost its old cookie")
	}
	if left := s.b.look(s.home); !left.has("before") || !left.has("at home") || !left.has("away") {
		s.Errorf("the successor is %+v; want it with what was set by the old cookie", left)
	}
}

func graceLogout(w *web) {
	s := w.begun()
	late := s.b.twin(s.home)
	s.b.visit(s.home, renewed(time.Minute))
	next := s.b.look(s.home).key
	late.visit(s.away, logout)
	if late.cookie(s.home) != "" {
		s.Error("the browser that logged out has a cookie")
	}
	s.eventuallyGone(s.key)
	s.eventuallyGone(next)
}

func loginWithoutGrace(w *web) {
	n := w.serve(0, session.Options{})
	b := w.browser()
	b.visit(n, func(v *visit) { v.set("cart", "book") })
	thief, old := b.twin(n), b.look(n).key
	b.visit(n, func(v *visit) {
		v.login(w.unique("user"))
		want(v, "cart", "book")
	})
	if found := thief.look(n); found.user != "" || !found.key.IsZero() {
		w.Fatalf("the ID from before the login leads to %+v", found)
	}
	w.eventuallyGone(old)
}

// graceOfAnother has a request that saves when its user has given the browser to
// another one.
func graceOfAnother(w *web) {
	s := w.begun()
	p := s.b.begin(s.home, func(v *visit) { v.set("late", "private") }, nothing)
	s.b.visit(s.home, renewed(time.Minute))
	s.b.visit(s.home, func(v *visit) { v.login(s.user + "2") })
	if r := p.finish(); len(r.set()) > 0 {
		s.Error("the slow answer sets a cookie")
	}
	s.home.happened(1, session.EventSaveDropped)
	if left := s.b.look(s.home); left.user != s.user+"2" || len(left.keys) > 0 {
		s.Errorf("the other user has %+v; want nothing of the first one", left)
	}

	// A manager leaves no grace to a login. Others that renew may.
	s = w.begun()
	p = s.b.begin(s.home, func(v *visit) { v.set("late", "private") }, nothing)
	next := s.live(s.key)
	next.User += "2"
	next.Key = session.NewID(next.Deadline).Key()
	next, err := s.s.Renew(s.ctx, s.key, next, time.Minute)
	if err != nil {
		s.Fatalf("Renew: %v", err)
	}
	if r := p.finish(); len(r.set()) > 0 {
		s.Error("the slow answer sets a cookie")
	}
	s.home.happened(1, session.EventSaveDropped)
	if left := s.live(next.Key); left.Version != next.Version || left.User != next.User || !bytes.Equal(left.Data, next.Data) {
		s.Errorf("the other user's session is %+v; want it as it was", left)
	}
}
