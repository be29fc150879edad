package webtest

import (
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Of when sessions end. Where time has to pass it does, for several sessions at
// once: no more than needed.

func lifetimeCases() []webCase {
	return []webCase{
		{name: "sessions end when they are idle and at their deadline, by the policy of their login", protocols: onlyHTTP, run: ends},
		{name: "sessions that are used outlive their idle timeout, and their deadline where they have no absolute end", protocols: onlyHTTP, run: outlive},
		{name: "a session without a user ends early until its login or renewal", protocols: onlyHTTP, run: anonymousDeadline},
		{name: "a user is remembered later than the login, and requests under way lose nothing", protocols: both, run: rememberedLater},
		{name: "an expired session is not adopted, and told as such", protocols: both, run: expiredCookie},
	}
}

func ends(w *web) {
	const life = time.Second
	idle := w.serve(0, session.Options{Policy: session.Policy{IdleTimeout: life}})
	absolute := w.serve(1, session.Options{Policy: session.Policy{IdleTimeout: -1, AbsoluteTimeout: life}})
	left, leftKey := idle.loggedIn(w.unique("user"))
	used, usedKey := absolute.loggedIn(w.unique("user"))
	remembered := map[*node]*browser{idle: w.browser(), absolute: w.browser()}
	for n, b := range remembered {
		b.remember(n)
	}
	n := 0
	w.eventually("the session has reached its deadline, though it is used", func() (over bool) {
		used.silent(absolute, func(v *visit) {
			if over = v.s.User() == ""; !over {
				n++
				v.set("used", n)
			}
		})
		return over
	})
	w.eventuallyGone(usedKey)
	w.eventuallyGone(leftKey)
	left.silent(idle, func(v *visit) {
		if v.s.User() != "" || len(v.s.Keys()) > 0 {
			v.Errorf("the idle session has the user %q", v.s.User())
		}
	})
	for n, b := range remembered {
		if found := b.look(n); found.user == "" || !found.has("used") {
			w.Errorf("the session to be remembered is %+v; want it to last", found)
		}
	}
}

// remember logs a user in for as long as the store allows, and uses the session.
func (b *browser) remember(n *node) {
	b.Helper()
	lasting := session.Policy{IdleTimeout: -1, AbsoluteTimeout: longest, Persistent: true}
	r := b.visit(n, func(v *visit) {
		v.must("Login", v.loginAs(v.unique("user"), session.Login{Policy: &lasting}))
		if left := v.s.Info().Deadline.Sub(v.now()); left < longest-time.Hour {
			v.Errorf("the deadline is in %v; want %v", left, longest)
		}
	})
	if len(r.set()) != 1 || !strings.Contains(r.set()[0], "; Max-Age=") {
		b.Error("the cookie to be remembered is not persistent")
	}
	b.silent(n, func(v *visit) { v.set("used", true) })
}

func rememberedLater(w *web) {
	s := w.begun()
	lasting := session.Policy{IdleTimeout: -1, AbsoluteTimeout: longest, Persistent: true}
	old := s.b.twin(s.home)
	p := old.begin(s.away, func(v *visit) { v.set("under way", true) }, nothing)
	r := s.b.visit(s.home, func(v *visit) {
		v.set("theme", "dark")
		v.must("SetPolicy", v.s.SetPolicy(v.r.Context(), &lasting))
	})
	if len(r.set()) != 1 || !strings.Contains(r.set()[0], "; Max-Age=") {
		w.Errorf("%d cookies were set; want a persistent one", len(r.set()))
	}
	p.finish()
	for _, b := range []*browser{s.b, old} {
		b.silent(s.away, func(v *visit) {
			v.must("Reload", v.s.Reload(v.r.Context()))
			want(v, "theme", "dark")
			want(v, "under way", true)
			if left := v.s.Info().Deadline.Sub(v.now()); left < longest-time.Hour || left > longest {
				v.Errorf("the deadline is in %v; want %v", left, longest)
			}
		})
	}
}

// outlive uses two sessions for twice as long as they would last unused. If the
// machine was too slow for that it tries again with more time.
func outlive(w *web) {
	for life := 500 * time.Millisecond; life < patience/8; life *= 2 {
		idle := w.serve(0, session.Options{Policy: session.Policy{IdleTimeout: life}, TouchInterval: -1})
		endless := w.manage(1, session.Options{})
		endless.spy.Shorten(life)
		w.configure(endless, session.Options{Policy: session.Policy{AbsoluteTimeout: -1, AnonymousTimeout: -1, IdleTimeout: life, RenewAfter: life / 4}})
		if w.bothOutlive(2*life, []*node{idle, {endless, w.listen(endless.m.Handler)}}) {
			renewals := endless.events(session.EventRenewed)
			if len(renewals) < 2 {
				w.Errorf("%d renewals; want some", len(renewals))
			}
			idle.happened(0, session.EventRenewed)
			return
		}
	}
	w.Error("sessions that are used do not outlive their timeouts")
}

func (w *web) bothOutlive(period time.Duration, nodes []*node) bool {
	users, browsers := make([]string, len(nodes)), make([]*browser, len(nodes))
	for i, n := range nodes {
		users[i] = w.unique("user")
		browsers[i], _ = n.loggedIn(users[i])
		browsers[i].visit(n, func(v *visit) { v.set("kept", true) })
	}
	lost := false
	until := w.now().Add(period)
	w.eventually("the time is over", func() bool {
		for i, n := range nodes {
			browsers[i].visit(n, func(v *visit) {
				kept, err := session.Get[bool](v.s, "kept")
				v.must("Get", err)
				lost = lost || !kept || v.s.User() != users[i]
			})
		}
		return lost || w.now().After(until)
	})
	return !lost
}

func anonymousDeadline(w *web) {
	n := w.serve(0, session.Options{Policy: session.Policy{AnonymousTimeout: time.Hour, AbsoluteTimeout: 10 * time.Hour}})
	lasts := func(v *visit, want time.Duration) {
		v.Helper()
		if left := v.s.Info().Deadline.Sub(v.now()); left > want || left < want-patience {
			v.Errorf("the deadline is in %v; want %v", left, want)
		}
	}
	for _, promote := range []func(v *visit){func(v *visit) { v.login(w.unique("user")) }, renewed(0)} {
		b := w.browser()
		b.visit(n, func(v *visit) {
			v.set("cart", "book")
			v.must("Save", v.s.Save(v.r.Context()))
			lasts(v, time.Hour)
		})
		b.silent(n, func(v *visit) {
			v.set("cart", "books")
			v.must("Save", v.s.Save(v.r.Context()))
			lasts(v, time.Hour)
		})
		b.visit(n, func(v *visit) {
			promote(v)
			lasts(v, 10*time.Hour)
		})
		b.silent(n, func(v *visit) {
			want(v, "cart", "books")
			lasts(v, 10*time.Hour)
		})
	}
	// A user's deadline only moves by a login.
	b, _ := n.loggedIn(w.unique("user"))
	var before time.Time
	b.silent(n, func(v *visit) { before = v.s.Info().Deadline })
	b.visit(n, renewed(0))
	b.silent(n, func(v *visit) { v.sameTime("the deadline after Renew", v.s.Info().Deadline, before) })
	b.visit(n, func(v *visit) {
		v.login(v.s.User())
		if !v.s.Info().Deadline.After(before) {
			v.Error("a login has not moved the deadline")
		}
	})
}

func expiredCookie(w *web) {
	s := w.begun()
	s.expire(s.key)
	old := s.b.cookie(s.home)
	var found session.Key
	s.b.silent(s.home, func(v *visit) {
		if found = v.s.Key(); v.s.User() != "" || !found.IsZero() || len(v.s.Keys()) > 0 {
			v.Errorf("the expired session has the user %q", v.s.User())
		}
	})
	if s.b.cookie(s.home) != old {
		s.Error("the browser has another cookie")
	}
	if told := s.home.events(session.EventExpired); len(told) != 1 || told[0].Key != s.key {
		s.Errorf("sessions told as expired: %+v; want that one", told)
	}
	s.b.visit(s.home, func(v *visit) { v.set("new", true) })
	if now := s.b.look(s.home); s.b.cookie(s.home) == old || now.key == s.key || now.key.IsZero() {
		s.Error("the ID of the expired session was used again")
	}
	s.gone(s.key)
}
