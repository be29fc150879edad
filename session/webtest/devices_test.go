package webtest

import (
	"iter"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Of what users see of their sessions, and do to them.

func devicesCases() []webCase {
	return []webCase{
		{name: "users see their sessions, and which one they use", protocols: both, run: seesDevices},
		{name: "users end one of their sessions, and nobody else's", protocols: onlyHTTP, run: endsDevice},
		{name: "users end all of their sessions but this one", protocols: both, run: endsOthers},
		{name: "users end all of their sessions, and the browser forgets its cookie", protocols: both, run: endsAll},
		{name: "users get all that is kept of them", protocols: onlyHTTP, run: exports},
		{name: "a listing gives the sessions of all with their values", own: true, protocols: onlyHTTP, run: listsAll},
		{name: "a logout on all nodes is one", protocols: onlyHTTP, run: logoutOnAllNodes},
		{name: "a logout clears the browser", protocols: both, run: logsOut},
	}
}

// devices logs a user in at several browsers, of which each has a label.
func (w *web) devices(n *node, user string, labels ...string) ([]*browser, []session.Key) {
	w.Helper()
	browsers, keys := make([]*browser, len(labels)), make([]session.Key, len(labels))
	for i, label := range labels {
		browsers[i] = w.browser()
		browsers[i].visit(n, func(v *visit) {
			v.must("Login", v.loginAs(user, session.Login{Label: label}))
			v.set("device", label)
			keys[i] = v.s.Key()
		})
	}
	return browsers, keys
}

// handleOf is the Info.Handle of a session.
func (w *web) handleOf(n *node, user string, key session.Key) string {
	w.Helper()
	infos, err := collect(n.m.Sessions(w.ctx, user))
	for _, info := range infos {
		if info.Key == key.String() {
			return info.Handle
		}
	}
	w.Errorf("Sessions = %+v, %v; want %v among them", infos, err, key)
	return ""
}

func seesDevices(w *web) {
	opts := session.Options{
		Address:     func(*http.Request) netip.Addr { return netip.MustParseAddr("203.0.113.77") },
		RecordAgent: true,
	}
	n, away := w.serve(0, opts), w.serve(1, opts)
	user := w.unique("user")
	labels := []string{"phone", "tablet", "desktop"}
	browsers, keys := w.devices(n, user, labels...)
	w.devices(n, w.unique("another user"), "spy")
	for i, b := range browsers {
		b.silent([]*node{n, away}[i%2], func(v *visit) {
			infos, err := collect(v.m.Sessions(v.r.Context(), user))
			if err != nil || len(infos) != len(labels) {
				v.Errorf("Sessions = %d, %v; want %d", len(infos), err, len(labels))
				return
			}
			for j, info := range infos { // those created first first
				if info.Key != keys[j].String() || info.Label != labels[j] || info.User != user || info.Current != (i == j) {
					v.Errorf("seen from %s the session %d is %+v", labels[i], j, info)
				}
				if info.Address != "203.0.113.0/24" || !strings.HasPrefix(info.Agent, "Go-http-client/") {
					v.Errorf("the browser is %q at %q", info.Agent, info.Address)
				}
				now := v.now() // may be a little behind the database's
				if now.Sub(info.Created).Abs() > patience || now.Sub(info.LastSeen).Abs() > patience || info.Deadline.Sub(now) > 12*time.Hour {
					v.Errorf("the times are %+v; now is %v", info, now)
				}
			}
			if info := v.s.Info(); info.Key != keys[i].String() || !info.Current || info.Label != labels[i] {
				v.Errorf("Info of %s is %+v", labels[i], info)
			}
			if at := v.s.AuthenticatedAt(); v.now().Sub(at).Abs() > patience {
				v.Errorf("authenticated at %v", at)
			}
		})
	}
}

func endsDevice(w *web) {
	n := w.serve(0, session.Options{})
	user, victim := w.unique("user"), w.unique("another user")
	browsers, keys := w.devices(n, user, "phone", "tablet", "desktop")
	others, otherKeys := w.devices(n, victim, "phone")
	browsers[0].silent(n, func(v *visit) {
		v.refused("Revoke of another user's session", v.m.Revoke(v.r.Context(), user, w.handleOf(n, victim, otherKeys[0])), session.ErrNotFound)
		v.refused("Revoke of nonsense", v.m.Revoke(v.r.Context(), user, "nonsense"), session.ErrNotFound)
		id := w.handleOf(n, user, keys[1])
		v.must("Revoke", v.m.Revoke(v.r.Context(), user, id))
		v.refused("Revoke, again", v.m.Revoke(v.r.Context(), user, id), session.ErrNotFound)
	})
	w.eventuallyGone(keys[1])
	browsers[1].silent(n, func(v *visit) {
		if v.s.User() != "" {
			v.Errorf("the revoked session has the user %q", v.s.User())
		}
	})
	told := n.events(session.EventDestroyed)
	if len(told) != 1 || told[0].Key != keys[1] || told[0].User != user || told[0].Reason != session.ReasonRevoked {
		w.Errorf("events: %+v; want one of the revoked session", told)
	}
	if found := others[0].look(n); found.user != victim {
		w.Errorf("the other user has %+v", found)
	}
	w.haveSessions(n, user, map[session.Key]bool{keys[0]: true, keys[2]: true})
	// The session of the request itself: the browser forgets it.
	browsers[0].visit(n, func(v *visit) {
		v.must("Revoke", v.m.Revoke(v.r.Context(), user, w.handleOf(n, user, keys[0])))
		if v.s.User() != "" || v.s.Has("device") {
			v.Errorf("after its end the session has the user %q", v.s.User())
		}
	})
	if browsers[0].cookie(n) != "" {
		w.Error("the browser has a cookie of a session that it has revoked")
	}
}

func endsOthers(w *web) {
	n := w.serve(0, session.Options{})
	user := w.unique("user")
	browsers, keys := w.devices(n, user, "phone", "tablet", "desktop")
	w.browser().silent(n, func(v *visit) {
		_, err := v.m.RevokeOthers(v.r.Context())
		v.refused("RevokeOthers of nobody", err, session.ErrNoUser)
	})
	browsers[1].silent(n, func(v *visit) {
		if ended, err := v.m.RevokeOthers(v.r.Context()); ended != 2 || err != nil {
			v.Errorf("RevokeOthers = %d, %v; want 2, nil", ended, err)
		}
		want(v, "device", "tablet")
	})
	w.eventuallyGone(keys[0])
	w.eventuallyGone(keys[2])
	if found := browsers[1].look(n); found.key != keys[1] || found.user != user {
		w.Errorf("the browser that ended the others has %+v", found)
	}
	w.haveSessions(n, user, map[session.Key]bool{keys[1]: true})
	told := n.events(session.EventDestroyed)
	if len(told) != 1 || told[0].Count != 2 || told[0].User != user || told[0].Reason != session.ReasonRevoked {
		w.Errorf("events: %+v; want one of two sessions", told)
	}
}

func endsAll(w *web) {
	n := w.serve(0, session.Options{})
	user := w.unique("user")
	browsers, keys := w.devices(n, user, "phone", "tablet")
	left := browsers[1].cookie(n)
	r := browsers[0].visit(n, func(v *visit) {
		if ended, err := v.m.RevokeUser(v.r.Context(), user); ended != 2 || err != nil {
			v.Errorf("RevokeUser = %d, %v; want 2, nil", ended, err)
		}
	})
	if len(r.set()) != 1 || browsers[0].cookie(n) != "" {
		w.Errorf("%d cookies were set, and the browser still has one", len(r.set()))
	}
	for i, key := range keys {
		w.eventuallyGone(key)
		if found := browsers[i].look(n); found.user != "" {
			w.Errorf("a browser has %+v", found)
		}
	}
	if browsers[1].cookie(n) != left {
		w.Error("the other browser has lost its cookie")
	}
	w.haveSessions(n, user, nil)
}

func exports(w *web) {
	n := w.serve(0, session.Options{})
	user := w.unique("user")
	browsers, keys := w.devices(n, user, "phone", "tablet")
	browsers[1].silent(n, func(v *visit) {
		all, err := collect(v.m.Export(v.r.Context(), user))
		if err != nil || len(all) != 2 {
			v.Errorf("Export = %+v, %v", all, err)
			return
		}
		for i, one := range all {
			label := []string{"phone", "tablet"}[i]
			if one.Key != keys[i].String() || one.Current != (i == 1) || one.Label != label || string(one.Values["device"]) != `"`+label+`"` {
				v.Errorf("Export of %d: %+v", i, one)
			}
		}
	})
}

func listsAll(w *web) {
	n := w.serve(0, session.Options{})
	user := w.unique("user")
	_, keys := w.devices(n, user, "phone", "tablet")
	w.browser().visit(n, func(v *visit) { v.set("device", "none") })
	found := map[string]string{}
	for one, err := range n.m.All(w.ctx) {
		if err != nil {
			w.Fatalf("All: %v", err)
		}
		found[string(one.Values["device"])] = one.User + " " + one.Key
	}
	if len(found) != 3 || found[`"phone"`] != user+" "+keys[0].String() || found[`"tablet"`] != user+" "+keys[1].String() {
		w.Errorf("All lists %q", found)
	}
}

func logoutOnAllNodes(w *web) {
	if _, ok := w.s.(session.NodeWaiter); !ok {
		w.Skip("the store has one node only")
	}
	s := w.begun()
	s.b.visit(s.home, func(v *visit) { v.must("DestroyOnAllNodes", v.s.DestroyOnAllNodes(v.r.Context())) })
	if s.b.cookie(s.home) != "" {
		s.Error("the browser has a cookie")
	}
	_, err := s.node(1).Get(s.ctx, s.key)
	s.refused("Get by the other node, at once", err, session.ErrNotFound)
}

func logsOut(w *web) {
	s := w.begun()
	late := s.b.twin(s.home)
	r := s.b.visit(s.home, func(v *visit) {
		logout(v)
		if v.s.User() != "" || len(v.s.Keys()) > 0 {
			v.Errorf("after the logout the session has the user %q", v.s.User())
		}
	})
	if s.b.cookie(s.home) != "" || len(r.set()) != 1 {
		s.Error("the browser has a cookie")
	}
	if got := r.header.Get("Clear-Site-Data"); got != `"cookies", "storage"` || r.header.Get("Cache-Control") != "no-store" {
		s.Errorf("Clear-Site-Data is %q", got)
	}
	told := s.home.events(session.EventDestroyed)
	if len(told) != 1 || told[0].Key != s.key || told[0].Reason != session.ReasonLogout {
		s.Errorf("events: %+v", told)
	}
	if found := late.look(s.home); !found.key.IsZero() || found.user != "" {
		s.Errorf("a copy of the cookie leads to %+v", found)
	}
	s.eventuallyGone(s.key)
	// What is set after a logout begins a new session.
	b, key := s.home.loggedIn(s.user)
	b.visit(s.home, func(v *visit) {
		logout(v)
		v.set("goodbye", true)
	})
	if found := b.look(s.home); found.user != "" || found.key == key || !found.has("goodbye") {
		s.Errorf("after a logout and a Set there is %+v", found)
	}
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
