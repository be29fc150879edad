package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

func TestWhatAHandlerAsksForAndThatFailsIsAnErrorToItAndNoMore(t *testing.T) {
	t.Parallel()
	limited := session.Options{UserLimit: session.UserLimit{Max: 3}}
	ctx := func(t turn) context.Context { return t.r.Context() }
	saved := func(t turn, err error) error {
		if err != nil {
			return err
		}
		return t.s.Save(ctx(t))
	}
	login := func(t turn) error { return saved(t, t.s.Login(ctx(t), "bob", session.Login{})) }
	for _, c := range []struct {
		call spystore.Call
		opts session.Options
		user string // of the session before; "-" is for none
		do   func(f *frail, t turn) error
	}{
		{spystore.Create, session.Options{}, "-", func(_ *frail, t turn) error { return login(t) }},
		{spystore.CreateLimited, limited, "-", func(_ *frail, t turn) error { return login(t) }},
		{spystore.Renew, session.Options{}, "", func(_ *frail, t turn) error { return login(t) }},
		{spystore.Renew, session.Options{}, "alice", func(_ *frail, t turn) error { return login(t) }},
		{spystore.RenewLimited, limited, "alice", func(_ *frail, t turn) error { return login(t) }},
		{spystore.Renew, session.Options{}, "alice", func(_ *frail, t turn) error { return saved(t, t.s.Renew(ctx(t), time.Minute)) }},
		{spystore.Destroy, session.Options{}, "alice", func(_ *frail, t turn) error { return t.s.Destroy(ctx(t)) }},
		{spystore.Destroy, session.Options{}, "alice", func(_ *frail, t turn) error { return t.s.Logout(ctx(t)) }},
		{spystore.DestroyOnAllNodes, session.Options{}, "alice", func(_ *frail, t turn) error { return t.s.DestroyOnAllNodes(ctx(t)) }},
		{spystore.Destroy, session.Options{}, "alice", func(f *frail, t turn) error { return f.m.Revoke(ctx(t), "alice", t.s.Info().Handle) }},
		{spystore.ListUser, session.Options{}, "alice", func(f *frail, t turn) error { return f.m.Revoke(ctx(t), "alice", t.s.Info().Handle) }},
		{spystore.DestroyUser, session.Options{}, "alice", func(f *frail, t turn) error {
			_, err := f.m.RevokeUser(ctx(t), "alice")
			return err
		}},
		{spystore.DestroyUser, session.Options{}, "alice", func(f *frail, t turn) error {
			_, err := f.m.RevokeOthers(ctx(t))
			return err
		}},
		{spystore.GetFresh, session.Options{}, "alice", func(_ *frail, t turn) error { return t.s.Reload(ctx(t)) }},
	} {
		for i, b := range breakdowns {
			t.Run(fmt.Sprintf("%s of %q, %s, %d", c.call, c.user, b.name, i), func(t *testing.T) {
				t.Parallel()
				f := newFrail(t, c.opts)
				cookie, user := "", ""
				if c.user != "-" {
					user = c.user
					cookie = f.begin(user)
				}
				f.fail(b, c.call)
				resp, after := f.ask(cookie, func(t turn) {
					f.is("the call", c.do(f, t), b.err)
					if t.s.User() != user || t.s.Has("before") != (cookie != "") {
						f.Errorf("after the error the session is of %q with %q", t.s.User(), t.s.Keys())
					}
					http.Error(t.w, "sorry", http.StatusTeapot)
				})
				if resp.StatusCode != http.StatusTeapot || len(resp.Cookies()) > 0 || after != cookie {
					f.Errorf("the answer is %d with %d cookies; want the handler's without", resp.StatusCode, len(resp.Cookies()))
				}
				if clearing := resp.Header.Get("Clear-Site-Data"); clearing != "" {
					f.Errorf("a logout that failed has cleared %s", clearing)
				}
				if cookie != "" && !b.done {
					f.has(cookie, user, "before")
				}
			})
		}
	}
}

func TestAFailedLoginKeepsWhatTheRequestHasChanged(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"", "alice"} {
		f := newFrail(t, session.Options{})
		cookie := f.begin(user)
		f.fail(breakdowns[0], spystore.Renew)
		f.ask(cookie, func(t turn) {
			f.must("Set", t.s.Set("after", true))
			f.must("Delete", t.s.Delete("before"))
			f.must("Login", t.s.Login(t.r.Context(), "bob", session.Login{}))
			f.must("Set", t.s.Set("bob's", true))
			f.is("Save", t.s.Save(t.r.Context()), errLost)
			if t.s.User() != user || t.s.Has("bob's") {
				f.Errorf("after a login that failed the user is %q with %q", t.s.User(), t.s.Keys())
			}
			f.must("another Save", t.s.Save(t.r.Context()))
		})
		f.has(cookie, user, "after")
	}
}

func TestATouchThatFailsFailsNoRequest(t *testing.T) {
	t.Parallel()
	for _, b := range append(breakdowns, breakdown{name: "an ended session", err: fmt.Errorf("%w: %w", session.ErrNotFound, errLost)}) {
		f := newFrail(t, session.Options{TouchInterval: -1})
		cookie := f.begin("alice")
		f.fail(b, spystore.TouchLater)
		resp, _ := f.ask(cookie, func(t turn) { t.w.WriteHeader(http.StatusTeapot) })
		if resp.StatusCode != http.StatusTeapot || len(resp.Cookies()) > 0 {
			f.Errorf("%s: the answer is %d with %d cookies; want the handler's", b.name, resp.StatusCode, len(resp.Cookies()))
		}
		want := 1
		if errors.Is(b.err, session.ErrNotFound) {
			want = 0 // that is nobody's failure
		}
		told := f.events(session.EventTouchFailed)
		if len(told) != want || want == 1 && (!errors.Is(told[0].Err, errLost) || told[0].User != "alice") {
			f.Errorf("%s: events %+v; want %d", b.name, told, want)
		}
		f.has(cookie, "alice", "before")
	}
}

func TestATouchThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{TouchInterval: -1})
	cookie := f.begin("alice")
	f.store.Between(func(ctx context.Context, c spystore.Call, do func() error) error {
		if c != spystore.TouchLater {
			return do()
		}
		<-ctx.Done()
		return ctx.Err()
	})
	resp, _ := f.ask(cookie, func(t turn) { t.w.WriteHeader(http.StatusTeapot) })
	if resp.StatusCode != http.StatusTeapot || len(f.events(session.EventTouchFailed)) != 1 {
		f.Errorf("the answer is %d; want the handler's", resp.StatusCode)
	}
}

func TestAnAutomaticRenewalThatFailsFailsNoRequest(t *testing.T) {
	t.Parallel()
	for _, change := range []bool{false, true} {
		for _, b := range breakdowns[:4] {
			f := newFrail(t, session.Options{Policy: session.Policy{RenewAfter: time.Hour}})
			cookie := f.begin("alice")
			f.store.GoAhead(2 * time.Hour)
			f.fail(b, spystore.Renew)
			resp, _ := f.ask(cookie, func(t turn) {
				if change {
					f.must("Set", t.s.Set("after", true))
				}
				t.w.WriteHeader(http.StatusTeapot)
			})
			if resp.StatusCode != http.StatusTeapot || len(resp.Cookies()) > 0 {
				f.Errorf("%s: the answer is %d with %d cookies; want the handler's without", b.name, resp.StatusCode, len(resp.Cookies()))
			}
			if told := f.events(session.EventRenewFailed); len(told) != 1 || !errors.Is(told[0].Err, errLost) {
				f.Errorf("%s: events %+v; want one", b.name, told)
			}
			f.store.Between(nil)
			_, after := f.ask(cookie, func(turn) {})
			if after == cookie {
				f.Errorf("%s: the next request has not renewed the session", b.name)
			}
			keys := []string{"before"}
			if change {
				keys = []string{"after", "before"}
			}
			f.has(after, "alice", keys...)
		}
	}
}
