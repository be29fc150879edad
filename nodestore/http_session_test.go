package nodestore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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

// Of everything that happens between a request's read and its write.
func TestChangesAreMadeToWhatOthersHaveSaved(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		row := `{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"},"views":7,"cart":["a"],"passport":{"user":1},"gone":true}`
		w.node(sidA, row)
		w.ask(cookieA, func(t turn) {
			reads(t)
			t.must("Update", nodestore.Update(t.s, "views", func(n int) int { return n + 1 }))
			t.must("Set", t.s.Set("theme", "dark"))
			t.must("Flash", t.s.Flash("info", "hello"))
			t.must("SetPath", t.s.SetPath([]string{"prefs", "lang"}, "de"))
			t.must("Delete", t.s.Delete("gone"))
			w.store.before("save", func() {
				w.node(sidA, `{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"},"views":10,"cart":["a","b"],"passport":{"user":1},"gone":true,"prefs":{"tz":"UTC"},"big":12345678901234567890}`)
			})
		})
		if got := w.store.taken(); got != "get save get save" {
			t.Errorf("the store was called for %q", got)
		}
		w.has(sidA, `{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"},"views":11,"cart":["a","b"],"passport":{"user":1},"prefs":{"tz":"UTC","lang":"de"},"big":12345678901234567890,"theme":"dark","flash":{"info":["hello"]}}`)
	})
}

func TestACookieChangeIsMadeToWhatOthersHaveSaved(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, `{"cookie":{"originalMaxAge":60000,"expires":null,"httpOnly":true,"path":"/"},"views":7}`)
	w.ask(cookieA, func(t turn) {
		c := t.s.Cookie()
		c.MaxAge = time.Hour
		t.must("SetCookie", t.s.SetCookie(c))
		t.must("Set", t.s.Set("x", 1))
		w.store.before("save", func() {
			w.node(sidA, `{"cookie":{"originalMaxAge":60000,"expires":null,"httpOnly":true,"path":"/","sameSite":"lax"},"views":8}`)
		})
	})
	w.has(sidA, `{"cookie":{"originalMaxAge":3600000,"expires":"2030-01-01T01:00:00.123Z","httpOnly":true,"path":"/","sameSite":"lax"},"views":8,"x":1}`)
}

func TestASessionThatEndedMeanwhileIsNotStoredAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		for what, change := range map[string]func(turn){
			"changed": sets("views", 8), "touched": func(t turn) { t.clock.advance(time.Second) }, "renewed": func(t turn) {
				t.must("Set", t.s.Set("views", 8))
				t.is("Renew", t.s.Renew(t.ctx()), session.ErrNotFound)
				t.is("Set", t.s.Set("views", 9), session.ErrNotFound)
			},
			"saved": func(t turn) {
				t.must("Set", t.s.Set("views", 8))
				t.is("Save", t.s.Save(t.ctx()), session.ErrNotFound)
			},
		} {
			w := express(t, backend, nodestore.ExpressOptions{Rolling: true})
			w.node(sidA, plainRow)
			res := w.ask(cookieA, func(t turn) {
				reads(t)
				_, err := w.store.rows.Destroy(t.ctx(), sidA) // by Node
				t.must("Destroy", err)
				change(t)
				fmt.Fprint(t.w, "served")
			})
			if body, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || string(body) != "served" || cookies(res) != "" {
				t.Errorf("%s: %d %q, cookies %q", what, res.StatusCode, body, cookies(res))
			}
			w.has(sidA, "")
			w.has(sidB, "")
			if got := w.told(); (got == "save dropped") != (what != "touched") {
				t.Errorf("%s: told %q", what, got)
			}
			if logged := fmt.Sprint(w.logs.All()); strings.Contains(logged, sidA) || (w.logs.Len() > 0) != (what != "touched") {
				t.Errorf("%s: logged %s", what, logged)
			}
		}
	})
}

func TestTheCookiesOfASessionThatEndedMeanwhileAreLeftAlone(t *testing.T) {
	t.Parallel()
	w := koa(t, "fake", nodestore.KoaOptions{Keys: []string{"koa-key-2", koaKey}}) // an old signature would be renewed
	for what, change := range map[string]func(turn){
		"changed": sets("user", "ann"),
		"renewed": func(t turn) {
			t.must("Renew", t.s.Renew(t.ctx()))
			_, err := w.store.rows.Destroy(t.ctx(), sidB)
			t.must("Destroy", err)
			t.must("Set", t.s.Set("user", "ann"))
		},
	} {
		w.node(sidA, koaRow)
		res := w.ask(koaA, func(t turn) {
			if reads(t); what == "changed" {
				_, err := w.store.rows.Destroy(t.ctx(), sidA)
				t.must("Destroy", err)
			}
			change(t)
		})
		if res.StatusCode != http.StatusOK || cookies(res) != "" || w.row(sidA)+w.row(sidB) != "" {
			t.Errorf("%s: status %d, cookies %q", what, res.StatusCode, cookies(res))
		}
	}
}

// Passport before 0.6 logs in without a new ID.
func TestChangesOfOneUserAreNotMadeToTheSessionOfAnother(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, lastingRow)
	w.ask(cookieA, func(t turn) {
		reads(t)
		t.must("Set", t.s.Set("draft", "dear diary"))
		w.store.before("save", func() { w.node(sidA, strings.Replace(lastingRow, "106", "107", 1)) })
	})
	w.has(sidA, strings.Replace(lastingRow, "106", "107", 1))
	if got := w.told(); got != "save dropped" {
		t.Errorf("told %q", got)
	}
}

func TestTwoGoRequestsThatChangeDifferentValuesBothWin(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		const n = 8
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, plainRow)
		var all, together sync.WaitGroup
		together.Add(n)
		for i := range n {
			all.Go(func() {
				res := w.ask(cookieA, func(t turn) {
					together.Done()
					together.Wait() // all have read before one writes
					if t.err != nil {
						t.Error(t.err)
						return
					}
					if err := errors.Join(t.s.Set(fmt.Sprint("key", i), i), nodestore.Update(t.s, "views", func(n int) int { return n + 1 })); err != nil {
						t.Error(err)
					}
				})
				if res.StatusCode != http.StatusOK {
					t.Errorf("status %d", res.StatusCode)
				}
			})
		}
		all.Wait()
		d := parsed(t, w.row(sidA))
		if views, _ := nodestore.Value[int](d, "views"); views != 7+n {
			t.Errorf("%d views; want %d", views, 7+n)
		}
		for i := range n {
			if got, err := nodestore.Value[int](d, fmt.Sprint("key", i)); got != i || err != nil || d.Raw(fmt.Sprint("key", i)) == nil {
				t.Errorf("the change of request %d is lost", i)
			}
		}
	})
}

// A Node request writes without comparing: what Go saved between its read and
// its write is lost, and nothing else.
func TestABlindNodeWriteBetweenGoRequests(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, plainRow)
		var wait sync.WaitGroup
		for i := range 4 {
			wait.Go(func() {
				for j := range 5 {
					w.ask(cookieA, func(t turn) {
						if t.err != nil || t.s.Set(fmt.Sprintf("k%d_%d", i, j), strings.Repeat("x", j)) != nil {
							t.Error(t.err)
						}
					})
				}
			})
			wait.Go(func() {
				for j := range 5 {
					if err := w.store.Set(t.Context(), sidA, fmt.Appendf(nil, `{"cookie":{},"node":%d}`, i*10+j)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
		d := parsed(t, w.row(sidA))
		if d.Raw("cookie") == nil || d.Raw("node") == nil {
			t.Errorf("the row is %s", d.Bytes())
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
				failed = t.s.Renew(t.ctx())
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
		if _, err := nodestore.FromContext(r.Context()); !errors.Is(err, session.ErrNoManager) {
			t.Errorf("FromContext: %v", err)
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

func TestNothingPrintsAnIDOrASecret(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, lastingRow)
	var out strings.Builder
	show := func(v any) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		text, _ := json.Marshal(v)
		out.Write(text)
	}
	for _, op := range []string{"get", "save", "touch", "destroy", "renew", "create"} {
		w.store.fail(op, errLost)
		for _, do := range []func(turn){reads, sets("views", 8), func(t turn) { show(t.s.Destroy(t.ctx())) }, func(t turn) { show(t.s.Renew(t.ctx())) }} {
			w.clock.advance(time.Minute)
			res := w.ask(cookieA, func(t turn) {
				show(t.s)
				show(struct{ S *nodestore.Session }{t.s})
				show(t.err)
				if t.err == nil {
					do(t)
				}
			})
			body, _ := io.ReadAll(res.Body)
			out.Write(body)
		}
	}
	show(w.m)
	for _, e := range w.events {
		show(e)
	}
	for _, entry := range w.logs.All() {
		fmt.Fprintf(&out, "%v %v\n", entry.Message, entry.ContextMap())
	}
	for what, hidden := range map[string]string{"a sid": sidA, "a new sid": sidB, "a secret": secret, "a signature": cookieA[len(cookieA)-20:]} {
		if strings.Contains(out.String(), hidden) {
			t.Errorf("%s is printed", what)
		}
	}
	if len(w.events) == 0 || w.logs.Len() == 0 || !strings.Contains(out.String(), "nodestore(redacted)") {
		t.Error("nothing was printed")
	}
}

func TestGeneratedIDsAreLikeThoseOfThePackages(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 20 {
		w := newWeb(t, "fake", nodestore.Layout{})
		m, err := nodestore.NewExpressAt(w.store, nodestore.ExpressOptions{Secrets: []string{secret}}, w.clock.Now)
		w.must("NewExpress", err)
		w.m = m
		w.ask("", func(t turn) {
			t.must("Set", t.s.Set("views", 1))
			t.must("Save", t.s.Save(t.ctx()))
			seen[t.s.SID()] = true
			if len(t.s.SID()) != 32 || strings.Trim(t.s.SID(), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
				t.Errorf("an ID is %q", t.s.SID())
			}
		})
	}
	if len(seen) != 20 {
		t.Errorf("%d different IDs of 20", len(seen))
	}
	for what, generate := range map[string]func(*http.Request) (string, error){
		"an error": func(*http.Request) (string, error) { return "", errLost }, "empty": func(*http.Request) (string, error) { return "", nil },
		"a NUL": func(*http.Request) (string, error) { return "a\x00", nil }, "not UTF-8": func(*http.Request) (string, error) { return "\xff", nil },
	} {
		w := express(t, "fake", nodestore.ExpressOptions{GenerateID: generate})
		if res := w.ask("", sets("views", 1)); res.StatusCode < 500 || cookies(res) != "" {
			t.Errorf("%s: status %d", what, res.StatusCode)
		}
	}
	for _, id := range []string{"a b", "a;b", "é", `"a"`} {
		w := koa(t, "fake", nodestore.KoaOptions{GenerateID: func(*http.Request) (string, error) { return id, nil }})
		if res := w.ask("", sets("views", 1)); res.StatusCode != http.StatusInternalServerError || cookies(res) != "" {
			t.Errorf("%q: status %d", id, res.StatusCode)
		}
	}
}

func TestWrongOptionsAreRefusedByName(t *testing.T) {
	t.Parallel()
	now := time.Now
	for want, opts := range map[string]nodestore.ExpressOptions{
		"Secrets": {}, "Secrets[1]": {Secrets: []string{"a", ""}}, "Name": {Name: "a b", Secrets: []string{"a"}}, "User": {User: []string{""}, Secrets: []string{"a"}},
		"Cookie.Domain": {Cookie: nodestore.Cookie{Domain: "a\r\nb"}, Secrets: []string{"a"}}, "Cookie.Path": {Cookie: nodestore.Cookie{Path: "/;"}, Secrets: []string{"a"}},
		"Cookie.MaxAge": {Cookie: nodestore.Cookie{MaxAge: 1}, Secrets: []string{"a"}}, "Cookie.Secure": {Cookie: nodestore.Cookie{Secure: 9}, Secrets: []string{"a"}},
		"Cookie.SameSite": {Cookie: nodestore.Cookie{SameSite: "Lax"}, Secrets: []string{"a"}}, "Cookie.Priority": {Cookie: nodestore.Cookie{Priority: "top"}, Secrets: []string{"a"}},
	} {
		if _, err := nodestore.NewExpressAt(nil, opts, now); !errors.Is(err, session.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for want, opts := range map[string]nodestore.KoaOptions{
		"Keys": {}, "Keys[0]": {Keys: []string{""}}, "Name": {Name: "a=b", Unsigned: true}, "Cookie.SameSite": {Unsigned: true, Cookie: nodestore.Cookie{SameSite: "auto"}},
	} {
		if _, err := nodestore.NewKoaAt(nil, opts, now); !errors.Is(err, session.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := nodestore.NewExpress(nil, nodestore.ExpressOptions{}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("without a store: %v", err)
	}
	if _, err := nodestore.NewKoa(nil, nodestore.KoaOptions{}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("without a store: %v", err)
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
