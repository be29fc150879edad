package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

func TestAFailedSaveIsAnsweredByTheStatusOfItsCause(t *testing.T) {
	t.Parallel()
	for want, causes := range map[int][]error{
		http.StatusConflict: {session.ErrConflict},
		http.StatusInternalServerError: {
			session.ErrTooLarge, session.ErrInvalid, session.ErrUserChanged, session.ErrDeadline,
		},
		http.StatusServiceUnavailable: {errLost, session.ErrUnknown, session.ErrClosed, session.ErrNoPartition, context.DeadlineExceeded, context.Canceled},
	} {
		for _, cause := range causes {
			f := newFrail(t, session.Options{})
			cookie := f.begin("alice")
			f.fail(breakdown{err: fmt.Errorf("no luck with the secret: %w", cause)}, spystore.Save)
			resp, _ := f.ask(cookie, func(t turn) {
				t.s.FailOnConflict()
				f.must("Set", t.s.Set("after", true))
			})
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != want || strings.Contains(string(body), "secret") {
				f.Errorf("after %v the answer is %d %q; want %d without the cause", cause, resp.StatusCode, body, want)
			}
			if retry := resp.Header.Get("Retry-After"); (retry != "") != (want == http.StatusServiceUnavailable) {
				f.Errorf("after %v Retry-After is %q", cause, retry)
			}
		}
	}
}

func TestTheErrorHandlerIsGivenTheCauseOnceAndACleanHeader(t *testing.T) {
	t.Parallel()
	for way, answer := range waysToAnswer {
		calls := 0
		f := newFrail(t, session.Options{ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			calls++
			if !errors.Is(err, errLost) || r.URL.Path != "/" {
				t.Errorf("%s: the error handler is given %v for %s", way, err, r.URL)
			}
			w.Header().Set("X-Sorry", "yes")
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "sorry")
		}})
		cookie := f.begin("alice")
		f.fail(breakdowns[0], spystore.Save)
		resp, after := f.ask(cookie, func(t turn) {
			f.must("Set", t.s.Set("after", true))
			t.w.Header().Set("X-Handler", "was here")
			answer(f, t)
		})
		body, _ := io.ReadAll(resp.Body)
		if calls != 1 || resp.StatusCode != http.StatusBadGateway || string(body) != "sorry" || resp.Header.Get("X-Sorry") != "yes" ||
			resp.Header.Get("X-Handler") != "" || after != cookie {
			f.Errorf("%s: %d calls; the answer is %d %q with header %v", way, calls, resp.StatusCode, body, resp.Header)
		}
	}
}

func TestWhatWasAnsweredByAnErrorIsNotSavedLater(t *testing.T) {
	t.Parallel()
	for _, had := range []bool{true, false} {
		f := newFrail(t, session.Options{})
		cookie, call, keys := "", spystore.Create, []string(nil)
		if had {
			cookie, call, keys = f.begin(""), spystore.Save, []string{"before"}
		}
		f.store.Between(func(_ context.Context, c spystore.Call, do func() error) error {
			if c != call {
				return do()
			}
			f.store.Between(nil) // it fails once
			return errLost
		})
		resp, after := f.ask(cookie, func(t turn) {
			f.must("Set", t.s.Set("after", true))
			t.w.WriteHeader(http.StatusAccepted)
			f.is("Set after the failure", t.s.Set("late", true), errLost)
		})
		if resp.StatusCode != http.StatusServiceUnavailable || after != cookie {
			f.Errorf("the answer is %d; want 503", resp.StatusCode)
		}
		f.has(cookie, "", keys...)
		if n, err := f.store.Len(f.Context()); n != int64(len(keys)) || err != nil {
			f.Errorf("%d sessions, %v", n, err)
		}
	}
}

// The handler was told: what it called a failure shall not be saved behind its
// back.
func TestAfterASaveThatFailedTheHandlerAnswers(t *testing.T) {
	t.Parallel()
	for _, b := range breakdowns {
		for name, then := range map[string]struct {
			do   func(f *frail, t turn)
			user string
			keys []string // nil for what the failed call has left
		}{
			"nothing": {func(*frail, turn) {}, "alice", nil},
			"another Save": {func(f *frail, t turn) {
				f.must("Save", t.s.Save(t.r.Context()))
			}, "alice", []string{"after", "before"}},
			"Reload": {func(f *frail, t turn) {
				f.must("Reload", t.s.Reload(t.r.Context()))
				f.must("Delete", t.s.Delete("after"))
				f.must("Set", t.s.Set("again", true))
			}, "alice", []string{"again", "before"}},
			"a login": {func(f *frail, t turn) {
				f.must("Login", t.s.Login(t.r.Context(), "alice", session.Login{}))
				f.must("Set", t.s.Set("again", true))
			}, "alice", []string{"after", "again", "before"}},
			"a logout": {func(f *frail, t turn) {
				f.must("Logout", t.s.Logout(t.r.Context()))
				f.must("Set", t.s.Set("again", true))
			}, "", []string{"again"}},
		} {
			f := newFrail(t, session.Options{})
			cookie := f.begin("alice")
			resp, after := f.ask(cookie, func(t turn) {
				f.must("Set", t.s.Set("after", true))
				f.fail(b, spystore.Save)
				f.is("Save", t.s.Save(t.r.Context()), errLost)
				f.store.Between(nil)
				if !t.s.Has("after") {
					f.Error("the change is gone after an error")
				}
				then.do(f, t)
				t.w.WriteHeader(http.StatusTeapot)
			})
			if resp.StatusCode != http.StatusTeapot {
				f.Errorf("%s after %s: the answer is %d; want the handler's", name, b.name, resp.StatusCode)
			}
			switch {
			case then.keys != nil:
				f.has(after, then.user, then.keys...)
			case b.done:
				f.has(after, then.user, "after", "before")
			default:
				f.has(after, then.user, "before")
			}
			if f.Failed() {
				f.Fatalf("%s after %s", name, b.name)
			}
		}
	}
}

func TestALateSaveThatFailsIsTold(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	cookie := f.begin("alice")
	resp, _ := f.ask(cookie, func(t turn) {
		_, err := io.WriteString(t.w, "done")
		f.must("Write", err)
		f.fail(breakdowns[0], spystore.Save)
		f.must("Set", t.s.Set("after", true))
	})
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || string(body) != "done" {
		f.Errorf("the answer is %d %q; want the handler's", resp.StatusCode, body)
	}
	if told := f.events(session.EventSaveFailed); len(told) != 1 || !errors.Is(told[0].Err, errLost) || told[0].User != "alice" {
		f.Errorf("events %+v; want one", told)
	}
	f.has(cookie, "alice", "before")
}

func TestPagesThatNeedNoUserStayUp(t *testing.T) {
	t.Parallel()
	for _, b := range breakdowns {
		f := newFrail(t, session.Options{AnonymousOnOutage: true})
		cookie := f.begin("alice")
		f.fail(b, spystore.Get, spystore.GetFresh)
		resp, after := f.ask(cookie, func(t turn) {
			f.must("Session", t.err)
			if !t.s.Degraded() || t.s.User() != "" || !t.s.Key().IsZero() || len(t.s.Keys()) > 0 {
				f.Errorf("%s: the session is of %q with %q, degraded %v", b.name, t.s.User(), t.s.Keys(), t.s.Degraded())
			}
			ctx := t.r.Context()
			f.is("Set", t.s.Set("after", true), session.ErrDegraded)
			f.is("Login", t.s.Login(ctx, "bob", session.Login{}), session.ErrDegraded)
			f.is("Renew", t.s.Renew(ctx, 0), session.ErrDegraded)
			f.is("Logout", t.s.Logout(ctx), session.ErrDegraded)
			f.is("Save", t.s.Save(ctx), session.ErrDegraded)
			t.w.WriteHeader(http.StatusTeapot)
		})
		if resp.StatusCode != http.StatusTeapot || len(resp.Cookies()) > 0 || after != cookie || resp.Header.Get("Clear-Site-Data") != "" {
			f.Errorf("%s: the answer is %d with %d cookies; want the handler's without", b.name, resp.StatusCode, len(resp.Cookies()))
		}
		// Those without a cookie are as always, but cannot be saved.
		f.fail(b, spystore.Create)
		resp, _ = f.ask("", func(t turn) {
			if t.s.Degraded() {
				f.Errorf("%s: degraded without a cookie", b.name)
			}
			f.must("Set", t.s.Set("after", true))
		})
		if resp.StatusCode != http.StatusServiceUnavailable {
			f.Errorf("%s: the answer is %d; want 503", b.name, resp.StatusCode)
		}
		f.has(cookie, "alice", "before")
	}
}

func TestADegradedRequestRecoversByReload(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{AnonymousOnOutage: true})
	cookie := f.begin("alice")
	f.fail(breakdowns[0], spystore.Get, spystore.GetFresh)
	f.ask(cookie, func(t turn) {
		f.must("Reload in the outage", t.s.Reload(t.r.Context()))
		if !t.s.Degraded() {
			f.Error("not degraded in the outage")
		}
		f.store.Between(nil)
		f.must("Reload", t.s.Reload(t.r.Context()))
		if t.s.Degraded() || t.s.User() != "alice" {
			f.Errorf("after Reload the user is %q, degraded %v", t.s.User(), t.s.Degraded())
		}
		f.must("Set", t.s.Set("after", true))
	})
	f.has(cookie, "alice", "after", "before")
}

func TestWhatBecameOfASessionCostsNoQuestionOfItsOwn(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	cookie := f.begin("alice")
	f.ask(cookie, func(t turn) { f.must("Destroy", t.s.Destroy(t.r.Context())) })
	unknown := "__Host-session=" + session.NewID(time.Now().Add(time.Hour)).Secret()
	for kind, cookie := range map[session.EventKind]string{session.EventEnded: cookie, session.EventUnknownID: unknown} {
		before := f.store.Count()
		f.ask(cookie, func(t turn) { f.must("Session", t.err) })
		if told := f.events(kind); len(told) != 1 || f.store.Count() != before+1 {
			f.Errorf("%v: %d calls, events %+v; want one each", kind, f.store.Count()-before, told)
		}
	}
}

func TestAListingSaysThatItFailed(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	f.begin("alice")
	f.fail(breakdowns[0], spystore.All, spystore.ListUser)
	n := 0
	for one, err := range f.m.All(f.Context()) {
		if n++; !errors.Is(err, errLost) || one.Values != nil {
			f.Errorf("All = %+v, %v", one, err)
		}
	}
	if n != 1 {
		f.Errorf("All gave %d results; want the error", n)
	}
	_, err := collect(f.m.Sessions(f.Context(), "alice"))
	f.is("Sessions", err, errLost)
	_, err = collect(f.m.Export(f.Context(), "alice"))
	f.is("Export", err, errLost)
}

func TestAPanicInAnUpdateLeavesTheSessionUsable(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	cookie := f.begin("alice")
	f.ask(cookie, func(t turn) {
		func() {
			defer func() {
				if recover() == nil {
					f.Error("the panic did not pass through")
				}
			}()
			_ = session.Update(t.s, "n", func(int) int { panic("oops") })
		}()
		f.must("Set", t.s.Set("after", true))
	})
	f.has(cookie, "alice", "after", "before")
}

func TestAPanicPassesThroughAndSavesNothing(t *testing.T) {
	t.Parallel()
	for _, begun := range []bool{false, true} {
		f := newFrail(t, session.Options{TouchInterval: -1})
		cookie := f.begin("alice")
		before := f.store.Count()
		func() {
			defer func() {
				if got := recover(); got != "oops" {
					f.Errorf("the panic is %v", got)
				}
			}()
			f.ask(cookie, func(t turn) {
				if begun {
					t.w.WriteHeader(http.StatusOK)
					before = f.store.Count() - 1 // it has touched
				}
				f.must("Set", t.s.Set("after", true))
				panic("oops")
			})
		}()
		if got := f.store.Count() - before; got != 1 {
			f.Errorf("the store was called %d times; want the read only", got)
		}
		f.has(cookie, "alice", "before")
	}
}
