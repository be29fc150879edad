package session_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

func TestAHandleIsForOneValueOfOneType(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	visits := session.NewValue[int]("k")
	state := session.NewValue[string]("state")
	if visits.Key() != "k" || visits.Err() != nil || state.Err() != nil {
		t.Errorf("%q, %v, %v", visits.Key(), visits.Err(), state.Err())
	}
	b.visit(func(ctx context.Context, s *session.Session) {
		for range 2 {
			if err := visits.Update(s, func(n int) int { return n + 1 }); err != nil {
				t.Error(err)
			}
		}
		n, err := visits.Get(s)
		check(t, "Get", n, err, 2)
		if err := errors.Join(visits.Set(s, 7), state.Set(s, "xyz")); err != nil {
			t.Error(err)
		}
	})
	if got := body(t, p, key); got != `{"k":7,"state":"xyz"}` {
		t.Errorf("the values are %s", got)
	}
	b.visit(func(ctx context.Context, s *session.Session) {
		got, found, err := state.Take(ctx, s)
		check(t, "Take", got, err, "xyz")
		_, again, err := state.Take(ctx, s)
		if !found || again || err != nil {
			t.Errorf("Take: %t, %t, %v", found, again, err)
		}
		if err := visits.Delete(s); err != nil {
			t.Error(err)
		}
	})
	if got := body(t, p, key); got != `{}` {
		t.Errorf("the values are %s", got)
	}
	plant(t, p, key, `{"k":"none of your business"}`)
	b.visit(func(_ context.Context, s *session.Session) {
		if n, err := visits.Get(s); err == nil || n != 0 || strings.Contains(err.Error(), "business") {
			t.Errorf("Get of another type = %v, %v", n, err)
		}
	})
}

func TestAHandleHasAValueForSessionsWithoutOne(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	langs := session.NewValue[[]string]("langs").Or([]string{"en"})
	b.visit(func(ctx context.Context, s *session.Session) {
		got, err := langs.Get(s)
		check(t, "Get", got, err, []string{"en"})
		got[0] = "xx" // which is nobody else's
		got, err = langs.Get(s)
		check(t, "Get again", got, err, []string{"en"})
		if got, found, err := langs.Take(ctx, s); got != nil || found || err != nil {
			t.Errorf("Take = %v, %t, %v", got, found, err)
		}
	})
	if got := body(t, p, key); got != `{"k":0}` {
		t.Errorf("the values are %s", got)
	}
	b.visit(func(_ context.Context, s *session.Session) {
		if err := langs.Update(s, func(all []string) []string { return append(all, "de") }); err != nil {
			t.Error(err)
		}
	})
	if got := body(t, p, key); got != `{"k":0,"langs":["en","de"]}` {
		t.Errorf("the values are %s", got)
	}
}

func TestAHandleThatCannotBeRightIsTold(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, key := started(t, p)
	b.visit(func(ctx context.Context, s *session.Session) {
		refuses(ctx, t, s, "the zero one", session.Value[int]{})
		refuses(ctx, t, s, "an empty key", session.NewValue[int](""))
		refuses(ctx, t, s, "a key that is taken", session.NewValue[int]("_flash"))
		refuses(ctx, t, s, "a key that is not UTF-8", session.NewValue[int]("\xff"))
		refuses(ctx, t, s, "a channel", session.NewValue[chan int]("c"))
		refuses(ctx, t, s, "a function", session.NewValue[func()]("f"))
		refuses(ctx, t, s, "a fallback", session.NewValue[string]("s").Or("\xff"))
		refuses(ctx, t, s, "a fallback for nothing", session.NewValue[string]("").Or("a"))
	})
	if got := body(t, p, key); got != `{"k":0}` {
		t.Errorf("the values are %s", got)
	}
}

func refuses[T any](ctx context.Context, t *testing.T, s *session.Session, what string, v session.Value[T]) {
	t.Helper()
	var zero T
	_, got := v.Get(s)
	_, _, taken := v.Take(ctx, s)
	errs := []error{v.Err(), got, taken, v.Set(s, zero), v.Delete(s), v.Update(s, func(v T) T { return v })}
	if i := slices.IndexFunc(errs, func(err error) bool { return !errors.Is(err, session.ErrInvalid) }); i >= 0 {
		t.Errorf("%s: call %d is %v", what, i, errs[i])
	}
}
