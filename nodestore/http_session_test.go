package nodestore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

func TestAHandlerUsesANodeLogin(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, lastingRow)
		w.ask(cookieA, func(t turn) {
			reads(t)
			user, err := nodestore.Value[string](t.s, "passport", "user")
			if user != "106" || err != nil || t.s.User() != "106" || t.s.IsNew() || t.s.SID() != sidA || t.s.Key() != session.ForeignKey("express-session", sidA) {
				t.Errorf("passport.user %q, %v; user %q", user, err, t.s.User())
			}
			if got := fmt.Sprint(t.s.Keys()); got != "[user passport]" {
				t.Errorf("the keys are %s", got)
			}
			if c := t.s.Cookie(); c != (nodestore.Cookie{Path: "/", MaxAge: 24 * time.Hour}) {
				t.Errorf("the cookie is %+v", c)
			}
		})
		for user, want := range map[string]string{`"é"`: "é", `{"id":1}`: `{"id":1}`, `12345678901234567890`: "12345678901234567890", "null": ""} {
			w.node(sidA, `{"cookie":{},"passport":{"user":`+user+`}}`)
			w.ask(cookieA, func(t turn) {
				if reads(t); t.s.User() != want {
					t.Errorf("the user is %q; want %q", t.s.User(), want)
				}
			})
		}
	})
}

func TestFlashesAreThoseOfConnectFlash(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, `{"cookie":{},"flash":{"error":["no","<b>"],"info":[]}}`)
		w.ask(cookieA, func(t turn) {
			reads(t)
			got, err := nodestore.Flashes[string](t.s, "error")
			if fmt.Sprint(got) != "[no <b>]" || err != nil {
				t.Errorf("the flashes are %q, %v", got, err)
			}
			t.must("Flash", t.s.Flash("info", "saved"))
			t.must("Flash", t.s.Flash("info", "again"))
		})
		w.has(sidA, `{"cookie":{},"flash":{"info":["saved","again"]}}`)
		w.store.taken()
		w.ask(cookieA, func(t turn) { // there are none of this kind, and nothing is written
			if got, err := nodestore.Flashes[string](t.s, "error"); len(got) > 0 || err != nil {
				t.Errorf("the flashes are %q, %v", got, err)
			}
		})
		if got := w.store.taken(); strings.Contains(got, "save") {
			t.Errorf("the store was called for %q", got)
		}
	})
}

func TestAFailedWriteFailsTheRequestOnce(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"get", "save", "create", "destroy", "renew"} {
		w := express(t, "fake", nodestore.ExpressOptions{})
		w.node(sidA, lastingRow)
		cookie := cookieA
		if op == "create" {
			cookie = ""
		}
		w.store.fail(op, errLost)
		var failed error
		res := w.ask(cookie, func(t turn) {
			t.w.Header().Set("X-Handler", "was here")
			if failed = t.err; op == "get" {
				t.is("Set", t.s.Set("views", 1), errLost)
				t.is("Destroy", t.s.Destroy(t.ctx()), errLost)
				t.is("Touch", t.s.Touch(), errLost)
				return
			}
			t.must("Set", t.s.Set("views", 1))
			switch op {
			case "destroy":
				failed = t.s.Destroy(t.ctx())
			case "renew":
				t.must("Renew", t.s.Renew(t.ctx()))
				failed = t.s.Save(t.ctx())
			case "save", "create":
				if _, err := t.w.Write([]byte("from the handler")); !errors.Is(err, errLost) {
					t.Errorf("%s: Write: %v", op, err)
				}
				t.w.WriteHeader(http.StatusTeapot)
				failed = errLost
			}
		})
		body, _ := io.ReadAll(res.Body)
		if !errors.Is(failed, errLost) {
			t.Errorf("%s: the handler is told %v", op, failed)
		}
		told := op == "destroy" || op == "renew" // the handler answers, and the session goes on
		if want := map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable}[told]; res.StatusCode != want || strings.Contains(string(body), "handler") || res.Header.Get("X-Handler") != "" != told {
			t.Errorf("%s: the answer is %d %q %v", op, res.StatusCode, body, res.Header)
		}
		if !told && cookies(res) != "" {
			t.Errorf("%s: cookies %q", op, cookies(res))
		}
	}
}

func TestAFailedTouchFailsNoRequest(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, plainRow)
	w.store.fail("touch", errLost)
	w.clock.advance(time.Minute)
	if res := w.ask(cookieA, reads); res.StatusCode != http.StatusOK || w.told() != "touch failed" || w.logs.Len() != 1 {
		t.Errorf("status %d, logged %v", res.StatusCode, w.logs.All())
	}
}

func TestASaveThatFailedIsTheHandlersToAnswer(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, plainRow)
	w.store.fail("save", errLost)
	res := w.ask(cookieA, func(t turn) {
		t.must("Set", t.s.Set("views", 8))
		t.is("Save", t.s.Save(t.ctx()), errLost)
		t.w.WriteHeader(http.StatusTeapot)
	})
	if got := w.store.taken(); res.StatusCode != http.StatusTeapot || got != "get save" {
		t.Errorf("status %d; the store was called for %q", res.StatusCode, got)
	}
	w.has(sidA, plainRow)
}

func TestWhatIsChangedAfterTheFirstByteIsSavedWithoutACookie(t *testing.T) {
	t.Parallel()
	for _, flush := range []bool{false, true} {
		w := express(t, "fake", nodestore.ExpressOptions{})
		w.node(sidA, lastingRow)
		res := w.ask(cookieA, func(t turn) {
			reads(t)
			if flush {
				t.must("Flush", http.NewResponseController(t.w).Flush())
			} else {
				t.w.WriteHeader(http.StatusOK)
			}
			t.must("Set", t.s.Set("late", true))
			t.is("Regenerate", t.s.Regenerate(t.ctx()), session.ErrTooLate)
			t.is("Renew", t.s.Renew(t.ctx()), session.ErrTooLate)
		})
		if cookies(res) != "" || !strings.Contains(w.row(sidA), `"late":true`) {
			t.Errorf("cookies %q, row %s", cookies(res), w.row(sidA))
		}
		res = w.ask("", func(t turn) {
			fmt.Fprint(t.w, "begun")
			t.is("Set", t.s.Set("late", true), session.ErrTooLate)
			t.is("Save", t.s.Save(t.ctx()), session.ErrTooLate)
		})
		if cookies(res) != "" || w.row(sidB) != "" {
			t.Errorf("a session was made: %q", cookies(res))
		}
		// A logout still ends the row.
		res = w.ask(cookieA, func(t turn) {
			fmt.Fprint(t.w, "begun")
			t.must("Destroy", t.s.Destroy(t.ctx()))
		})
		if cookies(res) != "" || w.row(sidA) != "" {
			t.Errorf("cookies %q, row %s", cookies(res), w.row(sidA))
		}
	}
}

func TestASessionIsRefusedWhenItsRequestIsOver(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, plainRow)
	var s *nodestore.Session
	w.ask(cookieA, func(t turn) { s = t.s })
	for what, err := range map[string]error{
		"Set": s.Set("a", 1), "Delete": s.Delete("a"), "Save": s.Save(t.Context()), "Destroy": s.Destroy(t.Context()), "Regenerate": s.Regenerate(t.Context()),
		"Renew": s.Renew(t.Context()), "Touch": s.Touch(), "Unset": s.Unset(), "SetCookie": s.SetCookie(nodestore.Cookie{}), "Flash": s.Flash("a", 1),
	} {
		w.is(what, err, session.ErrTooLate)
	}
	w.has(sidA, plainRow)
}

func TestAnEndedSessionCannotBeChanged(t *testing.T) {
	t.Parallel()
	for _, end := range []func(turn) error{
		func(t turn) error { return t.s.Destroy(t.ctx()) }, func(t turn) error { return t.s.Unset() },
	} {
		w := express(t, "fake", nodestore.ExpressOptions{DestroyUnset: true, Rolling: true, SaveUninitialized: true})
		w.node(sidA, lastingRow)
		res := w.ask(cookieA, func(t turn) {
			t.must("end", end(t))
			for what, err := range map[string]error{"Set": t.s.Set("a", 1), "Save": t.s.Save(t.ctx()), "Renew": t.s.Renew(t.ctx()), "Touch": t.s.Touch()} {
				t.is(what, err, session.ErrNotFound)
			}
			if t.s.User() != "" || len(t.s.Keys()) > 0 {
				t.Error("it can still be read")
			}
			if ended := t.row(sidA) == ""; t.s.IsNew() != ended || (t.s.SID() == "") != ended || t.s.Key().IsZero() != ended {
				t.Error("it still has its ID")
			}
		})
		if cookies(res) != "" || w.row(sidA) != "" || w.row(sidB) != "" {
			t.Errorf("cookies %q, rows %q %q", cookies(res), w.row(sidA), w.row(sidB))
		}
		// But another one can begin.
		w.node(sidA, lastingRow)
		w.ask(cookieA, func(t turn) {
			t.must("end", end(t))
			t.must("Regenerate", t.s.Regenerate(t.ctx()))
			t.must("Set", t.s.Set("views", 1))
		})
		w.has(sidA, "")
		w.has(sidB, fresh+views)
	}
}

func TestKeysThatExpressWouldNotReadAreRefused(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.ask("", func(t turn) {
		for _, key := range []string{"", "cookie", "id", "req", "save", "destroy", "constructor", "__proto__", "\xff"} {
			t.is(key, t.s.Set(key, 1), session.ErrInvalid)
			t.is(key, nodestore.Update(t.s, key, func(int) int { return 1 }), session.ErrInvalid)
		}
		t.is("SetPath", t.s.SetPath([]string{"cookie", "maxAge"}, 1), session.ErrInvalid)
		t.is("SetPath", t.s.SetPath(nil, 1), session.ErrInvalid)
		t.is("SetCookie", t.s.SetCookie(nodestore.Cookie{Domain: "a;b"}), session.ErrInvalid)
		if t.s.Set("f", func() {}) == nil {
			t.Error("a function was encoded")
		}
	})
	if w.row(sidB) != "" {
		t.Error("it was stored")
	}
}

func TestAPanicSavesNothing(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, plainRow)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		w.ask(cookieA, func(t turn) {
			t.must("Set", t.s.Set("views", 8))
			panic("oops")
		})
	}()
	w.has(sidA, plainRow)
}

func TestOutsideOfAHandlerThereIsNoSession(t *testing.T) {
	t.Parallel()
	if _, err := nodestore.FromContext(t.Context()); !errors.Is(err, session.ErrNoManager) {
		t.Error(err)
	}
	w := express(t, "fake", nodestore.ExpressOptions{})
	if _, err := w.m.Session(t.Context()); !errors.Is(err, session.ErrNoManager) {
		t.Error(err)
	}
}

func TestHandlersOfSeveralApplicationsCanBeNested(t *testing.T) {
	t.Parallel()
	a := express(t, "fake", nodestore.ExpressOptions{})
	b := koa(t, "fake", nodestore.KoaOptions{})
	same := express(t, "fake", nodestore.ExpressOptions{})
	serve := func(h http.Handler) *http.Response {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
		return answer.Result()
	}
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		outer, err := nodestore.FromContext(r.Context())
		if s, other := a.m.Session(r.Context()); s != outer || err != other {
			t.Errorf("FromContext = %v, %v; want the session of the outermost", outer, err)
		}
		for _, m := range []handlers{a.m, b.m} {
			s, err := m.Session(r.Context())
			if err != nil || s.Set("views", 1) != nil {
				t.Error(err)
			}
		}
	})
	res := serve(a.m.Handler(a.m.Handler(b.m.Handler(inner))))
	if got := len(res.Cookies()); got != 3 || a.row(sidB) == "" || b.row(sidB) == "" {
		t.Errorf("%d cookies; rows %q, %q", got, a.row(sidB), b.row(sidB))
	}
	// The inner one's cookies stay when the outer one fails.
	a.store.fail("create", errLost)
	b.store.rows.Destroy(t.Context(), sidB)
	res = serve(a.m.Handler(b.m.Handler(inner)))
	if got := len(res.Cookies()); got != 2 || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d, %d cookies", res.StatusCode, got)
	}
	if res := serve(a.m.Handler(same.m.Handler(inner))); res.StatusCode != http.StatusInternalServerError {
		t.Errorf("two of one name: status %d", res.StatusCode)
	}
}

func TestARequestIsSavedWhenItsBrowserHasGone(t *testing.T) {
	t.Parallel()
	w := express(t, "sqlite", nodestore.ExpressOptions{})
	w.node(sidA, plainRow)
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx)
	r.Header.Set("Cookie", cookieA)
	w.serve(r, func(t turn) {
		t.must("Set", t.s.Set("views", 8))
		cancel()
	})
	w.has(sidA, strings.Replace(plainRow, "7", "8", 1))
}
