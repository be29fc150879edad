//go:build unix

package browser

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// always gives a session another ID with each request, and no grace to the one
// before: a cookie that does not arrive logs its user out.
var always = session.Policy{RenewAfter: time.Nanosecond, RenewGrace: -1}

func TestALogoutAndALoginInOneAnswerLeaveTheUserLoggedIn(t *testing.T) {
	s := newSite(t, session.Options{})
	s.page("/switch", func(v visit) {
		v.must("Logout", v.s.Logout(v.r.Context()))
		v.must("Login", v.s.Login(v.r.Context(), "bob", session.Login{}))
		v.must("Flash", v.s.Flash("welcome, bob"))
	})
	s.page("/flashes", func(v visit) {
		all, err := session.Flashes[string](v.s)
		v.must("Flashes", err)
		v.say(fmt.Sprint(all))
	})
	report := s.run("/", `
		document.cookie = "theme=dark; secure; path=/";
		await ask("/login?as=alice");
		localStorage.setItem("draft", "private");
		await ask("/switch");
		return {who: await ask("/who"), flashes: await ask("/flashes"), draft: localStorage.getItem("draft")};`)
	s.is(report, "who", "bob: ")
	s.is(report, "flashes", "[welcome, bob]")
	s.is(report, "draft", nil)
	if n, err := s.store.Len(t.Context()); n != 1 || err != nil {
		t.Errorf("%d sessions, %v; want bob's", n, err)
	}
}

func TestALogoutClearsCookiesAndStorageAtOnce(t *testing.T) {
	s := newSite(t, session.Options{})
	report := s.run("/", `
		await ask("/login?as=alice");
		document.cookie = "theme=dark; secure; path=/";
		localStorage.setItem("draft", "private");
		await ask("/logout");
		return {who: await ask("/who"), cookies: document.cookie, draft: localStorage.getItem("draft")};`)
	s.is(report, "who", ": ")
	s.is(report, "cookies", "")
	s.is(report, "draft", nil)
}

// accept is the header of an upgrade (RFC 6455, section 4.2.2).
func accept(r *http.Request) string {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// hello is a frame with that text.
const hello = "\x81\x05hello"

func TestAWebsocketOfALibraryKeepsItsUserLoggedIn(t *testing.T) {
	s := newSite(t, session.Options{Policy: always})
	s.page("/own101", func(v visit) { // as libraries do
		v.must("Set", v.s.Set("socket", true))
		conn, _, err := http.NewResponseController(v.w).Hijack()
		if err != nil {
			v.Errorf("Hijack: %v", err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n%s", accept(v.r), hello)
	})
	report := s.run("/", `
		await ask("/login?as=alice");
		const heard = await socket("/own101");
		return {heard, who: await ask("/who"), again: await ask("/who")};`)
	s.is(report, "heard", "hello")
	s.is(report, "who", "alice: socket")
	s.is(report, "again", "alice: socket")
}

func TestAWebsocketTakesTheCookieOfItsHeader(t *testing.T) {
	s := newSite(t, session.Options{Policy: always})
	s.page("/our101", func(v visit) {
		header := v.w.Header()
		header.Set("Upgrade", "websocket")
		header.Set("Connection", "Upgrade")
		header.Set("Sec-WebSocket-Accept", accept(v.r))
		v.w.WriteHeader(http.StatusSwitchingProtocols)
		if len(header["Set-Cookie"]) != 1 {
			v.Errorf("%d cookies; want a new ID", len(header["Set-Cookie"]))
		}
		conn, _, err := http.NewResponseController(v.w).Hijack()
		if err != nil {
			v.Errorf("Hijack: %v", err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, hello)
	})
	report := s.run("/", `
		await ask("/login?as=alice");
		const heard = await socket("/our101");
		return {heard, who: await ask("/who")};`)
	s.is(report, "heard", "hello")
	s.is(report, "who", "alice: ")
}

func TestARequestThatIsAbortedKeepsItsUserLoggedIn(t *testing.T) {
	s := newSite(t, session.Options{Policy: always})
	reached, over := make(chan struct{}), make(chan struct{})
	s.page("/slow", func(v visit) {
		v.must("Set", v.s.Set("paid", true))
		close(reached)
		<-v.r.Context().Done()
		close(over)
	})
	s.mux.HandleFunc("/reached", func(http.ResponseWriter, *http.Request) { <-reached })
	s.mux.HandleFunc("/over", func(http.ResponseWriter, *http.Request) { <-over })
	report := s.run("/", `
		await ask("/login?as=alice");
		const abort = new AbortController();
		const failed = fails("/slow", {signal: abort.signal});
		await ask("/reached");
		abort.abort();
		await ask("/over");
		let who;
		do { who = await ask("/who") } while (who === "alice: ") // until the change is saved
		return {failed: await failed, who};`)
	s.is(report, "failed", true)
	s.is(report, "who", "alice: paid")
}

func TestAPanicAfterALoginLeavesTheCart(t *testing.T) {
	s := newSite(t, session.Options{})
	s.page("/broken", func(v visit) {
		v.must("Login", v.s.Login(v.r.Context(), "alice", session.Login{}))
		v.say("welcome")
		panic("oops")
	})
	report := s.run("/", `
		await ask("/set?key=cart");
		const failed = await fails("/broken", {method: "POST"});
		const who = await ask("/who");
		await ask("/login?as=alice");
		return {failed, who, then: await ask("/who")};`)
	s.is(report, "failed", true)
	s.is(report, "who", ": cart")
	s.is(report, "then", "alice: cart")
}

func TestARedirectAfterALoginBringsTheCookie(t *testing.T) {
	s := newSite(t, session.Options{})
	s.page("/in", func(v visit) {
		v.must("Login", v.s.Login(v.r.Context(), "alice", session.Login{}))
		http.Redirect(v.w, v.r, "/who", http.StatusSeeOther)
	})
	report := s.run("/", `
		await ask("/set?key=cart");
		return {who: await ask("/in", {method: "POST"})};`)
	s.is(report, "who", "alice: cart")
}

// A change of Domain or Path leaves everybody with a cookie of the same name.
func TestAStaleCookieIsClearedAndTheLiveOneKept(t *testing.T) {
	for name, change := range map[string]func(host string) (before, after session.Cookie){
		"from a parent domain to a host": func(host string) (session.Cookie, session.Cookie) {
			return session.Cookie{Name: "sid", Domain: host[len("www."):]}, session.Cookie{Name: "sid"}
		},
		"from a host to a domain": func(host string) (session.Cookie, session.Cookie) {
			return session.Cookie{Name: "sid"}, session.Cookie{Name: "sid", Domain: host[len("www."):]}
		},
		"from a path to the root": func(string) (session.Cookie, session.Cookie) {
			return session.Cookie{Name: "sid", Path: "/app"}, session.Cookie{Name: "sid"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, session.Options{})
			before, after := change(s.address.Hostname())
			s.manage(session.Options{Cookie: before})
			s.page("/app/login", func(v visit) { v.must("Login", v.s.Login(v.r.Context(), "alice", session.Login{})) })
			s.page("/app/who", func(v visit) { v.say(fmt.Sprint(v.s.User(), " ", len(v.r.CookiesNamed("sid")))) })
			s.mux.HandleFunc("/app/change", func(_ http.ResponseWriter, r *http.Request) {
				if _, err := s.m.Load().RevokeUser(r.Context(), "alice"); err != nil { // the old session is dead
					t.Error(err)
				}
				s.manage(session.Options{Cookie: after})
			})
			report := s.run("/app/", `
				await ask("/app/login");
				await ask("/app/change");
				const nobody = await ask("/app/who");
				await ask("/app/login");
				return {nobody, first: await ask("/app/who"), then: await ask("/app/who")};`)
			s.is(report, "nobody", " 1")
			s.is(report, "first", "alice 2")
			s.is(report, "then", "alice 1")
		})
	}
}
