package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

// Of sessions that are replaced where the browser may not hear of it.

// recovers is what is advised around a Manager's handler.
func recovers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil {
				http.Error(w, "oops", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// sessions is how many the store holds.
func (f *frail) sessions() int64 {
	f.Helper()
	n, err := f.store.Len(f.Context())
	f.must("Len", err)
	return n
}

// replacing are the calls that give a browser another ID.
var replacing = map[string]func(f *frail, t turn){
	"a login": func(f *frail, t turn) {
		f.must("Login", t.s.Login(t.r.Context(), "bob", session.Login{}))
		f.must("Set", t.s.Set("bob's", true))
	},
	"a renewal":        func(f *frail, t turn) { f.must("Renew", t.s.Renew(t.r.Context(), 0)) },
	"a renewal, later": func(f *frail, t turn) { f.must("Renew", t.s.Renew(t.r.Context(), time.Minute)) },
}

func TestAPanicLeavesTheSessionThatWasToBeReplaced(t *testing.T) {
	t.Parallel()
	for name, replace := range replacing {
		for way, answer := range map[string]func(t turn){
			"nothing":    func(turn) {},
			"a status":   func(t turn) { t.w.WriteHeader(http.StatusAccepted) },
			"some text":  func(t turn) { _, _ = io.WriteString(t.w, "welcome") },
			"a redirect": func(t turn) { http.Redirect(t.w, t.r, "/", http.StatusSeeOther) },
		} {
			for _, user := range []string{"", "alice"} {
				f := newFrail(t, session.Options{UserLimit: session.UserLimit{Max: 1}})
				cookie := f.begin(user)
				server := httptest.NewServer(f.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := f.m.Session(r.Context())
					f.must("Session", err)
					replace(f, turn{w, r, s, err})
					answer(turn{w, r, s, err})
					panic(http.ErrAbortHandler)
				})))
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
				f.must("NewRequest", err)
				r.Header.Set("Cookie", cookie)
				if resp, err := server.Client().Do(r); err == nil {
					resp.Body.Close()
					f.Errorf("%s, %s: the answer is %d with %d cookies", name, way, resp.StatusCode, len(resp.Cookies()))
				}
				server.Close()
				f.has(cookie, user, "before")
				if n := f.sessions(); n != 1 {
					f.Errorf("%s, %s: %d sessions; want the one of before", name, way, n)
				}
				if f.Failed() {
					f.Fatalf("%s of %q, %s", name, user, way)
				}
			}
		}
	}
}

func TestATimeoutAroundTheHandlerLeavesTheSessionThatWasToBeReplaced(t *testing.T) {
	t.Parallel()
	for name, replace := range replacing {
		for _, text := range []string{"", "welcome"} {
			synctest.Test(t, func(t *testing.T) {
				f := newFrail(t, session.Options{})
				cookie := f.begin("")
				handler := f.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := f.m.Session(r.Context())
					f.must("Session", err)
					replace(f, turn{w, r, s, err})
					_, err = io.WriteString(w, text)
					f.must("Write", err)
					<-r.Context().Done()
				}))
				over := make(chan struct{})
				r := httptest.NewRequest(http.MethodPost, "https://localhost/", nil)
				r.Header.Set("Cookie", cookie)
				answer := httptest.NewRecorder()
				http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer close(over)
					handler.ServeHTTP(w, r)
				}), time.Second, "too slow").ServeHTTP(answer, r)
				<-over
				if answer.Code != http.StatusServiceUnavailable || len(answer.Result().Cookies()) > 0 {
					f.Errorf("%s: the answer is %d with %d cookies", name, answer.Code, len(answer.Result().Cookies()))
				}
				f.has(cookie, "", "before")
			})
		}
	}
}

// What Save has done is done, so whoever recovers must be able to tell.
func TestAfterSaveAPanicLeavesTheCookieInTheHeader(t *testing.T) {
	t.Parallel()
	for name, replace := range replacing {
		f := newFrail(t, session.Options{})
		cookie := f.begin("")
		r := httptest.NewRequest(http.MethodPost, "https://localhost/", nil)
		r.Header.Set("Cookie", cookie)
		answer := httptest.NewRecorder()
		recovers(f.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := f.m.Session(r.Context())
			f.must("Session", err)
			replace(f, turn{w, r, s, err})
			f.must("Save", s.Save(r.Context()))
			f.must("Set", s.Set("after", true))
			panic("oops")
		}))).ServeHTTP(answer, r)
		got := answer.Result().Cookies()
		if answer.Code != http.StatusInternalServerError || len(got) != 1 || answer.Header().Get("Cache-Control") != "no-store" {
			f.Fatalf("%s: the answer is %d with %d cookies and %v", name, answer.Code, len(got), answer.Header())
		}
		user, keys := "", []string{"before"}
		if name == "a login" {
			user, keys = "bob", []string{"before", "bob's"}
		}
		f.has(got[0].Name+"="+got[0].Value, user, keys...)
	}
}

func TestAnOuterRecovererTellsOfALogout(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	r := httptest.NewRequest(http.MethodPost, "https://localhost/", nil)
	r.Header.Set("Cookie", f.begin("alice"))
	answer := httptest.NewRecorder()
	recovers(f.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s, err := f.m.Session(r.Context())
		f.must("Session", err)
		f.must("Logout", s.Logout(r.Context()))
		panic("oops")
	}))).ServeHTTP(answer, r)
	if got := answer.Result().Cookies(); len(got) != 1 || got[0].MaxAge >= 0 {
		f.Errorf("the answer is %d with the cookies %v", answer.Code, got)
	}
}

// taken is a connection that a library takes over and answers by itself.
func (f *frail) taken(cookie string, handle func(turn)) (header http.Header, err error) {
	w := hijacker{bare{http.Header{}}}
	f.through(w, cookie, func(t turn) {
		if handle != nil {
			handle(t)
		}
		_, _, err = http.NewResponseController(t.w).Hijack()
	})
	return w.header, err
}

func TestAnIDThatIsDueIsReplacedOnlyWhereItsCookieGoesOut(t *testing.T) {
	t.Parallel()
	for _, policy := range []session.Policy{{RenewAfter: time.Hour}, {AbsoluteTimeout: -1, RenewAfter: time.Hour, RenewGrace: -1}} {
		f := newFrail(t, session.Options{Policy: policy})
		cookie := f.begin("alice")
		f.store.Shorten(24 * time.Hour)
		f.store.GoAhead(2 * time.Hour)
		header, err := f.taken(cookie, func(t turn) { f.must("Set", t.s.Set("socket", true)) })
		if f.is("Hijack", err, errReached); len(header["Set-Cookie"]) > 0 {
			f.Error("a hijack was given a cookie")
		}
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequest(http.MethodGet, "https://localhost/", nil).WithContext(ctx)
		r.Header.Set("Cookie", cookie)
		f.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s, err := f.m.Session(r.Context())
			f.must("Session", err)
			f.must("Set", s.Set("gone", true))
			cancel()
		})).ServeHTTP(httptest.NewRecorder(), r)
		f.ask(cookie, func(t turn) { // a Save is not the answer
			f.must("Set", t.s.Set("saved", true))
			f.must("Save", t.s.Save(t.r.Context()))
			if n := f.store.Count(spystore.Renew); n > 0 {
				f.Errorf("%d renewals by requests that cannot bring the cookie", n)
			}
		})
		told := f.events(session.EventRenewed)
		if len(told) != 1 {
			f.Errorf("renewals: %+v; want one, by the answer", told)
		}
		if n := f.store.Count(spystore.Renew); n != 1 {
			f.Errorf("%d renewals; want one", n)
		}
	}
}

func TestAHijackReplacesNoSession(t *testing.T) {
	t.Parallel()
	for name, replace := range replacing {
		f := newFrail(t, session.Options{})
		cookie := f.begin("alice")
		header, err := f.taken(cookie, func(t turn) { replace(f, t) })
		if f.is(name, err, session.ErrTooLate); len(header["Set-Cookie"]) > 0 {
			f.Errorf("%s: a cookie is set", name)
		}
		f.has(cookie, "alice", "before")
		// Who saves before sends the header by himself.
		header, err = f.taken(cookie, func(t turn) {
			replace(f, t)
			f.must("Save", t.s.Save(t.r.Context()))
		})
		if f.is("after Save", err, errReached); len(header["Set-Cookie"]) != 1 {
			f.Errorf("%s: %d cookies after Save; want one", name, len(header["Set-Cookie"]))
		}
	}
	// Nothing is lost by a new session, and an empty one is not made.
	f := newFrail(t, session.Options{SaveUninitialized: true})
	if header, err := f.taken("", nil); len(header["Set-Cookie"]) > 0 || f.sessions() > 0 || !errors.Is(err, errReached) {
		f.Errorf("an empty session was made for a hijack: %v", err)
	}
	if header, err := f.taken("", func(t turn) { f.must("Set", t.s.Set("k", 1)) }); len(header["Set-Cookie"]) != 1 || f.sessions() != 1 || !errors.Is(err, errReached) {
		f.Errorf("a session with values was not made for a hijack: %v", err)
	}
}

func TestWhatNeedsACookieFailsWhenTheBrowserHasGone(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(f *frail, t turn){
		"a login":       replacing["a login"],
		"a renewal":     replacing["a renewal"],
		"a new session": nil,
	} {
		var failed error
		f := newFrail(t, session.Options{ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err }})
		cookie := ""
		if change != nil {
			cookie = f.begin("alice")
		}
		had := f.sessions()
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequest(http.MethodGet, "https://localhost/", nil).WithContext(ctx)
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		answer := httptest.NewRecorder()
		f.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := f.m.Session(r.Context())
			f.must("Session", err)
			if change == nil {
				f.must("Set", s.Set("k", 1))
			} else {
				change(f, turn{w, r, s, err})
			}
			cancel()
			if change != nil {
				f.is("Login", s.Login(r.Context(), "carol", session.Login{}), session.ErrTooLate)
			}
		})).ServeHTTP(answer, r)
		if f.is(name, failed, session.ErrTooLate); !errors.Is(failed, context.Canceled) || len(answer.Result().Cookies()) > 0 {
			f.Errorf("%s: the error handler is told %v, %d cookies", name, failed, len(answer.Result().Cookies()))
		}
		if n := f.sessions(); n != had {
			f.Errorf("%s: %d sessions; want %d", name, n, had)
		}
		if cookie != "" {
			f.has(cookie, "alice", "before")
		}
	}
}

func TestSaveReplacesNoSessionForABrowserThatHasGone(t *testing.T) {
	t.Parallel()
	for name, replace := range replacing {
		f := newFrail(t, session.Options{})
		cookie := f.begin("alice")
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequest(http.MethodPost, "https://localhost/", nil).WithContext(ctx)
		r.Header.Set("Cookie", cookie)
		f.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := f.m.Session(r.Context())
			f.must("Session", err)
			replace(f, turn{w, r, s, err})
			cancel()
			f.is(name, s.Save(context.Background()), session.ErrTooLate)
			if s.User() != "alice" || !s.Has("before") {
				f.Errorf("%s: the user is %q with %q", name, s.User(), s.Keys())
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
		f.has(cookie, "alice", "before")
	}
}

func TestALoginHappensWithTheAnswerAndSaysSoUntilThen(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{UserLimit: session.UserLimit{Max: 1}})
	cookie := f.begin("alice")
	var key session.Key
	_, after := f.ask(cookie, func(t turn) {
		key = t.s.Key()
		f.must("Login", t.s.Login(t.r.Context(), "bob", session.Login{Label: "phone"}))
		f.must("Set", t.s.Set("bob's", true))
		if t.s.User() != "bob" || t.s.Has("before") || t.s.AuthenticatedAt().IsZero() {
			f.Errorf("after Login the user is %q with %q", t.s.User(), t.s.Keys())
		}
		if t.s.Key() != key || t.s.Info().User != "alice" || f.store.Count(spystore.RenewLimited) > 0 {
			f.Errorf("something has happened before the answer: %+v", t.s.Info())
		}
		t.w.WriteHeader(http.StatusOK)
		f.must("Flush", http.NewResponseController(t.w).Flush())
		if t.s.Key() == key || t.s.Info().User != "bob" || t.s.Info().Label != "phone" {
			f.Errorf("nothing has happened with the answer: %+v", t.s.Info())
		}
	})
	f.has(after, "bob", "bob's")
	f.ask(cookie, func(t turn) {
		if t.s.User() != "" {
			f.Error("the session of before is there")
		}
	})
	// Reload forgets a login, a logout ends it.
	f.ask(after, func(t turn) {
		f.must("Login", t.s.Login(t.r.Context(), "carol", session.Login{}))
		f.must("Reload", t.s.Reload(t.r.Context()))
		if t.s.User() != "bob" || !t.s.Has("bob's") {
			f.Errorf("after Reload the user is %q", t.s.User())
		}
	})
	f.has(after, "bob", "bob's")
	_, left := f.ask(after, func(t turn) {
		f.must("Login", t.s.Login(t.r.Context(), "carol", session.Login{}))
		f.must("Logout", t.s.Logout(t.r.Context()))
	})
	if n := f.sessions(); n != 0 || left != "" {
		f.Errorf("after a login and a logout there are %d sessions", n)
	}
}

func TestALoginSurvivesTheEndOfTheSessionBefore(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(f *frail, t turn) error{
		"by others": func(f *frail, t turn) error {
			_, err := f.store.Store.Destroy(t.r.Context(), t.s.Key())
			return err
		},
		"by RevokeUser": func(f *frail, t turn) error {
			_, err := f.m.RevokeUser(t.r.Context(), "alice")
			return err
		},
		"by Revoke": func(f *frail, t turn) error { return f.m.Revoke(t.r.Context(), "alice", t.s.Info().Handle) },
	} {
		f := newFrail(t, session.Options{})
		cookie := f.begin("alice")
		_, after := f.ask(cookie, func(t turn) {
			f.must("Login", t.s.Login(t.r.Context(), "bob", session.Login{}))
			f.must("Set", t.s.Set("bob's", true))
			f.must(name, end(f, t))
		})
		if f.has(after, "bob", "bob's"); f.sessions() != 1 {
			f.Errorf("%s: %d sessions", name, f.sessions())
		}
	}
	// But not that of the user's own sessions.
	f := newFrail(t, session.Options{})
	_, cookie := f.ask("", func(t turn) {
		f.must("Login", t.s.Login(t.r.Context(), "bob", session.Login{}))
		_, err := f.m.RevokeUser(t.r.Context(), "bob")
		f.must("RevokeUser", err)
	})
	if cookie != "" || f.sessions() != 0 {
		f.Errorf("a login of a user whose sessions were ended after it: %d sessions", f.sessions())
	}
}

func TestAHeldAnswerIsWhatTheHandlerWrote(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 2047, 2048, 2049, 10_000} {
		f := newFrail(t, session.Options{})
		cookie := f.begin("")
		server := httptest.NewServer(f.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := f.m.Session(r.Context())
			f.must("Session", err)
			f.must("Login", s.Login(r.Context(), "bob", session.Login{}))
			w.Header().Set("Trailer", "X-Sum")
			w.Header().Set("X-Early", "yes")
			w.WriteHeader(http.StatusAccepted)
			w.Header().Set("X-Late", "too late")
			w.Header().Set("X-Early", "too late")
			w.WriteHeader(http.StatusTeapot)
			for i := range size {
				n, err := w.Write([]byte{byte('a' + i%26)})
				if f.must("Write", err); n != 1 {
					f.Errorf("Write = %d", n)
				}
			}
			w.Header().Set("X-Sum", fmt.Sprint(size))
		})))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
		f.must("NewRequest", err)
		r.Header.Set("Cookie", cookie)
		resp, err := server.Client().Do(r)
		if err != nil {
			f.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		server.Close()
		f.must("read", err)
		if resp.StatusCode != http.StatusAccepted || len(body) != size || strings.Trim(string(body), "abcdefghijklmnopqrstuvwxyz") != "" || len(resp.Cookies()) != 1 {
			f.Errorf("%d bytes: the answer is %d with %d bytes and %d cookies", size, resp.StatusCode, len(body), len(resp.Cookies()))
		}
		if resp.Header.Get("X-Early") != "yes" || resp.Header.Get("X-Late") != "" || resp.Trailer.Get("X-Sum") != fmt.Sprint(size) {
			f.Errorf("%d bytes: the header is %v, the trailer %v", size, resp.Header, resp.Trailer)
		}
	}
}
