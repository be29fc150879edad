package session_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// oldPlace is where the sessions were before.
type oldPlace struct {
	mu          sync.Mutex
	sessions    map[string]session.OldSession
	loads, ends int
	at          map[string]func() // by the step at which it is called, such as "load 1", "loaded 1" or "end 1"
	fail        error
	failEnd     error
	signed      bool
}

// step runs what is to happen then, without the lock.
func (o *oldPlace) step(what string, n int) {
	what = fmt.Sprint(what, " ", n)
	o.mu.Lock()
	do := o.at[what]
	o.mu.Unlock()
	if do != nil {
		do()
	}
}

// count counts up, with the lock.
func (o *oldPlace) count(n *int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	*n++
	return *n
}

func (o *oldPlace) Token(r *http.Request) (token string, genuine bool) {
	if c, err := r.Cookie("old"); err == nil {
		return c.Value, o.signed
	}
	return "", false
}

func (o *oldPlace) Load(_ context.Context, token string) (session.OldSession, error) {
	n := o.count(&o.loads)
	o.step("load", n)
	defer o.step("loaded", n)
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := o.sessions[token]
	if o.fail != nil {
		return session.OldSession{}, o.fail
	}
	if !ok {
		return session.OldSession{}, fmt.Errorf("old: %w", session.ErrNotFound)
	}
	return s, nil
}

func (o *oldPlace) End(_ context.Context, token string) error {
	o.step("end", o.count(&o.ends))
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failEnd != nil {
		return o.failEnd
	}
	delete(o.sessions, token)
	return nil
}

// logOut is what the old program does.
func (o *oldPlace) logOut(token string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.sessions, token)
}

// alices is an old session of alice, and a browser that has its cookie.
func alices(s session.OldSession) (*oldPlace, string) {
	s.User = "alice"
	return &oldPlace{sessions: map[string]session.OldSession{"token": s}}, "old=token"
}

// seen is what a page finds.
type seen struct {
	user     string
	basket   []int
	loggedIn time.Time
	expires  time.Time
	deadline time.Time
}

func looking(t testing.TB, at *seen) page {
	return func(_ context.Context, s *session.Session) {
		basket, err := session.NewValue[[]int]("basket").Get(s)
		if err != nil {
			t.Error(err)
		}
		info := s.Info()
		*at = seen{s.User(), basket, s.AuthenticatedAt(), info.Expires, info.Deadline}
	}
}

func TestAnOldSessionIsTakenOver(t *testing.T) {
	t.Parallel()
	login, deadline := noon.Add(-100*time.Hour), noon.Add(3*time.Hour)
	old, cookie := alices(session.OldSession{LoggedInAt: login, Deadline: deadline, Values: map[string]any{"basket": []int{1, 2}}})
	p := newSite(t, session.Options{Old: old, Policy: session.Policy{IdleTimeout: time.Hour}})
	want := seen{"alice", []int{1, 2}, login, noon.Add(time.Hour), deadline}

	var got seen
	b := &browser{site: p, cookie: cookie}
	b.visit(looking(t, &got))
	if !slices.Equal(got.basket, want.basket) || got.user != want.user || !got.loggedIn.Equal(login) || !got.expires.Equal(want.expires) || !got.deadline.Equal(deadline) {
		t.Errorf("the first request finds %+v; want %+v", got, want)
	}
	if b.cookie == cookie || len(old.sessions) != 0 {
		t.Errorf("the cookie is the old one: %v; %d sessions are in the old place", b.cookie == cookie, len(old.sessions))
	}
	var kinds []session.EventKind
	for _, e := range p.told() {
		kinds = append(kinds, e.Kind)
		if e.Kind == session.EventCreated && (e.Reason != session.ReasonTakenOver || e.User != "alice") {
			t.Errorf("it is told as %+v", e)
		}
	}
	if !slices.Equal(kinds, []session.EventKind{session.EventCreated, session.EventRenewed}) {
		t.Errorf("events: %v", kinds)
	}
	loads := old.loads
	b.visit(looking(t, &got))
	if got.user != "alice" || !got.deadline.Equal(deadline) || !got.loggedIn.Equal(login) || old.loads != loads {
		t.Errorf("by our cookie: %+v; %d loads", got, old.loads-loads)
	}

	// A parallel request is served by the old cookie for a while, and makes nothing.
	late := &browser{site: p, cookie: cookie}
	if late.visit(looking(t, &got)); got.user != "alice" || late.cookie != cookie {
		t.Errorf("a parallel request: %+v, cookie %q", got, late.cookie)
	}
	p.clock.advance(2 * time.Minute)
	if late.visit(looking(t, &got)); got.user != "" || old.loads != loads {
		t.Errorf("later, by the old cookie: %+v; %d loads", got, old.loads-loads)
	}
	if n, err := p.store.Len(t.Context()); n != 1 || err != nil {
		t.Errorf("%d sessions, %v", n, err)
	}
}

func TestWhatIsUnknownOfAnOldSession(t *testing.T) {
	t.Parallel()
	old, cookie := alices(session.OldSession{})
	p := newSite(t, session.Options{Old: old, Policy: session.Policy{IdleTimeout: time.Hour, AbsoluteTimeout: 2 * time.Hour}})
	var got seen
	(&browser{site: p, cookie: cookie}).visit(looking(t, &got))
	if got.loggedIn.IsZero() || got.loggedIn.Year() != 1970 || !got.expires.Equal(noon.Add(time.Hour)) || !got.deadline.Equal(noon.Add(2*time.Hour)) {
		t.Errorf("it is %+v", got)
	}
	// More than the policy allows, and somebody who has not logged in.
	old.sessions["guest"] = session.OldSession{Values: map[string]any{"basket": []int{3}}, Deadline: noon.Add(10 * time.Hour)}
	(&browser{site: p, cookie: "old=guest"}).visit(looking(t, &got))
	if got.user != "" || !got.loggedIn.IsZero() || !slices.Equal(got.basket, []int{3}) || !got.expires.Equal(noon.Add(time.Hour)) || !got.deadline.Equal(noon.Add(2*time.Hour)) {
		t.Errorf("a guest's is %+v", got)
	}
	old.sessions["early"] = session.OldSession{User: "alice", LoggedInAt: noon.Add(time.Hour)} // by a clock that is fast
	if (&browser{site: p, cookie: "old=early"}).visit(looking(t, &got)); !got.loggedIn.Equal(noon) {
		t.Errorf("a login that is yet to come: %+v", got)
	}
	for name, bad := range map[string]session.OldSession{
		"a user":  {User: "a\x00"},
		"a value": {Values: map[string]any{"basket": func() {}}},
		"a key":   {Values: map[string]any{"": 1}},
	} {
		old.sessions["bad"] = bad
		if res := (&browser{site: p, cookie: "old=bad"}).visitFailing(looking(t, &got)); res.StatusCode != http.StatusInternalServerError || old.sessions["bad"].Values == nil && bad.Values != nil {
			t.Errorf("%s that cannot be: status %d", name, res.StatusCode)
		}
	}
}

// What has ended here does not come back from there, and the other way round.
func TestAnOldSessionThatHasEndedStaysDead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]func(p *site, old *oldPlace, b *browser){
		"logged out": func(_ *site, old *oldPlace, b *browser) {
			b.visit(nil)
			b.visit(func(ctx context.Context, s *session.Session) {
				if err := s.Logout(ctx); err != nil {
					t.Error(err)
				}
			})
		},
		"logged out by the first request": func(_ *site, old *oldPlace, b *browser) {
			b.visit(func(ctx context.Context, s *session.Session) {
				if err := s.Logout(ctx); err != nil {
					t.Error(err)
				}
			})
		},
		"logged in anew by the first request": func(_ *site, old *oldPlace, b *browser) { b.visit(loggingIn(t, "bob", session.Login{})) },
		"revoked": func(p *site, old *oldPlace, b *browser) {
			b.visit(nil)
			if n, err := p.manager.RevokeUser(t.Context(), "alice"); n != 1 || err != nil {
				t.Errorf("RevokeUser: %d, %v", n, err)
			}
		},
		"logged out there, before it was ours": func(p *site, old *oldPlace, b *browser) {
			old.at = map[string]func(){"loaded 1": func() { old.logOut("token") }}
			if res := b.visit(func(_ context.Context, s *session.Session) {
				if s.User() != "" {
					t.Error("the request is given it")
				}
			}); len(res.Cookies()) > 0 {
				t.Error("the browser is given a cookie")
			}
		},
	} {
		old, cookie := alices(session.OldSession{Values: map[string]any{"basket": []int{1}}})
		p := newSite(t, session.Options{Old: old})
		before := maps.Clone(old.sessions)
		tt(p, old, &browser{site: p, cookie: cookie})
		old.sessions = before // by a slow request of the old program
		var got seen
		if (&browser{site: p, cookie: cookie}).visit(looking(t, &got)); got.user != "" {
			t.Errorf("%s: it is %+v by the old cookie", name, got)
		}
	}
}

func TestOfParallelFirstRequestsOneTakesOver(t *testing.T) {
	t.Parallel()
	old, cookie := alices(session.OldSession{})
	p := newSite(t, session.Options{Old: old})
	var wg sync.WaitGroup
	var mu sync.Mutex
	given := map[string]bool{}
	for range 20 {
		wg.Go(func() {
			var got seen
			b := &browser{site: p, cookie: cookie}
			b.visit(looking(t, &got))
			if got.user != "alice" {
				t.Errorf("a request finds %+v", got)
			}
			mu.Lock()
			defer mu.Unlock()
			if b.cookie != cookie {
				given[b.cookie] = true
			}
		})
	}
	wg.Wait()
	if n, err := p.store.Len(t.Context()); n != 1 || err != nil || len(given) != 1 {
		t.Errorf("%d sessions, %d cookies, %v; want one", n, len(given), err)
	}
}

// Between two steps of the first request another one does all of them.
func TestARequestThatIsOvertakenFindsTheSession(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"load 1", "loaded 1", "load 2", "loaded 2", "end 1"} {
		for _, ends := range []bool{false, true} {
			old, cookie := alices(session.OldSession{})
			p := newSite(t, session.Options{Old: old})
			other, overtaken := &browser{site: p, cookie: cookie}, 0
			old.at = map[string]func(){step: func() {
				var got seen
				if other.visit(looking(t, &got)); got.user != "alice" {
					t.Errorf("%s: the faster request finds %+v", step, got)
				}
				if ends {
					other.visit(func(ctx context.Context, s *session.Session) {
						if err := s.Destroy(ctx); err != nil {
							t.Error(err)
						}
					})
				}
				overtaken++
			}}
			var got seen
			(&browser{site: p, cookie: cookie}).visit(looking(t, &got))
			if overtaken != 1 || (got.user == "alice") == (ends && step != "end 1") {
				t.Errorf("%s, ended meanwhile: %v; overtaken %d times; it finds %+v", step, ends, overtaken, got)
			}
			left := int64(1)
			if ends {
				left = 0
			}
			if n, err := p.store.Len(t.Context()); n != left || err != nil || len(old.sessions) != 0 {
				t.Errorf("%s, ended meanwhile: %v; %d sessions, %v, and %d in the old place", step, ends, n, err, len(old.sessions))
			}
		}
	}
}

// A claim that nobody could check is not served before somebody has.
func TestAClaimIsCheckedByTheNextRequest(t *testing.T) {
	t.Parallel()
	for _, loggedOut := range []bool{false, true} {
		old, cookie := alices(session.OldSession{})
		p := newSite(t, session.Options{Old: old})
		b := &browser{site: p, cookie: cookie}
		gone := errors.New("the old place is gone")
		old.at = map[string]func(){"load 2": func() { old.fail = gone }}
		if res := b.visitFailing(nil); res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("status %d", res.StatusCode)
		}
		old.fail = nil
		if loggedOut {
			old.logOut("token")
		}
		var got seen
		b.visit(looking(t, &got))
		if n, err := p.store.Len(t.Context()); (got.user == "alice") == loggedOut || (n == 0) != loggedOut || err != nil {
			t.Errorf("logged out there: %v; it finds %+v, of %d, %v", loggedOut, got, n, err)
		}
	}
}

// A node whose memory has the claim finds the session all the same.
func TestAClaimInANodesMemoryDecidesNothing(t *testing.T) {
	t.Parallel()
	old, cookie := alices(session.OldSession{})
	p := newSite(t, session.Options{Old: old})
	lagging := &laggingStore{spyStore: p.store, held: map[session.Key]session.Record{}}
	other, err := session.NewManager(lagging, session.Options{Old: old})
	if err != nil {
		t.Fatal(err)
	}
	old.at = map[string]func(){"load 2": func() {
		if _, err := lagging.Get(t.Context(), session.ForeignKey("old:", "token")); err != nil {
			t.Error(err)
		}
	}}
	var got seen
	(&browser{site: p, cookie: cookie}).visit(looking(t, &got))
	if res := answerOf(other, get(cookie), looking(t, &got)); res.StatusCode != http.StatusOK || got.user != "alice" {
		t.Errorf("status %d; it finds %+v", res.StatusCode, got)
	}
}

func TestAnOldSessionWhoseDeadlineHasPassedIsNone(t *testing.T) {
	t.Parallel()
	for _, deadline := range []time.Time{noon.Add(-time.Hour), noon} {
		old, cookie := alices(session.OldSession{Deadline: deadline})
		p := newSite(t, session.Options{Old: old})
		for range 2 {
			var got seen
			if (&browser{site: p, cookie: cookie}).visit(looking(t, &got)); got.user != "" {
				t.Errorf("it is %+v", got)
			}
		}
	}
}

// An answer that cannot set a cookie leaves that to the next one.
func TestAnOldCookieLastsUntilAnotherIsGiven(t *testing.T) {
	t.Parallel()
	old, cookie := alices(session.OldSession{})
	p := newSite(t, session.Options{Old: old})
	late := func(b *browser) {
		ctx, cancel := context.WithCancel(t.Context())
		p.serve(get(b.cookie).WithContext(ctx), func(_ context.Context, s *session.Session) {
			if s.User() != "alice" {
				t.Errorf("it finds %q", s.User())
			}
			cancel() // the browser has gone
		})
	}
	b := &browser{site: p, cookie: cookie}
	late(b)
	p.clock.advance(10 * time.Minute)
	late(b)
	b.visit(setting(t, "k", 1))
	if b.cookie == cookie {
		t.Error("no cookie was given")
	}
	var got seen
	if b.visit(looking(t, &got)); got.user != "alice" {
		t.Errorf("it finds %+v", got)
	}
}

func TestFailuresOfTheOldPlace(t *testing.T) {
	t.Parallel()
	gone := errors.New("the old place is gone")
	old, cookie := alices(session.OldSession{})
	p := newSite(t, session.Options{Old: old})
	b := &browser{site: p, cookie: cookie}
	old.fail = gone
	if res := b.visitFailing(nil); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("Load fails: status %d", res.StatusCode)
	}
	lenient := newSite(t, session.Options{Old: old, AnonymousOnOutage: true})
	if res := (&browser{site: lenient, cookie: cookie}).visit(func(_ context.Context, s *session.Session) {
		if !s.Degraded() {
			t.Error("the request is not degraded")
		}
	}); len(res.Cookies()) > 0 {
		t.Error("a cookie is set")
	}
	old.fail, old.failEnd = nil, gone
	for range 2 { // and with each request, until it is ended there
		if res := b.visitFailing(nil); res.StatusCode != http.StatusServiceUnavailable || b.cookie != cookie {
			t.Errorf("End fails: status %d", res.StatusCode)
		}
	}
	old.failEnd = nil
	var got seen
	if b.visit(looking(t, &got)); got.user != "alice" || b.cookie == cookie || len(old.sessions) != 0 {
		t.Errorf("after that it finds %+v", got)
	}
}

func TestACSRFTokenOutlivesTheTakeOver(t *testing.T) {
	t.Parallel()
	old, cookie := alices(session.OldSession{})
	p := newSite(t, session.Options{Old: old})
	var token string
	b := &browser{site: p, cookie: cookie}
	b.visit(func(_ context.Context, s *session.Session) {
		var err error
		if token, err = s.CSRFToken(); err != nil {
			t.Error(err)
		}
	})
	for _, cookie := range []string{b.cookie, cookie} {
		r := get(cookie)
		r.Method = http.MethodPost
		r.Header.Set(session.CSRFHeader, token)
		p.serve(r, func(_ context.Context, s *session.Session) {
			if err := s.CheckCSRF(r); err != nil {
				t.Errorf("CheckCSRF: %v", err)
			}
		})
	}
}

// unexplained cannot tell what has ended from what never was.
type unexplained struct{ session.Store }

func TestOldNeedsAStoreThatExplains(t *testing.T) {
	t.Parallel()
	old, _ := alices(session.OldSession{})
	p := newSite(t, session.Options{})
	if _, err := session.NewManager(unexplained{p.store}, session.Options{Old: old}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("NewManager: %v", err)
	}
}

func TestMadeUpOldTokensAreLookedUpSoOftenASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const forged = 1000
		for _, signed := range []bool{false, true} {
			old, cookie := alices(session.OldSession{})
			old.signed = signed
			p := newSite(t, session.Options{Old: old})
			began := time.Now()
			for i := range forged {
				(&browser{site: p, cookie: fmt.Sprint("old=forged", i)}).visit(nil)
			}
			if took := time.Since(began); (took < time.Second) != signed {
				t.Errorf("signed: %v: %d tokens took %v", signed, forged, took)
			}
			if old.loads != forged {
				t.Errorf("signed: %v: %d loads", signed, old.loads)
			}
			var got seen
			if (&browser{site: p, cookie: cookie}).visit(looking(t, &got)); got.user != "alice" {
				t.Errorf("signed: %v: a session that exists is hidden", signed)
			}
		}
	})
}
