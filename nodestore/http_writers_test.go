package nodestore_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

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
				t.must("Renew", t.s.Renew(t.ctx()))
				t.is("Save", t.s.Save(t.ctx()), session.ErrNotFound)
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
	w := koa(t, "fake", nodestore.KoaOptions{Keys: session.Secrets("koa-key-2", koaKey)}) // an old signature would be renewed
	for what, change := range map[string]func(turn){
		"changed": sets("user", "ann"),
		"renewed": func(t turn) {
			t.must("Renew", t.s.Renew(t.ctx()))
			t.must("Save", t.s.Save(t.ctx()))
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

// Requests of one browser at the same time take turns. So each has one conflict at
// most, with what was written before it came to wait; else n would have n²/2.
func TestRequestsOfOneSessionTakeTurns(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, plainRow)
		requests := 16
		if backend == "fake" {
			requests = 128
		}
		var all, read sync.WaitGroup
		read.Add(requests)
		w.store.before("save", func() {
			for range 10 * requests {
				runtime.Gosched() // so that others have time to save
			}
		})
		for i := range requests {
			all.Go(func() {
				res := w.ask(cookieA, func(t turn) {
					reads(t)
					read.Done()
					read.Wait()
					t.must("Update", nodestore.Update(t.s, "n", func(n int) int { return n + 1 }))
					t.must("Set", t.s.Set(fmt.Sprint("of", i), true))
				})
				if res.StatusCode != http.StatusOK {
					t.Errorf("the answer is %d", res.StatusCode)
				}
			})
		}
		all.Wait()
		calls := strings.Fields(w.store.taken())
		if w.store.mostSaving != 1 {
			t.Errorf("%d saves at the same time", w.store.mostSaving)
		}
		if most := requests * len([]string{"get", "save", "get", "save"}); len(calls) > most {
			t.Errorf("%d requests made %d calls, more than %d", requests, len(calls), most)
		}
		if row := w.row(sidA); !strings.Contains(row, fmt.Sprintf(`"n":%d`, requests)) || strings.Count(row, `"of`) != requests {
			t.Errorf("the row is %s", row)
		}
	})
}

// What Node writes meanwhile is noticed all the same.
func TestTurnsLoseNothingThatNodeWrites(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, plainRow)
		const requests = 8
		var all, read sync.WaitGroup
		read.Add(requests)
		var once sync.Once
		w.store.before("save", func() {
			once.Do(func() { w.node(sidA, strings.Replace(plainRow, "{", `{"node":true,`, 1)) })
		})
		for range requests {
			all.Go(func() {
				w.ask(cookieA, func(t turn) {
					reads(t)
					read.Done()
					read.Wait()
					t.must("Update", nodestore.Update(t.s, "n", func(n int) int { return n + 1 }))
				})
			})
		}
		all.Wait()
		if row := w.row(sidA); !strings.Contains(row, `"n":8`) || !strings.Contains(row, `"node":true`) {
			t.Errorf("the row is %s", row)
		}
	})
}

// A function of Update that panics when it is called again, for what another request
// has written, holds up no later request.
func TestAPanicInAChangeKeepsNoTurn(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, plainRow)
	var second sync.WaitGroup
	w.store.before("save", func() {
		waits := make(chan struct{})
		second.Go(func() {
			defer func() {
				if recover() == nil {
					t.Error("it did not panic")
				}
			}()
			w.ask(cookieA, func(t turn) {
				calls := 0
				t.must("Update", nodestore.Update(t.s, "n", func(n int) int {
					if calls++; calls > 1 {
						panic("again")
					}
					return n + 1
				}))
				close(waits)
			})
		})
		<-waits
		for range 1000 {
			runtime.Gosched() // so that it waits for its turn
		}
	})
	w.ask(cookieA, sets("first", true))
	second.Wait()
	w.store.before("save", func() { // and one whose value is of another type by then
		waits := make(chan struct{})
		second.Go(func() {
			w.ask(cookieA, func(t turn) {
				t.must("Update", nodestore.Update(t.s, "fourth", func(n int) int { return n + 1 }))
				close(waits)
			})
		})
		<-waits
		for range 1000 {
			runtime.Gosched()
		}
	})
	w.ask(cookieA, sets("fourth", "text"))
	second.Wait()
	if res := w.ask(cookieA, sets("third", true)); res.StatusCode != http.StatusOK {
		t.Errorf("the answer is %d", res.StatusCode)
	}
	if row := w.row(sidA); !strings.Contains(row, `"first":true`) || !strings.Contains(row, `"third":true`) {
		t.Errorf("the row is %s", row)
	}
}
