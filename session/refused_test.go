package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

func TestAReloadThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	for _, cookie := range []bool{true, false} {
		for _, b := range breakdowns[:2] {
			f := newFrail(t, session.Options{})
			with, before := "", []string(nil)
			if cookie {
				with, before = f.begin("alice"), []string{"before"}
			}
			_, after := f.ask(with, func(t turn) {
				f.must("Set", t.s.Set("mine", 1))
				if cookie {
					f.must("Delete", t.s.Delete("before"))
					f.fail(b, spystore.Get, spystore.GetFresh)
					f.is("Reload", t.s.Reload(t.r.Context()), errLost)
					f.store.Between(nil)
				} else {
					f.must("Reload", t.s.Reload(t.r.Context()))
				}
				want := "[mine]"
				if !cookie {
					want = "[]" // there was nothing to read
				}
				if got := fmt.Sprint(t.s.Keys()); got != want {
					f.Errorf("there are %s; want %s", got, want)
				}
			})
			if cookie {
				before = []string{"mine"} // what is shown is saved
			}
			user := ""
			if cookie {
				user = "alice"
			}
			f.has(after, user, before...)
		}
	}
}

func TestAReloadOfAnUnknownSessionThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	unknown := "__Host-session=" + session.NewID(time.Now().Add(time.Hour)).Secret()
	resp, cookie := f.ask(unknown, func(t turn) {
		f.must("Set", t.s.Set("mine", 1))
		f.fail(breakdowns[0], spystore.Get, spystore.GetFresh)
		f.is("Reload", t.s.Reload(t.r.Context()), errLost)
		f.store.Between(nil)
		f.must("Set", t.s.Set("more", 1))
	})
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the answer is %d", resp.StatusCode)
	}
	f.has(cookie, "", "mine", "more")
}

func TestAfterAFailedSaveNoChangeIsDroppedSilently(t *testing.T) {
	t.Parallel()
	changes := map[string]func(turn) error{
		"Set":    func(t turn) error { return t.s.Set("then", 1) },
		"Delete": func(t turn) error { return t.s.Delete("before") },
		"Clear":  func(t turn) error { return t.s.Clear() },
		"Flash":  func(t turn) error { return t.s.Flash(1) },
		"Update": func(t turn) error { return session.Update(t.s, "then", func(n int) int { return n + 1 }) },
		"Take":   func(t turn) error { _, _, err := session.Take[bool](t.r.Context(), t.s, "before"); return err },
		"Pop":    func(t turn) error { _, err := session.Pop[bool](t.s, "before"); return err },
	}
	for name, change := range changes {
		f := newFrail(t, session.Options{})
		cookie := f.begin("alice")
		f.ask(cookie, func(t turn) {
			f.must("Set", t.s.Set("mine", 1))
			f.fail(breakdowns[0], spystore.Save)
			f.is("Save", t.s.Save(t.r.Context()), errLost)
			f.store.Between(nil)
			f.is(name+" after that", change(t), errLost)
			if !t.s.Has("before") || t.s.Has("then") {
				f.Errorf("%s has changed what is shown: %q", name, t.s.Keys())
			}
			f.must("Save again", t.s.Save(t.r.Context()))
			f.must(name, change(t))
		})
		if f.Failed() {
			f.Fatal(name)
		}
	}
	// A session that has ended takes no changes either.
	for name, change := range changes {
		f := newFrail(t, session.Options{})
		cookie := f.begin("alice")
		f.ask(cookie, func(t turn) {
			_, err := f.store.Destroy(t.r.Context(), t.s.Key())
			f.must("Destroy", err)
			f.must("Set", t.s.Set("mine", 1))
			f.is("Save", t.s.Save(t.r.Context()), session.ErrNotFound)
			f.is(name+" after that", change(t), session.ErrNotFound)
		})
	}
}

// Of what another request has saved a function may be unable to make anything.
func TestAMergeThatFailsLosesNoOtherChange(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	p.store.before("Save", func() { plant(t, p, key, `{"k":41}`) })
	b.visit(func(ctx context.Context, s *session.Session) {
		for i := range 10 {
			setting(t, fmt.Sprint("mine", i), i)(ctx, s)
		}
		calls := 0
		if err := session.Update(s, "k", func(n int) int {
			if calls++; calls == 2 {
				_ = s.Has("k") // which is an error
			}
			return n + 1
		}); err != nil {
			t.Error(err)
		}
		if err := s.Save(ctx); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("Save: %v", err)
		}
		if err := s.Save(ctx); err != nil {
			t.Errorf("Save again: %v", err)
		}
	})
	if got := body(t, p, key); !strings.HasPrefix(got, `{"k":42,`) || strings.Count(got, "mine") != 10 {
		t.Errorf("the values are %s", got)
	}
}

func TestACallersContextDecidesNothingForOthers(t *testing.T) {
	t.Parallel()
	for _, anonymous := range []bool{false, true} {
		f := newFrail(t, session.Options{AnonymousOnOutage: anonymous})
		cookie := f.begin("alice")
		f.store.Between(func(ctx context.Context, c spystore.Call, do func() error) error {
			if _, limited := ctx.Deadline(); limited && c == spystore.Get {
				<-ctx.Done()
				return ctx.Err()
			}
			return do()
		})
		r := get(cookie)
		r.Host = "localhost"
		answered := false
		w := serveBy(f.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Millisecond)
			defer cancel()
			_, err := session.FromContext(ctx)
			f.is("FromContext of a panel that gives up", err, context.DeadlineExceeded)
			s, err := session.FromContext(r.Context())
			f.must("FromContext", err)
			if s.User() != "alice" || s.Degraded() {
				f.Errorf("the user is %q, degraded %t", s.User(), s.Degraded())
			}
			f.must("Set", s.Set("mine", 1))
			answered = true
		})), r)
		if w.StatusCode != http.StatusOK || !answered {
			f.Errorf("the answer is %d", w.StatusCode)
		}
		f.has(cookie, "alice", "before", "mine")

		// What only the panel asked for is no reason to refuse the page.
		w = serveBy(f.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			if _, err := session.FromContext(ctx); !errors.Is(err, context.Canceled) {
				f.Errorf("FromContext of what is over: %v", err)
			}
			w.WriteHeader(http.StatusTeapot)
		})), r)
		if w.StatusCode != http.StatusTeapot {
			f.Errorf("the answer is %d; want the page's", w.StatusCode)
		}
	}
}
