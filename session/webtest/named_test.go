package webtest

import (
	"net/http"
	"strings"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

// Of several managers in one application.

func namedCases() []webCase {
	return []webCase{
		{name: "nested managers give a request a session each", protocols: both, run: nested},
		{name: "the ID of one manager is unknown to another", protocols: onlyHTTP, run: foreignManager},
		{name: "the users of one manager are not those of another", protocols: onlyHTTP, run: foreignUsers},
		{name: "a listing of one manager has nothing of another", own: true, protocols: onlyHTTP, run: foreignListing},
		{name: "a failure of the outer manager keeps the cookie of the inner one", protocols: both, run: outerFails},
		{name: "a manager in itself is one, two of one cookie are an error", protocols: onlyHTTP, run: nestedTwice},
	}
}

// nest starts a server with managers of these names, the outermost first.
func (w *web) nest(names ...string) []*node {
	w.Helper()
	nodes := make([]*node, len(names))
	for i, name := range names {
		nodes[i] = &node{managed: w.manage(0, session.Options{Name: name})}
	}
	s := w.listen(func(pages http.Handler) http.Handler {
		for i := len(nodes) - 1; i >= 0; i-- {
			pages = nodes[i].m.Handler(pages)
		}
		return pages
	})
	for _, n := range nodes {
		n.server = s
	}
	return nodes
}

// within opens another manager's session of the same request.
func (n *node) within(v *visit, f func(v *visit)) { n.page(f)(v.rw, v.r) }

func nested(w *web) {
	nodes := w.nest("shop", "")
	shop, plain := nodes[0], nodes[1]
	b, user := w.browser(), w.unique("user")
	r := b.visit(shop, func(v *visit) {
		first, err := session.FromContext(v.r.Context())
		v.must("FromContext with two managers", err)
		plain.within(v, func(v *visit) {
			if v.s != first {
				v.Error("FromContext has the session of the manager with a name")
			}
		})
		v.login(user)
		v.set("cart", "book")
		plain.within(v, func(v *visit) {
			v.set("theme", "dark")
			want(v, "cart", "")
		})
	})
	if len(r.set()) != 2 || b.cookie(shop) == "" || b.cookie(plain) == "" || b.cookie(shop) == b.cookie(plain) {
		w.Errorf("%d cookies were set; want two", len(r.set()))
	}
	b.visit(shop, func(v *visit) {
		want(v, "cart", "book")
		want(v, "theme", "")
		plain.within(v, func(v *visit) {
			want(v, "theme", "dark")
			if v.s.User() != "" {
				v.Errorf("the other manager's session has the user %q", v.s.User())
			}
			logout(v)
		})
	})
	if b.cookie(plain) != "" {
		w.Error("the cookie is there after a logout")
	}
	if found := b.look(shop); found.user != user || !found.has("cart") {
		w.Errorf("after the other manager's logout there is %+v", found)
	}
}

func foreignManager(w *web) {
	shop, plain := w.serve(0, session.Options{Name: "shop"}), w.serve(0, session.Options{})
	for _, pair := range [][2]*node{{shop, plain}, {plain, shop}} {
		from, to := pair[0], pair[1]
		for _, user := range []string{"", w.unique("user")} {
			b := w.browser()
			b.visit(from, func(v *visit) {
				v.set("secret", true)
				if user != "" {
					v.login(user)
				}
			})
			before := len(to.events(session.EventUnknownID))
			thief := w.browser()
			thief.jar.SetCookies(b.address(to.server), []*http.Cookie{{Name: to.cookie, Value: b.cookie(from), Secure: true}})
			thief.silent(to, func(v *visit) {
				if v.s.User() != "" || !v.s.Key().IsZero() || v.s.Has("secret") {
					v.Errorf("another manager's session is used: user %q", v.s.User())
				}
			})
			if got := len(to.events(session.EventUnknownID)) - before; got != 1 {
				w.Errorf("%d events %q; want one", got, session.EventUnknownID)
			}
			thief.visit(to, func(v *visit) { v.set("own", true) })
			if found := b.look(from); !found.has("secret") || found.has("own") || found.user != user {
				w.Errorf("the session is %+v after another manager was given its ID", found)
			}
		}
	}
}

func foreignUsers(w *web) {
	one := session.UserLimit{Max: 1}
	nodes := []*node{
		w.serve(0, session.Options{Name: "a", UserLimit: one}), w.serve(0, session.Options{Name: "b", UserLimit: one}),
		w.serve(0, session.Options{UserLimit: one}),
	}
	user := w.unique("user")
	browsers, keys := make([]*browser, len(nodes)), make([]session.Key, len(nodes))
	for i, n := range nodes {
		browsers[i], keys[i] = n.loggedIn(user)
	}
	for i, n := range nodes {
		w.haveSessions(n, user, map[session.Key]bool{keys[i]: true})
		for j := range nodes {
			if i != j {
				w.refused("Revoke of another manager's session", n.m.Revoke(w.ctx, user, keys[j].String()), session.ErrNotFound)
			}
		}
		if exported, err := collect(n.m.Export(w.ctx, user)); len(exported) != 1 || err != nil || exported[0].User != user {
			w.Errorf("Export = %+v, %v; want the manager's own session", exported, err)
		}
	}
	for i, n := range nodes[:2] {
		if ended, err := n.m.RevokeUser(w.ctx, user); ended != 1 || err != nil {
			w.Errorf("RevokeUser = %d, %v; want 1, nil", ended, err)
		}
		w.eventuallyGone(keys[i])
		for j := i + 1; j < len(nodes); j++ {
			if found := browsers[j].look(nodes[j]); found.user != user || found.key != keys[j] {
				w.Errorf("another manager's RevokeUser left %+v", found)
			}
		}
	}
}

func foreignListing(w *web) {
	nodes := []*node{w.serve(0, session.Options{Name: "a"}), w.serve(0, session.Options{Name: "b"}), w.serve(0, session.Options{})}
	want := make([]map[string]bool, len(nodes))
	for i, n := range nodes {
		want[i] = map[string]bool{}
		for _, user := range []string{"", w.unique("user")} {
			w.browser().visit(n, func(v *visit) {
				v.set("of", i)
				if user != "" {
					v.login(user)
				}
				v.must("Save", v.s.Save(v.r.Context()))
				want[i][v.s.Key().String()] = true
			})
		}
	}
	for i, n := range nodes {
		for found, err := range n.m.All(w.ctx) {
			if err != nil {
				w.Fatalf("All: %v", err)
			}
			if !want[i][found.Key] || string(found.Values["of"]) != string(rune('0'+i)) {
				w.Errorf("manager %d lists %+v", i, found)
			}
			delete(want[i], found.Key)
		}
		if len(want[i]) > 0 {
			w.Errorf("manager %d does not list %d sessions", i, len(want[i]))
		}
	}
}

// outerFails has the inner manager's session stored before the outer one's
// fails: the browser has to learn of it.
func outerFails(w *web) {
	nodes := w.nest("outer", "inner")
	outer, inner := nodes[0], nodes[1]
	b := w.browser()
	outer.spy.Between(breaking(spystore.Create))
	r := b.request(inner.server, outer.page(func(v *visit) {
		v.set("lost", true)
		inner.within(v, func(v *visit) { v.set("kept", true) })
		v.rw.Header().Set("X-Handler", "was here")
		if _, err := v.rw.Write([]byte("body")); err == nil {
			v.Error("the handler's write succeeded")
		}
	}))
	if r.status != http.StatusServiceUnavailable || strings.Contains(r.body, "body") || r.header.Get("X-Handler") != "" {
		w.Errorf("the answer is %d %q with header %v; want 503 and nothing of the handler's", r.status, r.body, r.header)
	}
	if len(r.set()) != 1 || b.cookie(inner) == "" || b.cookie(outer) != "" {
		w.Errorf("%d cookies; want that of the inner manager", len(r.set()))
	}
	b.silent(inner, func(v *visit) { want(v, "kept", true) })
}

func nestedTwice(w *web) {
	m := w.manage(0, session.Options{})
	n := &node{m, w.listen(func(pages http.Handler) http.Handler { return m.m.Handler(m.m.Handler(pages)) })}
	b := w.browser()
	if r := b.visit(n, func(v *visit) { v.set("once", true) }); len(r.set()) != 1 {
		w.Errorf("%d cookies; want one", len(r.set()))
	}
	other := w.manage(0, session.Options{})
	clash := w.listen(func(pages http.Handler) http.Handler { return m.m.Handler(other.m.Handler(pages)) })
	r := b.request(clash, func(rw http.ResponseWriter, _ *http.Request) { w.Error("the handler was called") })
	if r.status != http.StatusInternalServerError || len(r.set()) > 0 {
		w.Errorf("the answer is %d with %d cookies; want 500", r.status, len(r.set()))
	}
}
