package nodestore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// onPostgres has a service on connect-pg-simple's table, with the real clock.
func onPostgres(t *testing.T) *web {
	t.Helper()
	db := stdlib.OpenDBFromPool(dbtest.Pool(t, dbtest.Postgres(t).Database(t), nil))
	t.Cleanup(func() { _ = db.Close() })
	w := &web{TB: t, clock: &movedClock{now: time.Now()}}
	w.on(db, nodestore.ConnectPGSimple())
	w.express(nodestore.ExpressOptions{
		Cookie:     nodestore.Cookie{MaxAge: time.Hour, SameSite: "lax", Secure: nodestore.SecureAuto},
		GenerateID: func(r *http.Request) (string, error) { return "go-" + r.FormValue("as"), nil },
	})
	return w
}

// shop is a service that keeps its cart in the Node application's sessions.
func (w *web) shop() http.Handler {
	mux := http.NewServeMux()
	page := func(pattern string, serve func(turn)) {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			if s, err := nodestore.FromContext(r.Context()); err == nil {
				serve(turn{w, rw, r, s, nil})
			}
		})
	}
	page("/who", func(t turn) {
		cart, err := nodestore.Value[[]string](t.s, "cart")
		fmt.Fprintf(t.w, "%s%v%v", t.s.User(), cart, err)
	})
	page("/add", func(t turn) {
		what := t.r.FormValue("what")
		if err := nodestore.Update(t.s, "cart", func(cart []string) []string { return append(cart, what) }); err != nil {
			t.Error(err)
		}
	})
	page("/login", func(t turn) {
		if err := t.s.Renew(t.ctx()); err != nil {
			t.Error(err)
		}
		if err := t.s.SetPath([]string{"passport", "user"}, t.r.FormValue("as")); err != nil {
			t.Error(err)
		}
	})
	page("/logout", func(t turn) {
		if err := t.s.Destroy(t.ctx()); err != nil {
			t.Error(err)
		}
	})
	page("/stream", func(t turn) {
		_ = t.s.Set("streamed", true)
		for range 3 {
			_, _ = io.WriteString(t.w, "part ")
			_ = http.NewResponseController(t.w).Flush()
		}
	})
	page("/hijack", func(t turn) {
		_ = t.s.Set("hijacked", true)
		conn, buf, err := http.NewResponseController(t.w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
		_ = buf.Flush()
	})
	return w.m.Handler(mux)
}

// browser is a client with a jar.
type browser struct {
	*web
	http.Client
	at string
}

func (w *web) browser(server *httptest.Server) *browser {
	w.Helper()
	jar, err := cookiejar.New(nil)
	w.must("cookiejar", err)
	client := *server.Client()
	client.Jar = jar
	return &browser{w, client, server.URL}
}

// visit returns the body of a page.
func (b *browser) visit(path string) string {
	b.Helper()
	res, err := b.Get(b.at + path)
	if err != nil {
		b.Error(err)
		return ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		b.Errorf("%s: status %d, %v", path, res.StatusCode, err)
	}
	return string(body)
}

// give puts a cookie that Node has set into the jar.
func (b *browser) give(line string) {
	at, err := url.Parse(b.at)
	b.must("URL", err)
	c, err := http.ParseSetCookie(line)
	b.must("Set-Cookie", err)
	b.Jar.SetCookies(at, []*http.Cookie{c})
}

func (b *browser) cookie() string {
	at, _ := url.Parse(b.at)
	for _, c := range b.Jar.Cookies(at) {
		if c.Name == "connect.sid" {
			return c.Value
		}
	}
	return ""
}

func TestABrowserThatNodeLoggedInIsServed(t *testing.T) {
	t.Parallel()
	w := onPostgres(t)
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		server := httptest.NewUnstartedServer(w.shop())
		server.EnableHTTP2 = protocol == "HTTP/2.0"
		server.StartTLS()
		t.Cleanup(server.Close)
		expires := w.clock.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000Z")
		w.node(sidA, `{"cookie":{"originalMaxAge":3600000,"expires":"`+expires+`","httpOnly":true,"path":"/"},"passport":{"user":"106"},"cart":["nut"],"n":12345678901234567890}`)
		b := w.browser(server)
		if got := b.visit("/who"); got != "[]<nil>" {
			t.Errorf("%s: without a cookie it is %s", protocol, got)
		}
		b.give(cookieA + "; Path=/; HttpOnly")
		if got := b.visit("/who"); got != "106[nut]<nil>" {
			t.Errorf("%s: it is %s", protocol, got)
		}
		b.visit("/add?what=bolt")
		if got := b.visit("/who"); got != "106[nut bolt]<nil>" || !strings.Contains(w.row(sidA), `"cart":["nut","bolt"],"n":12345678901234567890`) {
			t.Errorf("%s: it is %s, the row %s", protocol, got, w.row(sidA))
		}
		if got := b.visit("/stream"); got != "part part part " || !strings.Contains(w.row(sidA), `"streamed":true`) {
			t.Errorf("%s: streamed %q", protocol, got)
		}
		if protocol == "HTTP/1.1" {
			if got := b.visit("/hijack"); got != "ok" || !strings.Contains(w.row(sidA), `"hijacked":true`) {
				t.Errorf("hijacked: %q", got)
			}
		}
		// A login gives a new ID, and the old one is dead.
		old := w.browser(server)
		old.give(cookieA + "; Path=/; HttpOnly")
		b.visit("/login?as=ann" + protocol[5:6])
		if got := b.visit("/who"); got != "ann"+protocol[5:6]+"[nut bolt]<nil>" || w.row(sidA) != "" {
			t.Errorf("%s: after the login it is %s, the old row %q", protocol, got, w.row(sidA))
		}
		if got := old.visit("/who"); got != "[]<nil>" {
			t.Errorf("%s: the old ID still opens %s", protocol, got)
		}
		// After a logout the cookie, which express-session leaves, opens nothing.
		was := b.cookie()
		b.visit("/logout")
		if got := b.visit("/who"); got != "[]<nil>" || b.cookie() != was {
			t.Errorf("%s: after the logout it is %s", protocol, got)
		}
	}
}

func TestANodeLogoutIsSeenByTheNextRequest(t *testing.T) {
	t.Parallel()
	w := onPostgres(t)
	server := httptest.NewTLSServer(w.shop())
	t.Cleanup(server.Close)
	b := w.browser(server)
	b.visit("/add?as=x&what=nut")
	if got := b.visit("/who"); got != "[nut]<nil>" {
		t.Errorf("it is %s", got)
	}
	_, err := w.store.rows.Destroy(t.Context(), "go-x")
	w.must("Destroy", err)
	if got := b.visit("/who"); got != "[]<nil>" {
		t.Errorf("after the logout it is %s", got)
	}
}

func TestManyBrowsersOfOneSessionLoseNothing(t *testing.T) {
	t.Parallel()
	w := onPostgres(t)
	server := httptest.NewTLSServer(w.shop())
	t.Cleanup(server.Close)
	w.node(sidA, `{"cookie":{},"passport":{"user":"106"}}`)
	var all sync.WaitGroup
	for i := range 4 {
		b := w.browser(server)
		b.give(cookieA + "; Path=/")
		all.Go(func() {
			for j := range 5 {
				b.visit(fmt.Sprintf("/add?what=%d.%d", i, j))
			}
		})
	}
	all.Wait()
	cart, err := nodestore.Value[[]string](parsed(t, w.row(sidA)), "cart")
	if len(cart) != 20 || err != nil {
		t.Errorf("the cart has %d; want 20: %v, %v", len(cart), cart, err)
	}
}

// What no database can hold must not make a request fail.
func TestSignedIDsThatNoRowCanHaveAreUnknown(t *testing.T) {
	t.Parallel()
	w := onPostgres(t)
	for _, sid := range []string{"a\x00b", strings.Repeat("x", 8<<10), "é\U0001F680", "' OR true --", " "} {
		res := w.ask("connect.sid="+nodestore.ExpressValue(secret, sid), reads)
		if res.StatusCode != http.StatusOK || cookies(res) != "" || w.told() != "unknown ID" {
			t.Errorf("a sid of %d bytes: status %d", len(sid), res.StatusCode)
		}
	}
}

func TestADatabaseThatIsAwayIsA503(t *testing.T) {
	t.Parallel()
	w := onPostgres(t)
	w.node(sidA, lastingRow)
	server := httptest.NewServer(w.shop())
	t.Cleanup(server.Close)
	w.must("Close", w.store.rows.(*nodestore.Store).Close(context.Background()))
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	w.must("Dial", err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET /who HTTP/1.1\r\nHost: a\r\nCookie: %s\r\nConnection: close\r\n\r\n", cookieA)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	w.must("ReadResponse", err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable || cookies(res) != "" || res.Header.Get("Retry-After") != "1" {
		t.Errorf("status %d, cookies %q", res.StatusCode, cookies(res))
	}
	if _, err := w.store.rows.Get(t.Context(), sidA); err == nil || !strings.Contains(err.Error(), session.ErrClosed.Error()) {
		t.Errorf("Get: %v", err)
	}
}
