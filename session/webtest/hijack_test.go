package webtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

// Of connections that a handler takes over, which HTTP/2 has not.

func hijackCases() []webCase {
	return []webCase{
		{name: "a hijack saves the session first and leaves the cookie in the header", protocols: []protocol{http1}, run: hijacks},
		{name: "an upgrade brings the cookie, and what comes later is saved", protocols: []protocol{http1}, run: upgrades},
		{name: "a hijack fails if the session cannot be saved", protocols: []protocol{http1}, run: hijackFails},
		{name: "a hijack leaves an ID that is due, and a login, to another answer", protocols: []protocol{http1}, run: hijackLater},
		{name: "HTTP/2 cannot be hijacked", protocols: []protocol{http2}, run: noHijack},
	}
}

// hijack takes the connection over for talk.
func hijack(v *visit, talk func(conn net.Conn, rw *bufio.ReadWriter)) {
	conn, rw, err := http.NewResponseController(v.rw).Hijack()
	if err != nil {
		v.Errorf("Hijack: %v", err)
		return
	}
	defer conn.Close()
	talk(conn, rw)
}

func hijacks(w *web) {
	n := w.serve(0, session.Options{})
	b := w.browser()
	r := b.visit(n, func(v *visit) {
		v.set("before", true)
		hijack(v, func(_ net.Conn, rw *bufio.ReadWriter) {
			if v.s.Key().IsZero() {
				v.Error("nothing is stored after Hijack")
			}
			fmt.Fprint(rw, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n")
			v.must("write the header", v.rw.Header().Write(rw))
			fmt.Fprint(rw, "\r\nhello")
			v.must("Flush", rw.Flush())
			v.set("after", true)
		})
	})
	if r.body != "hello" || len(r.set()) != 1 || b.cookie(n) == "" {
		w.Errorf("the answer is %q with %d cookies", r.body, len(r.set()))
	}
	w.eventually("what was changed after the hijack is saved", func() bool { return b.look(n).has("after") })
	if !b.look(n).has("before") {
		w.Error("what was changed before the hijack is not saved")
	}
}

// upgrades has a handler that sends 101 through the ResponseWriter, as reverse
// proxies do, and then echoes.
func upgrades(w *web) {
	n := w.serve(0, session.Options{})
	b := w.browser()
	path := n.server.add(n.page(func(v *visit) {
		v.set("before", true)
		v.rw.Header().Set("Connection", "Upgrade")
		v.rw.Header().Set("Upgrade", "echo")
		v.rw.WriteHeader(http.StatusSwitchingProtocols)
		hijack(v, func(conn net.Conn, rw *bufio.ReadWriter) {
			line, err := rw.ReadString('\n')
			v.must("read", err)
			v.set("heard", line)
			v.must("Save", v.s.Save(v.r.Context()))
			_, err = io.WriteString(conn, line)
			v.must("write", err)
		})
	}))
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, n.server.URL+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := (&http.Client{Transport: n.server.Client().Transport, Jar: b.jar}).Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols || len(resp.Header["Set-Cookie"]) != 1 {
		w.Fatalf("the answer is %d with %d cookies", resp.StatusCode, len(resp.Header["Set-Cookie"]))
	}
	if _, err := io.WriteString(resp.Body.(io.Writer), "hello\n"); err != nil {
		w.Error(err)
	}
	if echo, err := bufio.NewReader(resp.Body).ReadString('\n'); echo != "hello\n" {
		w.Errorf("the echo is %q, %v", echo, err)
	}
	b.silent(n, func(v *visit) {
		v.must("Reload", v.s.Reload(v.r.Context()))
		want(v, "before", true)
		want(v, "heard", "hello\n")
	})
}

func hijackFails(w *web) {
	n := w.serve(0, session.Options{})
	b := w.browser()
	n.spy.Between(breaking(spystore.Create))
	r := b.request(n.server, n.page(func(v *visit) {
		v.set("lost", true)
		_, _, err := http.NewResponseController(v.rw).Hijack()
		v.refused("Hijack", err, errBroken)
	}))
	if r.status != http.StatusServiceUnavailable || len(r.set()) > 0 {
		w.Errorf("the answer is %d with %d cookies; want 503 without", r.status, len(r.set()))
	}
}

// hijackLater has a handler that writes a header of its own, as libraries for
// websockets do.
func hijackLater(w *web) {
	user := w.unique("user")
	n, b, key := w.due(0, user)
	r := b.visit(n, func(v *visit) {
		v.set("socket", true)
		hijack(v, func(_ net.Conn, rw *bufio.ReadWriter) {
			fmt.Fprint(rw, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
			v.must("Flush", rw.Flush())
		})
	})
	if r.body != "hello" || len(r.set()) > 0 {
		w.Errorf("the answer is %q with %d cookies", r.body, len(r.set()))
	}
	if n.happened(0, session.EventRenewed); !w.live(key).Expires.After(w.now()) {
		w.Error("the session has ended")
	}
	r = b.request(n.server, n.page(func(v *visit) {
		v.must("Login", v.s.Login(v.r.Context(), user+"2", session.Login{}))
		_, _, err := http.NewResponseController(v.rw).Hijack()
		v.refused("Hijack", err, session.ErrTooLate)
	}))
	if r.status != http.StatusInternalServerError || len(r.set()) > 0 {
		w.Errorf("the answer is %d with %d cookies; want 500 without", r.status, len(r.set()))
	}
	b.visit(n, nothing) // which brings the new ID
	if found := b.look(n); found.user != user || found.key == key || !found.has("socket") || !found.has("before") {
		w.Errorf("the browser has %+v", found)
	}
}

func noHijack(w *web) {
	n := w.serve(0, session.Options{})
	b := w.browser()
	b.visit(n, func(v *visit) {
		v.set("kept", true)
		_, _, err := http.NewResponseController(v.rw).Hijack()
		v.refused("Hijack", err, http.ErrNotSupported)
		v.say("done")
	})
	if !b.look(n).has("kept") {
		w.Error("the session is lost")
	}
}
