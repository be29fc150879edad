package session_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

func TestChangesOfARequestAddUpInTheirOrder(t *testing.T) {
	t.Parallel()
	inc := func(n int) int { return n + 1 }
	for name, test := range map[string]struct {
		do   func(s *session.Session) error
		want string
	}{
		"Update": {func(s *session.Session) error { return session.Update(s, "k", inc) }, `{"k":8,"x":1}`},
		"Update twice": {func(s *session.Session) error {
			return errors.Join(session.Update(s, "k", inc), session.Update(s, "k", inc))
		}, `{"k":9,"x":1}`},
		"Update of nothing": {func(s *session.Session) error { return session.Update(s, "new", inc) }, `{"k":7,"new":1,"x":1}`},
		"Set, Update":       {func(s *session.Session) error { return errors.Join(s.Set("k", 5), session.Update(s, "k", inc)) }, `{"k":6,"x":1}`},
		"Update, Set":       {func(s *session.Session) error { return errors.Join(session.Update(s, "k", inc), s.Set("k", 5)) }, `{"k":5,"x":1}`},
		"Delete, Update":    {func(s *session.Session) error { return errors.Join(s.Delete("k"), session.Update(s, "k", inc)) }, `{"k":1,"x":1}`},
		"Update, Delete":    {func(s *session.Session) error { return errors.Join(session.Update(s, "k", inc), s.Delete("k")) }, `{"x":1}`},
		"Clear, Update":     {func(s *session.Session) error { return errors.Join(s.Clear(), session.Update(s, "k", inc)) }, `{"k":1}`},
		"Update, Clear":     {func(s *session.Session) error { return errors.Join(session.Update(s, "k", inc), s.Clear()) }, `{}`},
		"Clear, Set, Update": {func(s *session.Session) error {
			return errors.Join(s.Clear(), s.Set("k", 5), session.Update(s, "k", inc))
		}, `{"k":6}`},
		"Clear, Delete, Update": {func(s *session.Session) error {
			return errors.Join(s.Clear(), s.Delete("k"), session.Update(s, "k", inc))
		}, `{"k":1}`},
		"Set, Delete": {func(s *session.Session) error { return errors.Join(s.Set("new", 5), s.Delete("new")) }, `{"k":7,"x":1}`},
		"Delete, Set": {func(s *session.Session) error { return errors.Join(s.Delete("k"), s.Set("k", 5)) }, `{"k":5,"x":1}`},
		"Pop":         {func(s *session.Session) error { _, err := session.Pop[int](s, "k"); return err }, `{"x":1}`},
		"Pop, Update": {func(s *session.Session) error {
			_, err := session.Pop[int](s, "k")
			return errors.Join(err, session.Update(s, "k", inc))
		}, `{"k":1,"x":1}`},
		"Flash, Clear":             {func(s *session.Session) error { return errors.Join(s.Flash(1), s.Clear()) }, `{}`},
		"Delete of what is not":    {func(s *session.Session) error { return s.Delete("none") }, `{"k":7,"x":1}`},
		"Pop of what is not there": {func(s *session.Session) error { _, err := session.Pop[int](s, "none"); return err }, `{"k":7,"x":1}`},
	} {
		// With a rival, the changes are made again to what that has saved.
		for _, rival := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rival %v", name, rival), func(t *testing.T) {
				t.Parallel()
				p := newSite(t, session.Options{})
				b, key := started(t, p)
				plant(t, p, key, `{"k":7,"x":1}`)
				if rival {
					plant(t, p, key, `{"k":3}`)
					p.store.before("Save", func() { plant(t, p, key, `{"k":7,"x":1}`) })
				}
				b.visit(func(_ context.Context, s *session.Session) {
					if err := test.do(s); err != nil {
						t.Error(err)
					}
				})
				got := body(t, p, key)
				if rival && got == `{"k":3}` { // there was nothing to save
					got = `{"k":7,"x":1}`
				}
				if got != test.want {
					t.Errorf("the values are %s; want %s", got, test.want)
				}
			})
		}
	}
}

func TestRequestsThatLeaveNothingMakeNoRow(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(s *session.Session) error{
		"nothing":     func(*session.Session) error { return nil },
		"Get":         func(s *session.Session) error { _, err := session.Get[int](s, "k"); return err },
		"Delete":      func(s *session.Session) error { return s.Delete("k") },
		"Set, Delete": func(s *session.Session) error { return errors.Join(s.Set("k", 1), s.Delete("k")) },
		"Set, Clear":  func(s *session.Session) error { return errors.Join(s.Set("k", 1), s.Clear()) },
		"Clear":       func(s *session.Session) error { return s.Clear() },
		"Pop":         func(s *session.Session) error { _, err := session.Pop[int](s, "k"); return err },
		"Set, Pop": func(s *session.Session) error {
			_, err := session.Pop[int](s, "k")
			return errors.Join(s.Set("j", 1), s.Delete("j"), err)
		},
		"Flashes": func(s *session.Session) error { _, err := session.Flashes[int](s); return err },
		"Flash, Flashes": func(s *session.Session) error {
			err := s.Flash(1)
			_, other := session.Flashes[int](s)
			return errors.Join(err, other)
		},
		"Renew":   func(s *session.Session) error { return s.Renew(context.Background(), 0) },
		"Destroy": func(s *session.Session) error { return s.Destroy(context.Background()) },
		"Save":    func(s *session.Session) error { return s.Save(context.Background()) },
	} {
		p := newSite(t, session.Options{})
		res := p.serve(get(""), func(_ context.Context, s *session.Session) {
			if err := do(s); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		if calls := p.store.taken(); len(calls) > 0 || len(res.Cookies()) > 0 {
			t.Errorf("%s: the store was called for %v; %d cookies", name, calls, len(res.Cookies()))
		}
	}
	p := newSite(t, session.Options{SaveUninitialized: true})
	if res := p.serve(get(""), nil); len(res.Cookies()) != 1 {
		t.Error("SaveUninitialized saves nothing")
	}
	p.want("Create")
}

func TestADegradedSessionRefusesEachChange(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{AnonymousOnOutage: true})
	b, _ := started(t, p)
	p.store.fail("Get", errors.New("no database"))
	b.visit(func(ctx context.Context, s *session.Session) {
		for what, err := range map[string]error{
			"Set": s.Set("k", 1), "Delete": s.Delete("k"), "Clear": s.Clear(), "Flash": s.Flash(1), "Login": s.Login(ctx, "ann", session.Login{}),
			"Update": session.Update(s, "k", func(n int) int { return n }), "Renew": s.Renew(ctx, 0), "Destroy": s.Destroy(ctx), "Save": s.Save(ctx),
		} {
			if !errors.Is(err, session.ErrDegraded) {
				t.Errorf("%s: %v; want ErrDegraded", what, err)
			}
		}
	})
	p.want("Get")
}

func TestOneSessionIsUsedByManyGoroutines(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	const goroutines, rounds = 8, 50
	b.visit(func(ctx context.Context, s *session.Session) {
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for i := range rounds {
					errs := []error{
						session.Update(s, "sum", func(n int) int { return n + 1 }),
						s.Set(fmt.Sprint("own", g), i), s.Delete("k"), s.Flash(i),
					}
					_, err := session.Get[int](s, "sum")
					_ = s.Keys()
					_, _, _ = s.Has("k"), s.Info(), s.Key()
					if i%10 == 0 {
						errs = append(errs, s.Save(ctx))
					}
					if i == 25 && g == 0 {
						errs = append(errs, s.Renew(ctx, 0))
					}
					if err := errors.Join(append(errs, err)...); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		key = s.Key()
	})
	b.visit(func(_ context.Context, s *session.Session) {
		sum, err := session.Get[int](s, "sum")
		check(t, "sum", sum, err, goroutines*rounds)
		flashes, err := session.Flashes[int](s)
		check(t, "flashes", len(flashes), err, goroutines*rounds)
		if got := len(s.Keys()); got != goroutines+1 || s.Key() != key {
			t.Errorf("there are %d keys; want %d", got, goroutines+1)
		}
	})
}
