package webtest

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"sync"

	"github.com/sojourn-go/sojourn/session"
)

// browser keeps cookies. They go to all nodes: a cookie knows hosts, not ports.
type browser struct {
	*web
	jar http.CookieJar
}

func (w *web) browser() *browser {
	w.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.Fatal(err)
	}
	return &browser{w, jar}
}

// twin is a browser with the same cookies, of which the two go on with their
// own.
func (b *browser) twin(n *node) *browser {
	b.Helper()
	other := b.browser()
	other.jar.SetCookies(b.address(n.server), b.jar.Cookies(b.address(n.server)))
	return other
}

func (b *browser) address(s *server) *url.URL {
	b.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		b.Fatal(err)
	}
	return u
}

// cookie is what the browser would send; empty if it has none.
func (b *browser) cookie(n *node) string {
	b.Helper()
	for _, c := range b.jar.Cookies(b.address(n.server)) {
		if c.Name == n.cookie {
			return c.Value
		}
	}
	return ""
}

// reply is an answer, or the error that came instead.
type reply struct {
	status int
	header http.Header
	body   string
	err    error
}

var versionCookie = regexp.MustCompile(`^[^=]*-v\d=`)

// set returns the cookies of that answer, but for those that tell a version.
func (r reply) set() []string {
	return slices.DeleteFunc(slices.Clone(r.header["Set-Cookie"]), versionCookie.MatchString)
}

// try sends a request that page handles.
func (b *browser) try(ctx context.Context, s *server, page http.HandlerFunc, mods ...func(*http.Request)) reply {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+s.add(page), nil)
	if err != nil {
		return reply{err: err}
	}
	for _, mod := range mods {
		mod(req)
	}
	client := &http.Client{Transport: s.Client().Transport, Jar: b.jar}
	resp, err := client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	if resp.Proto != string(b.protocol) {
		b.Errorf("the answer came by %s; want %s", resp.Proto, b.protocol)
	}
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(body), err}
}

// request is try that has to succeed.
func (b *browser) request(s *server, page http.HandlerFunc, mods ...func(*http.Request)) reply {
	b.Helper()
	r := b.try(b.ctx, s, page, mods...)
	if r.err != nil {
		b.Errorf("request: %v", r.err)
	}
	return r
}

// visit is request for a page with a session.
func (b *browser) visit(n *node, f func(v *visit)) reply {
	b.Helper()
	r := b.request(n.server, n.page(f))
	if r.status != http.StatusOK {
		b.Errorf("the answer is %d %q; want 200", r.status, r.body)
	}
	return r
}

// silent is visit that must not set a cookie.
func (b *browser) silent(n *node, f func(v *visit)) {
	b.Helper()
	if r := b.visit(n, f); len(r.set()) > 0 {
		b.Errorf("the answer sets a cookie: %d", len(r.set()))
	}
}

// loggedIn is a browser whose user is logged in, and the key of its session.
func (n *node) loggedIn(user string) (*browser, session.Key) {
	n.Helper()
	b := n.browser()
	var key session.Key
	b.visit(n, func(v *visit) {
		v.login(user)
		key = v.s.Key()
	})
	if key.IsZero() || b.cookie(n) == "" {
		n.Fatal("the login gave no session or no cookie")
	}
	return b, key
}

// look returns what the database has for the cookie of a browser.
func (b *browser) look(n *node) (found looked) {
	b.Helper()
	b.silent(n, func(v *visit) {
		v.must("Reload", v.s.Reload(v.r.Context()))
		found = looked{v.s.User(), v.s.Key(), v.s.Keys()}
	})
	return found
}

type looked struct {
	user string
	key  session.Key
	keys []string
}

func (l looked) has(key string) bool { return slices.Contains(l.keys, key) }

// pending is a request that waits in its handler.
type pending struct {
	*web
	release func()
	done    chan reply
}

// begin sends a request that waits after before, and returns when it does.
// finish lets it go on with after.
func (b *browser) begin(n *node, before, after func(v *visit)) *pending {
	b.Helper()
	reached, released := make(chan struct{}), make(chan struct{})
	p := &pending{b.web, sync.OnceFunc(func() { close(released) }), make(chan reply, 1)}
	b.Cleanup(p.release) // the server waits for its requests
	path := n.page(func(v *visit) {
		before(v)
		close(reached)
		<-released
		after(v)
	})
	go func() { p.done <- b.try(b.ctx, n.server, path) }()
	select {
	case <-reached:
	case r := <-p.done:
		b.Fatalf("the request did not wait: %d %q %v", r.status, r.body, r.err)
	}
	return p
}

// finish lets the request go on, and returns its answer.
func (p *pending) finish() reply {
	p.Helper()
	p.release()
	r := <-p.done
	if r.err != nil {
		p.Errorf("request: %v", r.err)
	}
	return r
}

// all runs f concurrently for 0 to n-1.
func all(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
