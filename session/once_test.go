package session_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

func TestOneOfManyRequestsTakesAValue(t *testing.T) {
	t.Parallel()
	ways := map[string]func(context.Context, *session.Session) (string, bool, error){
		"Take": func(ctx context.Context, s *session.Session) (string, bool, error) {
			return session.Take[string](ctx, s, "state")
		},
		"Pop": func(_ context.Context, s *session.Session) (string, bool, error) {
			state, err := session.Pop[string](s, "state")
			return state, state != "", err
		},
	}
	for name, take := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newSite(t, session.Options{})
			nodes := []*site{p, newSiteOn(t, p.clock, p.store, session.Options{})}
			b, key := started(t, p)
			for range 20 {
				b.visit(setting(t, "state", "secret"))
				const requests = 10
				var loaded, done sync.WaitGroup
				var found atomic.Int64
				loaded.Add(requests)
				for i := range requests {
					done.Go(func() {
						other := browser{nodes[i%2], b.cookie}
						other.visit(func(ctx context.Context, s *session.Session) {
							if !s.Has("state") {
								t.Error("there is nothing to take")
							}
							loaded.Done()
							loaded.Wait() // all have read it
							state, ok, err := take(ctx, s)
							if err != nil || ok != (state == "secret") {
								t.Errorf("%q, %t, %v", state, ok, err)
							}
							if ok {
								found.Add(1)
							}
							setting(t, fmt.Sprint("other", i), i)(ctx, s)
						})
					})
				}
				done.Wait()
				if n := found.Load(); n != 1 {
					t.Fatalf("%d requests got it; want one", n)
				}
				if text := body(t, p, key); strings.Contains(text, "state") || strings.Count(text, "other") != requests {
					t.Fatalf("the values are %s", text)
				}
			}
		})
	}
}

func TestAValueIsTakenBeforeItIsGiven(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	cookie := f.begin("alice")
	f.ask(cookie, func(t turn) {
		f.must("Set", t.s.Set("mine", 1))
		if got, found, err := session.Take[bool](t.r.Context(), t.s, "before"); !got || !found || err != nil {
			f.Errorf("Take = %v, %v, %v", got, found, err)
		}
		f.has(cookie, "alice", "mine")
		if got, found, err := session.Take[bool](t.r.Context(), t.s, "before"); got || found || err != nil {
			f.Errorf("Take again = %v, %v, %v", got, found, err)
		}
	})
	f.has(cookie, "alice", "mine")
}

func TestATakeThatFailsTakesNothing(t *testing.T) {
	t.Parallel()
	for _, b := range breakdowns {
		f := newFrail(t, session.Options{})
		cookie := f.begin("alice")
		f.ask(cookie, func(t turn) {
			f.must("Set", t.s.Set("mine", 1))
			if _, found, err := session.Take[int](t.r.Context(), t.s, "before"); found || err == nil {
				f.Errorf("Take of another type = %v, %v", found, err)
			}
			f.fail(b, spystore.Save)
			got, found, err := session.Take[bool](t.r.Context(), t.s, "before")
			if got || found || !errors.Is(err, errLost) {
				f.Errorf("%s: Take = %v, %v, %v", b.name, got, found, err)
			}
			f.store.Between(nil)
			if !t.s.Has("before") || !t.s.Has("mine") {
				f.Errorf("%s: after that there are %q", b.name, t.s.Keys())
			}
			f.must("Set", t.s.Set("then", 2))
		})
		if b.done {
			f.has(cookie, "alice", "mine", "then")
		} else {
			f.has(cookie, "alice", "before", "mine", "then")
		}
	}
}

func TestTakeOfWhatIsNotStoredAsksNobody(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.browser()
	b.visit(func(ctx context.Context, s *session.Session) {
		setting(t, "k", 1)(ctx, s)
		if got, found, err := session.Take[int](ctx, s, "k"); got != 1 || !found || err != nil {
			t.Errorf("Take = %v, %v, %v", got, found, err)
		}
		if _, found, err := session.Take[int](ctx, s, "k"); found || err != nil {
			t.Errorf("Take again = %v, %v", found, err)
		}
	})
	p.want()
}

func TestSettingWhatIsThereIsNoSave(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	plant(t, p, key, `{"k":7,"x":"y"}`)
	for name, do := range map[string]func(s *session.Session) error{
		"Set":             func(s *session.Session) error { return s.Set("k", 7) },
		"Set there, back": func(s *session.Session) error { return errors.Join(s.Set("k", 8), s.Set("k", 7)) },
		"Update":          func(s *session.Session) error { return session.Update(s, "k", func(n int) int { return n }) },
		"Delete, Set":     func(s *session.Session) error { return errors.Join(s.Delete("k"), s.Set("k", 7)) },
		"Clear, Set":      func(s *session.Session) error { return errors.Join(s.Clear(), s.Set("k", 7), s.Set("x", "y")) },
		"Delete of none":  func(s *session.Session) error { return s.Delete("none") },
		"Flash, Flashes": func(s *session.Session) error {
			err := s.Flash(1)
			_, other := session.Flashes[int](s)
			return errors.Join(err, other)
		},
		"Save": func(s *session.Session) error { return errors.Join(s.Set("k", 7), s.Save(context.Background())) },
	} {
		b.visit(func(_ context.Context, s *session.Session) {
			if err := do(s); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		if calls := strings.Join(p.store.taken(), " "); calls != "Get" {
			t.Errorf("%s: the store was called for %s; want Get only", name, calls)
		}
		if got := body(t, p, key); got != `{"k":7,"x":"y"}` {
			t.Errorf("%s: the values are %s", name, got)
		}
	}
	// What is there already counts all the same when there is something to save.
	p.store.before("Save", func() { plant(t, p, key, `{"k":9,"x":"y"}`) })
	b.visit(func(ctx context.Context, s *session.Session) {
		setting(t, "k", 7)(ctx, s)
		setting(t, "new", 1)(ctx, s)
	})
	if got := body(t, p, key); got != `{"k":7,"new":1,"x":"y"}` {
		t.Errorf("after a conflict the values are %s", got)
	}
}

func TestAFunctionOfUpdateThatUsesTheSessionIsAnError(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	for name, use := range map[string]func(context.Context, *session.Session) error{
		"Set":     func(_ context.Context, s *session.Session) error { return s.Set("x", 1) },
		"Get":     func(_ context.Context, s *session.Session) error { _, err := session.Get[int](s, "k"); return err },
		"Pop":     func(_ context.Context, s *session.Session) error { _, err := session.Pop[int](s, "k"); return err },
		"Delete":  func(_ context.Context, s *session.Session) error { return s.Delete("k") },
		"Clear":   func(_ context.Context, s *session.Session) error { return s.Clear() },
		"Flash":   func(_ context.Context, s *session.Session) error { return s.Flash(1) },
		"Flashes": func(_ context.Context, s *session.Session) error { _, err := session.Flashes[int](s); return err },
		"Update": func(_ context.Context, s *session.Session) error {
			return session.Update(s, "x", func(n int) int { return n })
		},
		"Save":        func(ctx context.Context, s *session.Session) error { return s.Save(ctx) },
		"Reload":      func(ctx context.Context, s *session.Session) error { return s.Reload(ctx) },
		"Renew":       func(ctx context.Context, s *session.Session) error { return s.Renew(ctx, 0) },
		"Login":       func(ctx context.Context, s *session.Session) error { return s.Login(ctx, "ann", session.Login{}) },
		"Logout":      func(ctx context.Context, s *session.Session) error { return s.Logout(ctx) },
		"FromContext": func(ctx context.Context, s *session.Session) error { _, err := session.FromContext(ctx); return err },
	} {
		b.visit(func(ctx context.Context, s *session.Session) {
			var inner error
			err := session.Update(s, "k", func(n int) int { inner = use(ctx, s); return n + 1 })
			if !errors.Is(err, session.ErrInvalid) || !errors.Is(inner, session.ErrInvalid) {
				t.Errorf("%s within Update: %v; Update: %v; want ErrInvalid", name, inner, err)
			}
		})
	}
	b.visit(func(_ context.Context, s *session.Session) {
		for name, use := range map[string]func(){
			"Has": func() { _ = s.Has("k") }, "Keys": func() { _ = s.Keys() }, "User": func() { _ = s.User() }, "Key": func() { _ = s.Key() },
			"Info": func() { _ = s.Info() }, "Degraded": func() { _ = s.Degraded() }, "AuthenticatedAt": func() { _ = s.AuthenticatedAt() },
			"FailOnConflict": func() { s.FailOnConflict() },
		} {
			if err := session.Update(s, "k", func(n int) int { use(); return n + 1 }); !errors.Is(err, session.ErrInvalid) {
				t.Errorf("Update with %s within: %v; want ErrInvalid", name, err)
			}
		}
		if err := session.Update(s, "k", func(n int) int { return n + 1 }); err != nil {
			t.Errorf("Update: %v", err)
		}
	})
	if got := body(t, p, key); got != `{"k":1}` {
		t.Errorf("the values are %s", got)
	}
	// Also when it does so only as it is called again, for what another has saved.
	p.store.before("Save", func() { plant(t, p, key, `{"k":5}`) })
	res := p.serve(get(b.cookie), func(ctx context.Context, s *session.Session) {
		calls := 0
		if err := session.Update(s, "k", func(n int) int {
			if calls++; calls > 1 {
				_ = s.Set("x", 1)
			}
			return n + 1
		}); err != nil {
			t.Error(err)
		}
	})
	if res.StatusCode != 500 || body(t, p, key) != `{"k":5}` {
		t.Errorf("status %d, the values are %s", res.StatusCode, body(t, p, key))
	}
}

// prying is a value whose decoding uses the session.
type prying struct{}

var pried atomic.Pointer[session.Session]

func (v *prying) UnmarshalJSON([]byte) error { return pried.Load().Set("pried", 1) }

func TestAValueWhoseDecodingUsesTheSessionDoesNotHang(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, _ := started(t, p)
	b.visit(func(ctx context.Context, s *session.Session) {
		pried.Store(s)
		if err := s.Flash(1); err != nil {
			t.Error(err)
		}
		if _, err := session.Get[prying](s, "k"); err != nil {
			t.Errorf("Get, which locks nothing then: %v", err)
		}
		if _, _, err := session.Take[prying](ctx, s, "k"); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("Take: %v", err)
		}
		if err := session.Update(s, "k", func(v prying) prying { return v }); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("Update: %v", err)
		}
		if _, err := session.Flashes[prying](s); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("Flashes: %v", err)
		}
		if !s.Has("k") {
			t.Error("the value is gone")
		}
	})
}
