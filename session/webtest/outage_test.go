package webtest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

// Of stores that fail. What each failure means is tested in package session;
// this is about what comes over the wire.

func outageCases() []webCase {
	return []webCase{
		{name: "a save that fails leaves nothing of the handler's answer", protocols: both, run: saveFails},
		{name: "a session that cannot be read fails its requests, and no others", protocols: both, run: readFails},
	}
}

var errBroken = errors.New("sessiontest: broken on purpose")

// breaking fails one kind of call, before it is made.
func breaking(doomed spystore.Call) func(context.Context, spystore.Call, func() error) error {
	return func(_ context.Context, c spystore.Call, do func() error) error {
		if c == doomed {
			return errBroken
		}
		return do()
	}
}

// sends are the ways in which a handler begins its answer, with the error that
// it is told.
var sends = map[string]func(rw http.ResponseWriter) error{
	"Write": func(rw http.ResponseWriter) error {
		_, err := rw.Write([]byte("from the handler"))
		return err
	},
	"WriteString": func(rw http.ResponseWriter) error {
		_, err := io.WriteString(rw, "from the handler")
		return err
	},
	"Copy": func(rw http.ResponseWriter) error {
		_, err := io.Copy(rw, strings.NewReader("from the handler"))
		return err
	},
	"Flush":          func(rw http.ResponseWriter) error { return http.NewResponseController(rw).Flush() },
	"Flush, unwraps": func(rw http.ResponseWriter) error { return http.NewResponseController(onlyUnwraps{rw}).Flush() },
}

// failed checks the answer that a client gets instead of the handler's.
func (w *web) failed(what string, r reply) {
	w.Helper()
	if r.status != http.StatusServiceUnavailable || r.body != "Service Unavailable\n" || r.header.Get("X-Handler") != "" || r.header.Get("Retry-After") != "1" {
		w.Errorf("%s: the answer is %d %q with header %v; want 503 and nothing of the handler's", what, r.status, r.body, r.header)
	}
	if len(r.set()) > 0 {
		w.Errorf("%s: the answer sets a cookie", what)
	}
}

func saveFails(w *web) {
	n := w.serve(0, session.Options{})
	user := w.unique("user")
	stored, key := n.loggedIn(user)
	for name, send := range sends {
		for call, b := range map[spystore.Call]*browser{spystore.Save: stored, spystore.Create: w.browser()} {
			n.spy.Between(breaking(call))
			r := b.request(n.server, n.page(func(v *visit) {
				v.set("lost", true)
				v.rw.Header().Set("X-Handler", "was here")
				v.rw.Header().Set("Content-Length", "16")
				v.refused(name, send(v.rw), errBroken)
				v.rw.WriteHeader(http.StatusEarlyHints)
				v.refused(name+", again", send(v.rw), errBroken)
			}))
			w.failed(name, r)
		}
	}
	n.spy.Between(nil)
	if found := stored.look(n); found.user != user || found.key != key || len(found.keys) > 0 {
		w.Errorf("the browser has %+v", found)
	}
}

func readFails(w *web) {
	n := w.serve(0, session.Options{})
	user := w.unique("user")
	b, _ := n.loggedIn(user)
	n.spy.Between(breaking(spystore.Get))
	r := b.request(n.server, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Handler", "was here")
		for range 2 {
			if _, err := session.FromContext(r.Context()); !errors.Is(err, errBroken) {
				w.Errorf("FromContext: %v; want %v", err, errBroken)
			}
		}
	})
	w.failed("a request with a session", r)
	if got := n.spy.Count(spystore.Get); got != 1 {
		w.Errorf("the store was asked %d times; want once", got)
	}
	w.browser().silent(n, browse)
	if r := b.request(n.server, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTeapot) }); r.status != http.StatusTeapot {
		w.Errorf("a page that needs no session is answered %d", r.status)
	}
	n.spy.Between(nil)
	if found := b.look(n); found.user != user {
		w.Errorf("after the outage the browser has %+v", found)
	}
}
