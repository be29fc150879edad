package sessiontest

import (
	"errors"
	"iter"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

// httpCases are what a store can get wrong as browsers see it.
func httpCases() []testCase {
	return []testCase{
		{name: "what an answer has saved is seen by the next request, on the other node", run: savesSeen},
		{name: "what two requests change at once is merged", run: changesMerged},
		{name: "a logout is final on both nodes, for slow requests, too", run: logoutFinal},
		{name: "a login replaces the ID, and the old one is dead", run: loginReplaces},
		{name: "for a grace period the old ID leads to the new one", run: graceLeads},
		{name: "an expired session is not served and not adopted", run: expiredRefused},
		{name: "requests that only read move the expiry and write nothing else", run: readsTouch},
		{name: "a visitor without a session costs the store nothing", run: visitorFree},
		{name: "users see their sessions and end them", needs: UserIndex, run: usersEnd},
		{name: "a user has no more sessions than the limit", needs: UserIndex, run: usersLimited},
		{name: "a listing gives the sessions of all", needs: Lister, own: true, run: allListed},
		{name: "a store that is closed is answered 503, and the cookie stays", own: true, run: closedAnswered},
	}
}

// RunHTTP tests what a store can get wrong of what browsers see: managers on two
// nodes of the stores that h makes, in parallel subtests. Run tests the stores
// themselves.
func RunHTTP(t *testing.T, h Harness) {
	h = h.withDefaults()
	if h.New == nil || h.Expire == nil {
		t.Fatal("sessiontest: a Harness needs New and Expire")
	}
	runCases(t, h, open(t, h), httpCases())
}

// site is a manager on a node.
type site struct {
	*env
	m *session.Manager
}

// site makes a manager on the i-th node.
func (e *env) site(i int, opts session.Options) *site {
	e.Helper()
	m, err := session.NewManager(e.node(i), opts)
	if err != nil {
		e.Fatalf("NewManager: %v", err)
	}
	return &site{e, m}
}

// browser keeps the cookie of a session, and those that tell which version of it
// the browser has seen.
type browser struct {
	cookie   *http.Cookie
	versions map[string]*http.Cookie
}

// visit sends a request that handle answers with its session, and returns the
// status of the answer.
func (s *site) visit(b *browser, handle func(r *http.Request, sess *session.Session) error) int {
	s.Helper()
	r := httptest.NewRequestWithContext(s.ctx, http.MethodGet, "https://localhost/", nil)
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	for _, c := range b.versions {
		r.AddCookie(c)
	}
	answer := httptest.NewRecorder()
	s.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sess, err := s.m.Session(r.Context())
		if err == nil {
			err = handle(r, sess)
		}
		if err != nil && !errors.Is(err, session.ErrClosed) { // that one is for the manager to answer
			s.Errorf("in the handler: %v", err)
		}
	})).ServeHTTP(answer, r)
	for _, c := range answer.Result().Cookies() {
		switch {
		case c.Name != "__Host-session":
			if b.versions == nil {
				b.versions = map[string]*http.Cookie{}
			}
			b.versions[c.Name] = c
		case c.MaxAge < 0:
			b.cookie = nil
		default:
			b.cookie = c
		}
	}
	return answer.Code
}

func (s *site) login(user string) *browser {
	s.Helper()
	b := &browser{}
	s.loginIn(b, user)
	return b
}

func (s *site) loginIn(b *browser, user string) {
	s.Helper()
	s.visit(b, func(r *http.Request, sess *session.Session) error {
		return sess.Login(r.Context(), user, session.Login{Label: user})
	})
}

func (s *site) set(b *browser, key string, value any) {
	s.Helper()
	s.visit(b, func(_ *http.Request, sess *session.Session) error { return sess.Set(key, value) })
}

func (s *site) logout(b *browser) {
	s.Helper()
	s.visit(b, func(r *http.Request, sess *session.Session) error { return sess.Logout(r.Context()) })
}

// user is who is logged in for a copy of that browser; empty if nobody is.
func (s *site) user(b browser) (user string) {
	s.Helper()
	s.visit(&b, func(_ *http.Request, sess *session.Session) error { user = sess.User(); return nil })
	return user
}

// nobody waits until no node knows the session of that browser. The node of at
// must not know it now.
func (s *site) nobody(b browser, others ...*site) {
	s.Helper()
	if user := s.user(b); user != "" {
		s.Errorf("%s is still logged in", user)
	}
	for _, other := range others {
		s.eventually("the other node refuses the session", func() bool { return other.user(b) == "" })
	}
}

func (e *env) twoSites() (here, there *site) {
	e.Helper()
	return e.site(0, session.Options{}), e.site(1, session.Options{})
}

func savesSeen(e *env) {
	sites := [2]*site{}
	sites[0], sites[1] = e.twoSites()
	user := e.unique("user")
	b := sites[0].login(user)
	text := e.unique("<ü\x00&>")
	sites[0].set(b, "text", text)
	for i := range rounds.Of(30) {
		sites[i%2].set(b, "number", int64(i)<<40)
		for _, s := range []*site{sites[1-i%2], sites[i%2]} {
			s.visit(b, func(_ *http.Request, sess *session.Session) error {
				got, err := session.Get[string](sess, "text")
				number, numberErr := session.Get[int64](sess, "number")
				if sess.User() != user || got != text || number != int64(i)<<40 {
					e.Errorf("round %d: the session of %q has %q and %d", i, sess.User(), got, number)
				}
				return errors.Join(err, numberErr)
			})
		}
	}
}

func changesMerged(e *env) {
	here, there := e.twoSites()
	b := here.login(e.unique("user"))
	add := func(n int) int { return n + 1 }
	here.visit(b, func(_ *http.Request, slow *session.Session) error {
		there.visit(b, func(_ *http.Request, quick *session.Session) error {
			return errors.Join(quick.Set("there", true), session.Update(quick, "count", add))
		})
		return errors.Join(slow.Set("here", true), session.Update(slow, "count", add))
	})
	here.visit(b, func(_ *http.Request, sess *session.Session) error {
		count, err := session.Get[int](sess, "count")
		if !sess.Has("here") || !sess.Has("there") || count != 2 {
			e.Errorf("left: %v, count %d; want both changes", sess.Keys(), count)
		}
		return err
	})
}

func logoutFinal(e *env) {
	here, there := e.twoSites()
	b := here.login(e.unique("user"))
	stolen := *b
	there.user(stolen)
	slow := *b
	here.visit(&slow, func(_ *http.Request, sess *session.Session) error {
		there.logout(b)
		return sess.Set("late", true)
	})
	if b.cookie != nil {
		e.Error("the logout leaves the cookie")
	}
	there.nobody(stolen, here)
	there.nobody(stolen)
}

func loginReplaces(e *env) {
	here, there := e.twoSites()
	b := &browser{}
	here.set(b, "cart", "book")
	before := *b
	user := e.unique("user")
	here.loginIn(b, user)
	here.visit(b, func(_ *http.Request, sess *session.Session) error {
		if sess.User() != user || !sess.Has("cart") {
			e.Errorf("after the login: user %q, %v", sess.User(), sess.Keys())
		}
		return nil
	})
	if b.cookie.Value == before.cookie.Value {
		e.Error("the login keeps the ID")
	}
	here.nobody(before, there)
}

func graceLeads(e *env) {
	here, there := e.twoSites()
	user := e.unique("user")
	b := here.login(user)
	before := *b
	there.user(before)
	here.visit(b, func(r *http.Request, sess *session.Session) error { return sess.Renew(r.Context(), session.MaxGrace) })
	here.set(&before, "late", true) // goes to the successor
	if got := here.user(before); got != user {
		e.Errorf("the old ID leads to %q", got)
	}
	here.visit(b, func(_ *http.Request, sess *session.Session) error {
		if !sess.Has("late") {
			e.Error("a change by the old ID is lost")
		}
		return nil
	})
	stolen, after := before, *b
	there.logout(&before)
	there.nobody(stolen, here)
	there.nobody(after, here)
}

func expiredRefused(e *env) {
	here, there := e.twoSites()
	b := here.login(e.unique("user"))
	there.user(*b)
	var key session.Key
	here.visit(b, func(_ *http.Request, sess *session.Session) error { key = sess.Key(); return nil })
	e.h.Expire(e.T, e.s, key)
	here.nobody(*b, there)
	before := b.cookie.Value
	here.set(b, "new", true)
	if b.cookie.Value == before {
		e.Error("the ID of the expired session is used again")
	}
	here.visit(b, func(_ *http.Request, sess *session.Session) error {
		if !sess.Has("new") || sess.User() != "" {
			e.Errorf("the session after it: user %q, %v", sess.User(), sess.Keys())
		}
		return nil
	})
}

func readsTouch(e *env) {
	s := e.site(0, session.Options{TouchInterval: -1})
	b := s.login(e.unique("user"))
	var key session.Key
	s.visit(b, func(_ *http.Request, sess *session.Session) error { key = sess.Key(); return nil })
	before := e.live(key)
	e.eventually("the expiry moves", func() bool {
		s.user(*b)
		now, err := fresh(e.ctx, e.s, key)
		if err != nil || now.Version != before.Version {
			e.Errorf("after a read: version %d; want %d; %v", now.Version, before.Version, err)
		}
		return now.Expires.After(before.Expires) || e.Failed()
	})
}

func visitorFree(e *env) {
	s := e.site(0, session.Options{})
	b := &browser{}
	if s.user(*b) != "" {
		e.Error("a visitor is somebody")
	}
	s.visit(b, func(_ *http.Request, sess *session.Session) error {
		if !sess.Key().IsZero() {
			e.Error("a visitor has a session")
		}
		return nil
	})
	if b.cookie != nil {
		e.Error("a visitor gets a cookie")
	}
	unknown := browser{cookie: &http.Cookie{Name: "__Host-session", Value: session.NewID(e.now().Add(time.Hour)).Secret()}}
	if s.user(unknown) != "" {
		e.Error("an ID that was never given is somebody's")
	}
}

func usersEnd(e *env) {
	here, there := e.twoSites()
	user := e.unique("user")
	laptop, phone, tablet := here.login(user), there.login(user), there.login(user)
	other := here.login(e.unique("another user"))
	list, err := collect(here.m.Sessions(e.ctx, user))
	if err != nil || len(list) != 3 {
		e.Fatalf("%d sessions, %v; want 3", len(list), err)
	}
	if err := here.m.Revoke(e.ctx, user, list[1].Handle); err != nil { // they come in the order of their logins
		e.Errorf("Revoke: %v", err)
	}
	here.nobody(*phone, there)
	here.visit(laptop, func(r *http.Request, _ *session.Session) error {
		n, err := here.m.RevokeOthers(r.Context())
		if n != 1 {
			e.Errorf("%d others ended; want 1", n)
		}
		return err
	})
	here.nobody(*tablet, there)
	if here.user(*laptop) != user {
		e.Error("the user's own session has ended")
	}
	if n, err := there.m.RevokeUser(e.ctx, user); n != 1 || err != nil {
		e.Errorf("RevokeUser = %d, %v; want 1", n, err)
	}
	there.nobody(*laptop, here)
	if here.user(*other) == "" {
		e.Error("another user's session has ended")
	}
}

func usersLimited(e *env) {
	const most = 2
	opts := session.Options{UserLimit: session.UserLimit{Max: most, Evict: true}}
	sites := []*site{e.site(0, opts), e.site(1, opts)}
	user := e.unique("user")
	var first *browser
	for i := range 2 * most {
		b := sites[i%2].login(user)
		if i == 0 {
			first = b
		}
	}
	if list, err := collect(sites[0].m.Sessions(e.ctx, user)); err != nil || len(list) != most {
		e.Errorf("%d sessions, %v; want %d", len(list), err, most)
	}
	e.eventually("the oldest session has ended", func() bool { return sites[0].user(*first) == "" && sites[1].user(*first) == "" })
}

func allListed(e *env) {
	s := e.site(0, session.Options{})
	users := map[string]bool{}
	for range 3 {
		user := e.unique("user")
		s.set(s.login(user), "kept", user)
		users[user] = true
	}
	for one, err := range s.m.All(e.ctx) {
		if err != nil {
			e.Fatalf("All: %v", err)
		}
		if !users[one.User] {
			e.Errorf("a session of %q is listed, or twice", one.User)
		}
		delete(users, one.User)
	}
	if len(users) > 0 {
		e.Errorf("%d sessions are not listed", len(users))
	}
}

func closedAnswered(e *env) {
	s := e.site(0, session.Options{})
	b := s.login(e.unique("user"))
	before := b.cookie.Value
	if err := e.s.Close(e.ctx); err != nil {
		e.Errorf("Close: %v", err)
	}
	if status := s.visit(b, func(_ *http.Request, sess *session.Session) error { return sess.Set("a", 1) }); status != http.StatusServiceUnavailable {
		e.Errorf("the answer is %d; want 503", status)
	}
	if b.cookie == nil || b.cookie.Value != before {
		e.Error("the browser has lost its cookie")
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
