package webtest

import (
	"net/http"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

// Of requests that are none of the store's business.

func frugalCases() []webCase {
	return []webCase{
		{name: "a request without a cookie does not reach the store", protocols: both, run: withoutCookie},
		{name: "a handler that does not ask for its session does not reach the store", protocols: both, run: notAsking},
		{name: "a cookie of the wrong shape does not reach the store", protocols: both, run: wrongShape},
		{name: "a wrong signature does not reach the store", protocols: onlyHTTP, run: wrongSignature},
		{name: "an unknown ID is read once and never adopted", protocols: both, run: unknownID},
		{name: "an empty session is not stored", own: true, protocols: onlyHTTP, run: emptySession},
	}
}

// untouched checks that the store was not called since before.
func (n *managed) untouched(what string, before int) {
	n.Helper()
	if got := n.spy.Count() - before; got != 0 {
		n.Errorf("%s: the store was called %d times", what, got)
	}
}

// look at everything, change nothing.
func browse(v *visit) {
	if v.s.User() != "" || !v.s.Key().IsZero() || len(v.s.Keys()) > 0 || v.s.Has("key") || v.s.Info() != (session.Info{}) || v.s.Degraded() {
		v.Errorf("the session is not empty: user %q, %q", v.s.User(), v.s.Keys())
	}
	want(v, "key", "")
	if shown, err := session.Flashes[string](v.s); len(shown) > 0 || err != nil {
		v.Errorf("Flashes = %q, %v", shown, err)
	}
	v.must("Delete", v.s.Delete("key"))
	v.must("Renew", v.s.Renew(v.r.Context(), time.Minute))
	v.must("Save", v.s.Save(v.r.Context()))
}

func withoutCookie(w *web) {
	n := w.serve(0, session.Options{TouchInterval: -1})
	b := w.browser()
	r := b.visit(n, browse)
	if len(r.set()) > 0 || r.header.Get("Vary") != "Cookie" || r.header.Get("Cache-Control") != "private" {
		w.Errorf("the header is %v", r.header)
	}
	b.silent(n, logout)
	b.silent(n, func(v *visit) {
		v.set("key", 1)
		v.must("Flash", v.s.Flash(1))
		v.must("Clear", v.s.Clear())
	})
	n.untouched("requests without a cookie", 0)
}

func notAsking(w *web) {
	n := w.serve(0, session.Options{TouchInterval: -1})
	b, _ := n.loggedIn(w.unique("user"))
	before := n.spy.Count()
	r := b.request(n.server, func(rw http.ResponseWriter, _ *http.Request) {
		if _, err := rw.Write([]byte("static")); err != nil {
			w.Errorf("Write: %v", err)
		}
	})
	if r.body != "static" || len(r.set()) > 0 || r.header.Get("Vary") != "" || r.header.Get("Cache-Control") != "" {
		w.Errorf("the answer is %q with header %v; want nothing of a session", r.body, r.header)
	}
	b.request(n.server, func(http.ResponseWriter, *http.Request) {})
	n.untouched("a static page", before)
}

func wrongShape(w *web) {
	n := w.serve(0, session.Options{TouchInterval: -1})
	shape := session.NewID(w.now().Add(time.Hour)).Secret()
	for i, value := range []string{
		"x", "PHPSESSID", shape + "A", shape[1:], strings.Repeat("=", len(shape)), strings.Repeat("~", len(shape)),
		strings.Repeat("A", len(shape)), strings.Repeat("_", len(shape)), strings.Repeat("a", 4000), shape + "." + shape,
	} {
		b := w.browser()
		r := b.request(n.server, n.page(browse), func(r *http.Request) { r.Header.Set("Cookie", n.cookie+"="+value) })
		if r.status != http.StatusOK || len(r.set()) > 0 {
			w.Errorf("cookie %d: the answer is %d with %d cookies", i, r.status, len(r.set()))
		}
		n.untouched(value[:min(len(value), 20)], 0)
		if got := len(n.events(session.EventInvalidID)); got != i+1 {
			w.Errorf("cookie %d: %d events; want %d", i, got, i+1)
		}
	}
}

func wrongSignature(w *web) {
	keys := [][]byte{[]byte(strings.Repeat("new ", 8)), []byte(strings.Repeat("old ", 8))}
	old := w.serve(0, session.Options{Cookie: session.Cookie{SigningKeys: session.Secrets(keys[1:]...)}})
	n := w.serve(0, session.Options{Cookie: session.Cookie{SigningKeys: session.Secrets(keys...)}})
	user := w.unique("user")
	b, _ := old.loggedIn(user)
	if found := b.look(n); found.user != user {
		w.Errorf("by a cookie signed with the old key the user is %q", found.user)
	}
	genuine, before := b.cookie(n), n.spy.Count()
	id, signature, _ := strings.Cut(genuine, ".")
	for _, forged := range []string{id, id + ".", id + "." + strings.Repeat("A", len(signature)), session.NewID(w.now().Add(time.Hour)).Secret() + "." + signature} {
		w.browser().request(n.server, n.page(browse), func(r *http.Request) { r.Header.Set("Cookie", n.cookie+"="+forged) })
	}
	n.untouched("forgeries", before)
	n.happened(4, session.EventInvalidID)
}

func unknownID(w *web) {
	n := w.serve(0, session.Options{TouchInterval: -1})
	guess := session.NewID(w.now().Add(2 * time.Hour))
	for range 2 {
		before := n.spy.Count(spystore.Get)
		r := w.browser().request(n.server, n.page(browse), func(r *http.Request) { r.Header.Set("Cookie", n.cookie+"="+guess.Secret()) })
		if len(r.set()) > 0 {
			w.Error("an unknown ID is answered by a cookie")
		}
		if got := n.spy.Count(spystore.Get) - before; got != 1 || n.written() != 0 {
			w.Errorf("the store was read %d times and written %d times; want a read", got, n.written())
		}
	}
	told := n.events(session.EventUnknownID)
	if len(told) != 2 || told[0].Key != guess.Key() {
		w.Errorf("events: %+v", told)
	}
	b := w.browser()
	r := b.request(n.server, n.page(func(v *visit) { v.login(w.unique("user")) }), func(r *http.Request) {
		r.Header.Set("Cookie", n.cookie+"="+guess.Secret())
	})
	if len(r.set()) != 1 || b.cookie(n) == guess.Secret() {
		w.Error("an ID from outside was adopted by a login")
	}
	w.gone(guess.Key())
}

func emptySession(w *web) {
	n := w.serve(0, session.Options{})
	w.browser().silent(n, browse)
	w.browser().silent(n, func(v *visit) {
		v.set("key", 1)
		v.must("Delete", v.s.Delete("key"))
	})
	count, err := w.s.(session.Lister).Len(w.ctx)
	if count != 0 || err != nil || n.written() != 0 {
		w.Errorf("%d sessions, %v, after %d writes; want none", count, err, n.written())
	}
	all := w.serve(0, session.Options{SaveUninitialized: true})
	b := w.browser()
	b.visit(all, nothing)
	b.silent(all, nothing)
	if count, err := w.s.(session.Lister).Len(w.ctx); count != 1 || err != nil || b.cookie(all) == "" {
		w.Errorf("%d sessions, %v, of a visitor who is to have one", count, err)
	}
}
