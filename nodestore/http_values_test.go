package nodestore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

func TestNothingThatPrintsShowsASecretOfNode(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, lastingRow)
		check := func(what string, v any) {
			t.Helper()
			type holder struct {
				Shown  any
				hidden any
			}
			var hidden any
			if _, open := v.(nodestore.Entry); !open { // which fmt does not even ask there
				hidden = v
			}
			for _, v := range []any{v, []any{v}, holder{v, hidden}, &holder{v, hidden}} {
				text, err := json.Marshal(v)
				texts := []string{string(text), fmt.Sprint(err)}
				for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
					texts = append(texts, fmt.Sprintf(verb, v))
				}
				core, logs := observer.New(zapcore.DebugLevel)
				zap.New(core).Sugar().Infof("%v %+v", v, v)
				texts = append(texts, logs.All()[0].Message)
				for _, text := range texts {
					for _, secret := range []string{sidA, secret, "zoe", fmt.Sprintf("%x", secret), fmt.Sprintf("%x", sidA)} {
						if strings.Contains(text, secret) {
							t.Errorf("%s: %.300s", what, text)
							return
						}
					}
				}
			}
		}
		w.ask(cookieA, func(t turn) {
			t.must("Session", t.err)
			t.must("Set", t.s.Set("again", "zoe"))
			check("a session", t.s)
			t.must("Renew", t.s.Renew(t.ctx()))
			check("a renewed session", t.s)
			_, err := nodestore.Value[int](t.s, "user")
			check("the error of another type", err)
		})
		check("an Express", w.m)
		check("options", nodestore.ExpressOptions{Secrets: session.Secrets(secret)})
		check("options of a Koa", nodestore.KoaOptions{Keys: session.Secrets(secret)})
		entry := nodestore.Entry{ID: sidA, Data: []byte(lastingRow)}
		check("an entry", entry)
		doc, err := nodestore.ParseDocument(entry.Data)
		w.must("ParseDocument", err)
		check("a document", doc)
		placeholder := fmt.Sprint(doc)
		k := koa(t, backend, nodestore.KoaOptions{Keys: session.Secrets(secret)})
		check("a Koa", k.m)
		for _, one := range []any{w.m, k.m} {
			if got := fmt.Sprintf("%+v", one); got != placeholder {
				t.Errorf("%T prints as %.300s; want %s", one, got, placeholder)
			}
		}
	})
}

func TestOneOfManyGoRequestsTakesAValue(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		for range 5 {
			w.node(sidA, `{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"},"oauth":{"state":"s"}}`)
			const requests = 6
			var loaded, done sync.WaitGroup
			var found atomic.Int64
			loaded.Add(requests)
			for i := range requests {
				done.Go(func() {
					w.ask(cookieA, func(t turn) {
						t.must("Session", t.err)
						loaded.Done()
						loaded.Wait()
						state, ok, err := nodestore.Take[string](t.ctx(), t.s, "oauth", "state")
						if err != nil || ok != (state == "s") {
							t.Errorf("%q, %t, %v", state, ok, err)
						}
						if ok {
							found.Add(1)
						}
						t.must("Set", t.s.Set(fmt.Sprint("other", i), i))
					})
				})
			}
			done.Wait()
			if n := found.Load(); n != 1 || strings.Contains(w.row(sidA), "state") || strings.Count(w.row(sidA), "other") != requests {
				t.Fatalf("%d requests got it; want one; the row is %s", n, w.row(sidA))
			}
		}
		w.node(sidA, plainRow)
		w.ask(cookieA, func(t turn) {
			if _, found, err := nodestore.Take[string](t.ctx(), t.s, "views"); found || err == nil {
				t.Errorf("Take of another type = %t, %v", found, err)
			}
			if _, found, err := nodestore.Take[int](t.ctx(), t.s, "none"); found || err != nil {
				t.Errorf("Take of nothing = %t, %v", found, err)
			}
			t.store.fail("save", errLost)
			if _, found, err := nodestore.Take[int](t.ctx(), t.s, "views"); found || !errors.Is(err, session.ErrUnknown) {
				t.Errorf("Take that fails = %t, %v", found, err)
			}
			t.store.fail("", nil)
			if got, err := nodestore.Value[int](t.s, "views"); got != 7 || err != nil {
				t.Errorf("after that there is %d, %v", got, err)
			}
			if got, found, err := nodestore.Take[int](t.ctx(), t.s, "views"); got != 7 || !found || err != nil {
				t.Errorf("Take = %d, %t, %v", got, found, err)
			}
		})
	})
}

func TestAFunctionThatUsesTheNodeSessionIsAnError(t *testing.T) {
	t.Parallel()
	var inside error
	var s *nodestore.Session
	w := express(t, "fake", nodestore.ExpressOptions{GenerateID: func(r *http.Request) (string, error) {
		_, inside = nodestore.FromContext(r.Context())
		return sidB, nil
	}})
	w.node(sidA, plainRow)
	w.ask(cookieA, func(t turn) {
		s = t.s
		for name, use := range map[string]func() error{
			"Set": func() error { return s.Set("x", 1) }, "Delete": func() error { return s.Delete("views") }, "Flash": func() error { return s.Flash("info", 1) },
			"Save": func() error { return s.Save(t.ctx()) }, "Destroy": func() error { return s.Destroy(t.ctx()) }, "Unset": func() error { return s.Unset() },
			"Update":      func() error { return nodestore.Update(s, "x", func(n int) int { return n }) },
			"FromContext": func() error { _, err := nodestore.FromContext(t.ctx()); return err },
		} {
			var inner error
			err := nodestore.Update(s, "views", func(n int) int { inner = use(); return n + 1 })
			if !errors.Is(err, session.ErrInvalid) || !errors.Is(inner, session.ErrInvalid) {
				t.Errorf("%s within Update: %v; Update: %v; want ErrInvalid", name, inner, err)
			}
		}
		for name, use := range map[string]func(){
			"Raw": func() { s.Raw("views") }, "Keys": func() { s.Keys() }, "User": func() { _ = s.User() }, "SID": func() { _ = s.SID() }, "Key": func() { _ = s.Key() },
			"IsNew": func() { _ = s.IsNew() }, "Cookie": func() { _ = s.Cookie() },
		} {
			if err := nodestore.Update(s, "views", func(n int) int { use(); return n + 1 }); !errors.Is(err, session.ErrInvalid) {
				t.Errorf("Update with %s within: %v; want ErrInvalid", name, err)
			}
		}
	})
	w.has(sidA, plainRow)
	res := w.ask("", sets("user", "zoe"))
	if res.StatusCode != http.StatusInternalServerError || !errors.Is(inside, session.ErrInvalid) {
		t.Errorf("a generator that uses the session: status %d, %v", res.StatusCode, inside)
	}
}

func TestWhatNodeCouldNotReadIsRefusedAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, plainRow)
		deep := func(n int) json.RawMessage {
			return json.RawMessage(strings.Repeat("[", n) + strings.Repeat("]", n))
		}
		res := w.ask(cookieA, func(t turn) {
			for what, v := range map[string]any{"deep": deep(session.MaxDepth + 1), "far too deep": deep(9999), "no UTF-8": "a\xff", "no UTF-8 inside": map[string]any{"a": []string{"\xff"}}} {
				for how, err := range map[string]error{
					"Set": t.s.Set("k", v), "Flash": t.s.Flash("info", v), "Update": nodestore.Update(t.s, "k", func(any) any { return v }),
				} {
					t.is(how+" of what is "+what, err, session.ErrInvalid)
				}
			}
			t.is("a long path", t.s.SetPath(strings.Split(strings.Repeat("a.", 2000)+"a", "."), 1), session.ErrInvalid)
			large := strings.Repeat("x", 2<<20)
			for how, err := range map[string]error{
				"Set": t.s.Set("k", large), "Flash": t.s.Flash("info", large), "Update": nodestore.Update(t.s, "k", func(any) any { return large }),
			} {
				t.is(how+" of what is too large", err, session.ErrTooLarge)
				if !strings.Contains(fmt.Sprint(err), "1048576") {
					t.Errorf("%s: %v; want the limit", how, err)
				}
			}
			if got := t.s.Keys(); fmt.Sprint(got) != "[views]" {
				t.Errorf("there are %q", got)
			}
		})
		if w.has(sidA, plainRow); res.StatusCode != http.StatusOK {
			t.Errorf("the answer is %d", res.StatusCode)
		}
	})
}

func TestAFlashOfAnotherTypeBlocksNoOthersInNode(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, strings.Replace(plainRow, `"views":7`, `"flash":{"info":["a",1,"b"],"odd":"text"}`, 1))
	w.ask(cookieA, func(t turn) {
		texts, err := nodestore.Flashes[string](t.s, "info")
		if fmt.Sprint(texts) != "[a b]" || err != nil {
			t.Errorf("texts %v, %v", texts, err)
		}
		rest, err := nodestore.Flashes[json.RawMessage](t.s, "info")
		if len(rest) != 1 || err != nil {
			t.Errorf("the rest %s, %v", rest, err)
		}
		t.must("Flash beside what is no array", t.s.Flash("odd", "new"))
		odd, err := nodestore.Flashes[string](t.s, "odd")
		if fmt.Sprint(odd) != "[text new]" || err != nil {
			t.Errorf("odd %v, %v", odd, err)
		}
	})
}

func TestAfterAFailedSaveNoChangeOfNodesSessionIsDroppedSilently(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, plainRow)
		w.ask(cookieA, func(t turn) {
			t.must("Set", t.s.Set("mine", 1))
			t.store.fail("save", errLost)
			t.is("Save", t.s.Save(t.ctx()), session.ErrUnknown)
			t.store.fail("", nil)
			t.is("Set after that", t.s.Set("then", 1), session.ErrUnknown)
			t.is("Delete after that", t.s.Delete("views"), session.ErrUnknown)
			if _, _, err := nodestore.Take[int](t.ctx(), t.s, "views"); !errors.Is(err, session.ErrUnknown) {
				t.Errorf("Take after that: %v", err)
			}
			t.must("Save again", t.s.Save(t.ctx()))
			t.must("Set", t.s.Set("then", 1))
		})
		if row := w.row(sidA); !strings.HasSuffix(row, `"views":7,"mine":1,"then":1}`) {
			t.Errorf("the row is %s", row)
		}
	})
}

func TestSettingWhatIsThereIsNoSaveForNode(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, plainRow)
		w.store.taken()
		w.ask(cookieA, func(t turn) {
			t.must("Set", t.s.Set("views", 7))
			t.must("Update", nodestore.Update(t.s, "views", func(n int) int { return n }))
		})
		if calls := w.store.taken(); strings.Contains(calls, "save") {
			t.Errorf("the calls are %s", calls)
		}
	})
}

func TestACallersContextDecidesNothingForNodesPage(t *testing.T) {
	t.Parallel()
	w := koa(t, "fake", nodestore.KoaOptions{})
	w.node(sidA, koaRow)
	k, err := nodestore.NewKoaAt(&slowRows{spied: w.store}, nodestore.KoaOptions{Keys: session.Secrets(koaKey)}, w.clock.Now)
	w.must("NewKoaAt", err)
	done := false
	rw := httptest.NewRecorder()
	k.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Millisecond)
		defer cancel()
		if _, err := nodestore.FromContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("FromContext of a panel that gives up: %v", err)
		}
		s, err := nodestore.FromContext(r.Context())
		if err != nil || s.Raw("user") == nil {
			t.Errorf("FromContext: %v", err)
		}
		done = true
	})).ServeHTTP(rw, asking(koaA))
	if rw.Code != http.StatusOK || !done {
		t.Errorf("status %d", rw.Code)
	}
}

func asking(cookie string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://example.com/", nil)
	r.Header.Set("Cookie", cookie)
	return r
}

// slowRows are read only by those who have time.
type slowRows struct{ *spied }

func (s *slowRows) Get(ctx context.Context, id string) (nodestore.Entry, error) {
	if _, limited := ctx.Deadline(); limited {
		<-ctx.Done()
		return nodestore.Entry{}, ctx.Err()
	}
	return s.spied.Get(ctx, id)
}

func TestAHookThatPanicsLosesNoCookieOfNode(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	m, err := nodestore.NewExpressAt(w.store, nodestore.ExpressOptions{
		Secrets: session.Secrets(secret), Logger: zap.NewNop(), GenerateID: func(*http.Request) (string, error) { return sidB, nil },
		OnEvent: func(context.Context, session.Event) { panic("oops") },
	}, w.clock.Now)
	w.must("NewExpressAt", err)
	w.m = m
	res := w.ask("", sets("user", "zoe"))
	if w.row(sidB) == "" || !strings.Contains(cookies(res), "connect.sid=") {
		t.Errorf("the row is %q, the cookies %q", w.row(sidB), cookies(res))
	}
}

func TestAnOutageOfNodesTableIsHeardAtOnceAndNotWithEachRequest(t *testing.T) {
	t.Parallel()
	const requests, token = 500, "Zm9yZ290dGVuLXBhc3N3b3Jk"
	for call, handle := range map[string]func(turn){"get": nil, "save": func(t turn) { _ = t.s.Set("n", 8) }, "touch": func(turn) {}} {
		w := express(t, "fake", nodestore.ExpressOptions{Cookie: nodestore.Cookie{MaxAge: 24 * time.Hour}})
		w.node(sidA, lastingRow)
		w.clock.advance(time.Minute)
		w.store.fail(call, errLost)
		for range requests {
			r := asking(cookieA)
			r.URL.Path, r.RequestURI = "/reset/"+token, "/reset/"+token
			w.serve(r, func(t turn) {
				if t.err == nil && handle != nil {
					handle(t)
				}
			})
		}
		entries := w.logs.FilterLevelExact(zapcore.ErrorLevel).All()
		if call == "touch" {
			entries = w.logs.FilterLevelExact(zapcore.WarnLevel).All()
		}
		if len(entries) == 0 || len(entries) > 10 {
			t.Errorf("%s: %d requests that failed made %d lines", call, requests, len(entries))
			continue
		}
		if fields := entries[0].ContextMap(); fields["method"] != "GET" || fields["path"] != "/reset/…" {
			t.Errorf("%s: the first line is %q with %v", call, entries[0].Message, fields)
		}
	}
}

// Of what a Node request has saved a function may be unable to make anything.
func TestAMergeThatFailsLosesNoOtherChangeForNode(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, plainRow)
		w.store.before("save", func() { w.node(sidA, strings.Replace(plainRow, "7", `"text"`, 1)) })
		w.ask(cookieA, func(t turn) {
			t.must("Set", t.s.Set("mine", 1))
			t.must("Update", nodestore.Update(t.s, "views", func(n int) int { return n + 1 }))
			if err := t.s.Save(t.ctx()); err == nil {
				t.Error("Save has counted a text")
			}
			t.node(sidA, strings.Replace(plainRow, "7", "41", 1))
			t.must("Save again", t.s.Save(t.ctx()))
		})
		if row := w.row(sidA); !strings.HasSuffix(row, `"views":42,"mine":1}`) {
			t.Errorf("the row is %s", row)
		}
	})
}
