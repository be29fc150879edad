package webtest

import (
	"net/http"
	"sync/atomic"

	"github.com/sojourn-go/sojourn/session"
)

// Of users who log in more often than they may.

func limitCases() []webCase {
	return []webCase{
		{name: "of 50 logins at once those that are too many evict others", protocols: both, run: evicts},
		{name: "of 50 logins at once those that are too many are refused", protocols: both, run: rejects},
		{name: "a login again in the same browser needs no more room", protocols: onlyHTTP, run: loginAgain},
	}
}

const (
	logins = 50
	room   = 3
)

// rush has browsers, half of which have a session already, log a user in at
// once on two nodes, and returns them with what their logins said.
func (w *web) rush(nodes []*node, user string) ([]*browser, []error) {
	browsers, errs := make([]*browser, logins), make([]error, logins)
	for i := range browsers {
		browsers[i] = w.browser()
		if i%4 < 2 {
			browsers[i].visit(nodes[i%2], func(v *visit) { v.set("cart", i) })
		}
	}
	start := make(chan struct{})
	var arrived atomic.Int64
	all(logins, func(i int) {
		browsers[i].visit(nodes[i%2], func(v *visit) {
			if arrived.Add(1) == logins {
				close(start)
			}
			select {
			case <-start:
			case <-w.ctx.Done():
				v.Error("the other requests did not come")
			}
			errs[i] = v.loginAs(user, session.Login{})
		})
	})
	return browsers, errs
}

func evicts(w *web) {
	opts := session.Options{UserLimit: session.UserLimit{Max: room, Evict: true}}
	nodes := []*node{w.serve(0, opts), w.serve(1, opts)}
	user := w.unique("user")
	browsers, errs := w.rush(nodes, user)
	for i, err := range errs {
		if err != nil {
			w.Errorf("login %d: %v", i, err)
		}
	}
	live := map[session.Key]bool{}
	for i, b := range browsers {
		if found := b.look(nodes[i%2]); !found.key.IsZero() {
			live[found.key] = true
			if found.user != user || found.has("cart") != (i%4 < 2) {
				w.Errorf("browser %d has %+v", i, found)
			}
		}
	}
	w.haveSessions(nodes[0], user, live)
	evicted := map[session.Key]int{}
	for _, n := range nodes {
		for _, e := range n.events(session.EventDestroyed) {
			if e.Reason != session.ReasonLimit || e.User != user || live[e.Key] {
				w.Errorf("event %+v", e)
			}
			evicted[e.Key]++
		}
	}
	if len(live) != room || len(evicted) != logins-room {
		w.Errorf("%d sessions are live and %d were evicted; want %d and %d", len(live), len(evicted), room, logins-room)
	}
	for key, n := range evicted {
		if n != 1 {
			w.Errorf("the eviction of %v was told %d times", key, n)
		}
	}
}

// haveSessions checks which sessions a user has.
func (w *web) haveSessions(n *node, user string, want map[session.Key]bool) {
	w.Helper()
	infos, err := collect(n.m.Sessions(w.ctx, user))
	if err != nil || len(infos) != len(want) {
		w.Errorf("Sessions = %d, %v; want %d", len(infos), err, len(want))
	}
	names := map[string]bool{}
	for key := range want {
		names[key.String()] = true
	}
	for _, info := range infos {
		if !names[info.Key] {
			w.Errorf("Sessions lists %+v", info)
		}
	}
}

func rejects(w *web) {
	opts := session.Options{UserLimit: session.UserLimit{Max: room}}
	nodes := []*node{w.serve(0, opts), w.serve(1, opts)}
	user := w.unique("user")
	browsers, errs := w.rush(nodes, user)
	live := map[session.Key]bool{}
	for i, b := range browsers {
		before := b.cookie(nodes[0])
		found := b.look(nodes[i%2])
		if errs[i] == nil {
			live[found.key] = true
		} else {
			w.refused("Login", errs[i], session.ErrUserLimit)
		}
		if wanted := map[bool]string{true: user}[errs[i] == nil]; found.user != wanted {
			w.Errorf("browser %d, login %v, has the user %q", i, errs[i], found.user)
		}
		if hadSession := i%4 < 2; found.has("cart") != hadSession || errs[i] != nil && (before != "") != hadSession {
			w.Errorf("browser %d, login %v, has %+v", i, errs[i], found)
		}
	}
	if len(live) != room {
		w.Errorf("%d logins succeeded; want %d", len(live), room)
	}
	w.haveSessions(nodes[0], user, live)
	for _, n := range nodes {
		n.happened(0, session.EventDestroyed)
	}
}

func loginAgain(w *web) {
	n := w.serve(0, session.Options{UserLimit: session.UserLimit{Max: 1}})
	user := w.unique("user")
	b, _ := n.loggedIn(user)
	b.visit(n, func(v *visit) { v.login(user) })
	other := w.browser()
	r := other.request(n.server, n.page(func(v *visit) {
		err := v.s.Login(v.r.Context(), user, session.Login{})
		v.refused("Login", err, session.ErrUserLimit)
		http.Error(v.rw, "too many", http.StatusForbidden)
	}))
	if r.status != http.StatusForbidden || len(r.set()) > 0 {
		w.Errorf("the answer is %d and sets %d cookies; want 403 and none", r.status, len(r.set()))
	}
	w.haveSessions(n, user, map[session.Key]bool{b.look(n).key: true})
}
