package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// lease is for how long a node may answer from its memory what is not true any more.
const lease = 2 * time.Second

// users are people who log in, click on all nodes and log out, until they leave.
// What they were told is kept, and compared with what they are told later.
type users struct {
	*demo
	t    *testing.T
	home context.CancelFunc // ends what they do
	gone sync.WaitGroup

	mu    sync.Mutex
	alive []*login
	dead  []*login
	done  int // logins, clicks and logouts that were acknowledged
}

// login is a session, as its user knows it.
type login struct {
	*browser
	id     string
	user   string
	clicks int       // acknowledged
	maybe  int       // clicks whose answer was lost
	ended  time.Time // when its logout was answered
}

// arrive has users come.
func (d *demo) arrive(t *testing.T) *users {
	ctx, stop := context.WithCancel(t.Context())
	u := &users{demo: d, t: t, home: stop}
	t.Cleanup(func() { stop(); u.gone.Wait() })
	for i := range 4 {
		u.gone.Go(func() {
			for ctx.Err() == nil {
				u.comeAndGo(ctx, fmt.Sprintf("user-%d", i))
			}
		})
	}
	u.goOn(t)
	return u
}

// goOn waits until users have done much without a failure since.
func (u *users) goOn(t *testing.T) {
	t.Helper()
	before := u.count()
	dbtest.Eventually(t, "the users go on", func() bool { return u.count() > before+60 || t.Failed() })
	if t.Failed() {
		t.FailNow()
	}
}

func (u *users) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.done
}

// comeAndGo is one login: clicks on two nodes at a time, and perhaps a logout.
func (u *users) comeAndGo(ctx context.Context, user string) {
	l := &login{browser: newBrowser(u.connections), user: user}
	u.tryStolen()
	at := u.anyNode()
	if !u.told(l.send(at, http.MethodPost, "/login?user="+user, nil)) {
		u.pause(ctx)
		return
	}
	l.id = u.secret(l.browser)
	for range rand.IntN(4) {
		u.click(l)
		u.pause(ctx)
	}
	if rand.IntN(2) == 0 {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.alive = append(u.alive, l)
		return
	}
	at = u.anyNode()
	if !u.told(l.send(at, http.MethodPost, "/logout", nil)) {
		return // it may have ended
	}
	l.ended = time.Now()
	u.refused(l, at, true)
	u.refused(l, u.anyNode(), false)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dead = append(u.dead, l)
}

// tryStolen asks a node for a session that was logged out some time ago.
func (u *users) tryStolen() {
	u.mu.Lock()
	var l *login
	if len(u.dead) > 0 {
		l = u.dead[rand.IntN(len(u.dead))]
	}
	u.mu.Unlock()
	if l != nil {
		u.refused(l, u.anyNode(), false)
	}
}

// click clicks on two nodes at a time. No click that was acknowledged is lost.
func (u *users) click(l *login) {
	var clicks sync.WaitGroup
	var mu sync.Mutex
	before, sure, open := l.clicks, 0, 0
	for range 2 {
		clicks.Go(func() {
			var now struct{ Clicks int }
			ok := u.told(l.send(u.anyNode(), http.MethodPost, "/count", &now))
			if ok && now.Clicks <= before {
				u.t.Errorf("a click after %d others is the %dth", before, now.Clicks)
			}
			mu.Lock()
			defer mu.Unlock()
			if ok {
				sure++
			} else {
				open++
			}
		})
	}
	clicks.Wait()
	l.clicks, l.maybe = l.clicks+sure, l.maybe+open
	u.sees(l, u.anyNode())
}

// sees asks a node for what its user was told before, by whatever node.
func (u *users) sees(l *login, n *node) {
	var now struct{ Clicks int }
	if u.told(l.send(n, http.MethodGet, "/me", &now)) && now.Clicks < l.clicks {
		u.t.Errorf("%s shows %d clicks after %d", n.name, now.Clicks, l.clicks)
	}
}

// goBackAndForth has users click on one node and look on another at once, as
// after a redirect.
func (u *users) goBackAndForth(t *testing.T, times int) {
	const browsers = 10
	var all sync.WaitGroup
	for i := range browsers {
		all.Go(func() {
			l := &login{browser: newBrowser(u.connections)}
			if !u.told(l.send(u.nodes[i%len(u.nodes)], http.MethodPost, fmt.Sprint("/login?user=traveller-", i), nil)) {
				t.Error("a login failed")
				return
			}
			for j := range times / browsers {
				if u.told(l.send(u.nodes[j%len(u.nodes)], http.MethodPost, "/count", nil)) {
					l.clicks++
				}
				for k := range u.nodes {
					u.sees(l, u.nodes[(j+k+1)%len(u.nodes)])
				}
			}
			if l.clicks < times/browsers {
				t.Errorf("%d of %d clicks were acknowledged", l.clicks, times/browsers)
			}
		})
	}
	all.Wait()
}

// told reports whether a request was granted. One that was not may fail because a
// node or the database is away, and for no other reason.
func (u *users) told(status int, err error) bool {
	switch {
	case status == http.StatusOK:
		u.mu.Lock()
		defer u.mu.Unlock()
		u.done++
		return true
	case status != 0 && status != http.StatusServiceUnavailable:
		u.t.Errorf("a user who is logged in is told: %d, %v", status, err)
	}
	return false
}

// refused asks a node for a session that was logged out. The node of the logout
// must refuse it, and every other one that is asked later than a lease after it.
func (u *users) refused(l *login, n *node, same bool) (certain bool) {
	late := same || time.Since(l.ended) > lease
	status, err := u.thief(l.id).send(n, http.MethodGet, "/me", nil)
	switch status {
	case http.StatusUnauthorized:
		return true
	case http.StatusOK:
		if late {
			u.t.Errorf("%s serves a session %v after its logout", n.name, time.Since(l.ended))
		}
	case 0, http.StatusServiceUnavailable: // the node or the database is away
	default:
		u.t.Errorf("%s, after a logout: %d, %v", n.name, status, err)
	}
	return false
}

// leave ends the traffic and looks at what is left of it: the sessions that live
// have all clicks, those that were ended are dead, and a logout everywhere ends the
// rest.
func (u *users) leave(t *testing.T) {
	t.Helper()
	u.home()
	u.gone.Wait()
	for _, n := range u.nodes {
		for _, l := range u.alive {
			var now struct{ Clicks int }
			dbtest.Eventually(t, fmt.Sprintf("%s knows %s's %d clicks and perhaps %d more", n.name, l.user, l.clicks, l.maybe), func() bool {
				status, _ := l.send(n, http.MethodGet, "/me", &now)
				return status == http.StatusOK && l.clicks <= now.Clicks && now.Clicks <= l.clicks+l.maybe
			})
		}
		for _, l := range u.dead {
			dbtest.Eventually(t, n.name+" refuses a session that was logged out", func() bool { return u.refused(l, n, false) })
		}
	}
	ended := map[string]bool{}
	for _, l := range u.alive {
		if !ended[l.user] {
			ended[l.user] = true
			if status, err := l.send(u.nodes[1], http.MethodPost, "/logout-all", nil); status != http.StatusOK {
				t.Errorf("log out everywhere: %d, %v", status, err)
			}
		}
		l.ended = time.Now()
		u.refused(l, u.nodes[1], true)
		for _, n := range u.nodes {
			dbtest.Eventually(t, n.name+" refuses what a logout everywhere has ended", func() bool { return u.refused(l, n, false) })
		}
	}
	if len(u.alive) == 0 || len(u.dead) == 0 {
		t.Errorf("%d sessions lived and %d were ended: this proves nothing", len(u.alive), len(u.dead))
	}
	t.Logf("%d requests granted; %d sessions lived, %d were logged out", u.done, len(u.alive), len(u.dead))
}

// secrets are the IDs of all sessions.
func (u *users) secrets() (ids []string) {
	for _, l := range slices.Concat(u.alive, u.dead) {
		ids = append(ids, l.id)
	}
	return ids
}

func (u *users) anyNode() *node { return u.nodes[rand.IntN(len(u.nodes))] }

// pause keeps users from using up the machine.
func (u *users) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}

// browser keeps cookies, for all ports of a host as browsers do.
type browser struct{ http.Client }

func newBrowser(connections http.RoundTripper) *browser {
	jar, _ := cookiejar.New(nil) // it never fails
	return &browser{http.Client{Jar: jar, Transport: connections, Timeout: dbtest.Patience}}
}

// thief returns a browser that has a session ID in its cookie. A logout takes the
// cookie from the browser of its user, but not from this one.
func (d *demo) thief(id string) *browser {
	b := newBrowser(d.connections)
	b.Jar.SetCookies(d.host(), []*http.Cookie{{Name: "demo_session", Value: id}})
	return b
}

// secret is the session ID in the cookie.
func (d *demo) secret(b *browser) string {
	for _, c := range b.Jar.Cookies(d.host()) {
		if c.Name == "demo_session" {
			return c.Value
		}
	}
	return ""
}

func (d *demo) host() *url.URL { return &url.URL{Scheme: "http", Host: "127.0.0.1"} }

// send sends a request to a node. It returns the status, 0 if there is no answer,
// and what the node said if that is not 200; else the JSON is read into reply.
func (b *browser) send(n *node, method, path string, reply any) (status int, err error) {
	req, err := http.NewRequest(method, n.url+path, nil)
	if err != nil {
		return 0, err
	}
	answer, err := b.Do(req)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err // the node died while it answered
	}
	if answer.StatusCode != http.StatusOK {
		return answer.StatusCode, errors.New(string(text))
	}
	if reply != nil {
		err = json.Unmarshal(text, reply)
	}
	return answer.StatusCode, err
}
