package webtest

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sojourn-go/sojourn/session"
)

// Of answers that are more than a status and some text.

func streamCases() []webCase {
	return []webCase{
		{name: "a streamed answer has the cookie in its header, and what comes later is saved", protocols: both, run: streams},
		{name: "after the first byte it is too late for a new session", protocols: both, run: tooLate},
		{name: "what an aborted request has done is saved", protocols: both, run: aborted},
		{name: "a panic saves nothing and aborts the answer", protocols: both, run: panics},
		{name: "a panic after a login leaves the session of before", protocols: both, run: panicsAfterLogin},
		{name: "an aborted request leaves an ID that is due", protocols: both, run: abortedWhenDue},
		{name: "a file is sent after the session is saved", protocols: both, run: sendsFile},
	}
}

func flush(v *visit) { v.must("Flush", http.NewResponseController(v.rw).Flush()) }

// streams has a browser read each of three chunks before the next is sent.
func streams(w *web) {
	n := w.serve(0, session.Options{})
	b, more := w.browser(), make(chan struct{})
	chunks := []string{"one\n", "two\n", "three\n"}
	path := n.server.add(n.page(func(v *visit) {
		v.set("before", true)
		for i, chunk := range chunks {
			v.say(chunk)
			flush(v)
			<-more
			v.set("while", i)
			if i == 1 {
				v.must("Save", v.s.Save(v.r.Context()))
				other, err := n.spy.Get(v.r.Context(), v.s.Key())
				if err != nil || !strings.Contains(string(other.Data), `"while":1`) {
					v.Errorf("Save after the first byte has stored %q, %v", other.Data, err)
				}
			}
		}
	}))
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, n.server.URL+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	resp, err := (&http.Client{Transport: n.server.Client().Transport, Jar: b.jar}).Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	if b.cookie(n) == "" || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Vary") != "Cookie" {
		w.Errorf("the header is %v; want it with the cookie", resp.Header["Cache-Control"])
	}
	body := bufio.NewReader(resp.Body)
	for _, chunk := range chunks {
		if got, err := body.ReadString('\n'); got != chunk {
			w.Errorf("the chunk is %q, %v; want %q", got, err, chunk)
		}
		more <- struct{}{}
	}
	if _, err := body.ReadByte(); err != io.EOF {
		w.Errorf("the answer ends with %v; want its end", err)
	}
	b.silent(n, func(v *visit) {
		want(v, "before", true)
		want(v, "while", 2)
	})
}

func tooLate(w *web) {
	n := w.serve(0, session.Options{})
	b := w.browser()
	b.silent(n, func(v *visit) {
		flush(v)
		v.refused("Set", v.s.Set("new", true), session.ErrTooLate)
		v.refused("Flash", v.s.Flash("new"), session.ErrTooLate)
		v.refused("Login", v.s.Login(v.r.Context(), w.unique("user"), session.Login{}), session.ErrTooLate)
		v.refused("Save", v.s.Save(v.r.Context()), session.ErrTooLate)
	})
	if got := n.written(); got != 0 {
		w.Errorf("%d writes; want none", got)
	}
	user := w.unique("user")
	b, key := n.loggedIn(user)
	var kept *session.Session
	b.silent(n, func(v *visit) {
		kept = v.s
		v.say("begun")
		flush(v)
		v.refused("Login", v.s.Login(v.r.Context(), user, session.Login{}), session.ErrTooLate)
		v.refused("Renew", v.s.Renew(v.r.Context(), 0), session.ErrTooLate)
		v.set("late", true)
	})
	w.refused("Set when the request is over", kept.Set("never", true), session.ErrTooLate)
	w.refused("Save when the request is over", kept.Save(w.ctx), session.ErrTooLate)
	w.refused("Destroy when the request is over", kept.Destroy(w.ctx), session.ErrTooLate)
	if found := b.look(n); found.user != user || found.key != key || !slices.Equal(found.keys, []string{"late"}) {
		w.Errorf("the browser has %+v", found)
	}
}

// aborted has a browser go away while the handler works.
func aborted(w *web) {
	n := w.serve(0, session.Options{})
	b, _ := n.loggedIn(w.unique("user"))
	reached, over := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	page := n.page(func(v *visit) {
		close(reached)
		<-v.r.Context().Done()
		v.set("paid", true)
	})
	gone := make(chan reply, 1)
	go func() {
		gone <- b.try(ctx, n.server, func(rw http.ResponseWriter, r *http.Request) {
			defer close(over)
			page(rw, r)
		})
	}()
	<-reached
	cancel()
	if r := <-gone; r.err == nil {
		w.Errorf("the aborted request was answered: %d", r.status)
	}
	<-over
	w.eventually("the change is saved", func() bool { return b.look(n).has("paid") })
}

func panics(w *web) {
	n := w.serve(0, session.Options{})
	user := w.unique("user")
	b, key := n.loggedIn(user)
	before := n.written()
	for _, value := range []any{http.ErrAbortHandler, "oops"} {
		for name, who := range map[string]*browser{"a session": b, "none": w.browser()} {
			r := who.try(w.ctx, n.server, n.page(func(v *visit) {
				v.set("broken", true)
				v.must("Flash", v.s.Flash("broken"))
				panic(value)
			}))
			if r.err == nil {
				w.Errorf("a panic in a request with %s was answered: %d", name, r.status)
			}
		}
	}
	if got := n.written() - before; got != 0 {
		w.Errorf("%d writes by requests that panicked; want none", got)
	}
	if found := b.look(n); found.user != user || found.key != key || len(found.keys) > 0 {
		w.Errorf("the browser has %+v", found)
	}
}

func panicsAfterLogin(w *web) {
	n := w.serve(0, session.Options{UserLimit: session.UserLimit{Max: 1}})
	user := w.unique("user")
	b := w.browser()
	b.visit(n, func(v *visit) { v.set("cart", "book") })
	key := b.look(n).key
	for _, text := range []string{"", "welcome"} {
		r := b.try(w.ctx, n.server, n.page(func(v *visit) {
			v.must("Login", v.s.Login(v.r.Context(), user, session.Login{}))
			v.set("private", true)
			v.say(text)
			panic(http.ErrAbortHandler)
		}))
		if r.err == nil {
			w.Errorf("a panic after a login was answered: %d %q", r.status, r.body)
		}
		if found := b.look(n); found.user != "" || found.key != key || !slices.Equal(found.keys, []string{"cart"}) {
			w.Errorf("the browser has %+v; want its cart", found)
		}
	}
	w.haveSessions(n, user, nil)
	b.visit(n, func(v *visit) { v.must("Login", v.s.Login(v.r.Context(), user, session.Login{})) })
	if found := b.look(n); found.user != user || !found.has("cart") {
		w.Errorf("after a login the browser has %+v", found)
	}
}

func abortedWhenDue(w *web) {
	user := w.unique("user")
	n, b, key := w.due(0, user)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	reached, over := make(chan struct{}), make(chan struct{})
	page := n.page(func(v *visit) {
		close(reached)
		<-v.r.Context().Done()
		v.set("paid", true)
	})
	gone := make(chan reply, 1)
	go func() {
		gone <- b.try(ctx, n.server, func(rw http.ResponseWriter, r *http.Request) {
			defer close(over)
			n.m.Handler(page).ServeHTTP(rw, r)
		})
	}()
	<-reached
	cancel()
	<-gone
	<-over
	w.eventually("the change is saved", func() bool {
		rec, err := fresh(w.ctx, n.spy, key)
		return err == nil && strings.Contains(string(rec.Data), "paid")
	})
	n.happened(0, session.EventRenewed)
	b.visit(n, nothing) // which brings the new ID
	if found := b.look(n); found.user != user || found.key == key || !found.has("paid") {
		w.Errorf("the browser has %+v", found)
	}
}

func sendsFile(w *web) {
	n := w.serve(0, session.Options{})
	b := w.browser()
	text := strings.Repeat("from a file ", 10_000)
	path := filepath.Join(w.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	r := b.visit(n, func(v *visit) {
		_, reads := v.rw.(io.ReaderFrom)
		if reads != (w.protocol == http1) {
			v.Errorf("the writer is an io.ReaderFrom: %v; want what net/http has", reads)
		}
		file, err := os.Open(path)
		if err != nil {
			v.Error(err)
			return
		}
		defer file.Close()
		v.set("sent", true)
		if _, err := io.Copy(v.rw, file); err != nil {
			v.Errorf("Copy: %v", err)
		}
	})
	if r.body != text || len(r.set()) != 1 {
		w.Errorf("%d bytes and %d cookies came; want %d and 1", len(r.body), len(r.set()), len(text))
	}
	b.silent(n, func(v *visit) {
		want(v, "sent", true)
		http.ServeFile(v.rw, v.r, path)
	})
	if found := b.look(n); !found.has("sent") {
		w.Errorf("the browser has %+v", found)
	}
}
