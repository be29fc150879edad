package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func promote(s *session.Session) error { return s.Set("role", "admin") }

// keysOf are the keys of the browsers' sessions.
func keysOf(all ...*browser) (keys []session.Key) {
	for _, b := range all {
		keys = append(keys, keyOf(b))
	}
	return keys
}

func TestAllSessionsOfAUserAreChanged(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	all := devices(t, p, "phone", "tablet")
	bob := p.browser()
	bob.visit(loggingIn(t, "bob", session.Login{}))
	all[0].visit(setting(t, "role", "user"))
	done, err := p.manager.ChangeUser(t.Context(), "ann", promote)
	if err != nil || !slices.Equal(done.Changed, keysOf(all...)) || done.Ended != nil || done.Failed != nil {
		t.Errorf("ChangeUser = %+v, %v", done, err)
	}
	for _, b := range all {
		if got := body(t, p, keyOf(b)); got != `{"role":"admin"}` {
			t.Errorf("the values are %s", got)
		}
	}
	if got := body(t, p, keyOf(bob)); got != `{}` {
		t.Errorf("the values of another user are %s", got)
	}
}

func TestAChangeByOthersPostponesNoIdleTimeout(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := devices(t, p, "phone")[0] // a minute ago
	before, err := p.store.Store.Get(t.Context(), keyOf(b))
	if err != nil {
		t.Fatal(err)
	}
	p.clock.advance(20 * minute)
	if _, err := p.manager.ChangeUser(t.Context(), "ann", promote); err != nil {
		t.Fatal(err)
	}
	if _, err := p.manager.ChangeUser(t.Context(), "ann", promote); err != nil { // which has nothing to save
		t.Fatal(err)
	}
	after, err := p.store.Store.Get(t.Context(), keyOf(b))
	if err != nil || after.Version == before.Version || !after.Expires.Equal(before.Expires) {
		t.Errorf("it is %v, %v; before it was %v", after, err, before)
	}
}

// A request of each node has loaded the session before, and saves after.
func TestRequestsUnderWayDoNotUndoAChange(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	away := newSiteOn(t, p.clock, p.store, session.Options{})
	b := devices(t, p, "phone")[0]
	b.visit(setting(t, "role", "user"))
	for _, site := range []*site{p, away} {
		site.serve(get(b.cookie), func(_ context.Context, s *session.Session) {
			setting(t, "seen", 1)(nil, s)
			if _, err := p.manager.ChangeUser(t.Context(), "ann", promote); err != nil {
				t.Error(err)
			}
			role, err := session.Get[string](s, "role")
			check(t, "the role in a request that began before", role, err, map[bool]string{true: "user", false: "admin"}[site == p])
		})
		if got := body(t, p, keyOf(b)); got != `{"role":"admin","seen":1}` {
			t.Errorf("the values are %s", got)
		}
	}
}

func TestOthersThatSaveMeanwhileLoseNothing(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	all := devices(t, p, "phone", "tablet")
	count := func(s *session.Session) error {
		return session.Update(s, "n", func(n int) int { return n + 1 })
	}
	p.store.before("Save", func() { plant(t, p, keyOf(all[0]), `{"n":41,"other":1}`) })
	done, err := p.manager.ChangeUser(t.Context(), "ann", count)
	if err != nil || len(done.Changed) != 2 {
		t.Errorf("ChangeUser = %+v, %v", done, err)
	}
	if got := body(t, p, keyOf(all[0])); got != `{"n":42,"other":1}` {
		t.Errorf("the values are %s", got)
	}
	if got := body(t, p, keyOf(all[1])); got != `{"n":1}` {
		t.Errorf("the values of another session are %s", got)
	}
}

func TestAChangeFollowsASessionToItsNewKey(t *testing.T) {
	t.Parallel()
	for _, grace := range []time.Duration{0, minute} {
		t.Run(grace.String(), func(t *testing.T) {
			p := newSite(t, session.Options{})
			b := devices(t, p, "phone")[0]
			old := keyOf(b)
			b.site = newSiteOn(t, p.clock, p.store, session.Options{})
			p.store.before("Save", func() {
				b.visit(func(ctx context.Context, s *session.Session) {
					setting(t, "k", 1)(ctx, s)
					if err := s.Renew(ctx, grace); err != nil {
						t.Error(err)
					}
				})
			})
			done, err := p.manager.ChangeUser(t.Context(), "ann", promote)
			if err != nil || !slices.Equal(done.Changed, keysOf(b)) || len(done.Failed) > 0 {
				t.Errorf("ChangeUser = %+v, %v; want %v changed", done, err, keyOf(b))
			}
			if want := grace == 0; slices.Contains(done.Ended, old) != want {
				t.Errorf("the ended are %v; want the old key: %t", done.Ended, want)
			}
			if got := body(t, p, keyOf(b)); got != `{"k":1,"role":"admin"}` {
				t.Errorf("the values are %s", got)
			}
		})
	}
}

func TestSessionsThatEndMeanwhileAreSkippedAndTold(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	all := devices(t, p, "phone", "tablet", "desktop")
	p.store.before("Save", func() {
		if _, err := p.store.Store.Destroy(t.Context(), keyOf(all[0])); err != nil {
			t.Error(err)
		}
	})
	done, err := p.manager.ChangeUser(t.Context(), "ann", func(s *session.Session) error {
		if s.Info().Label == "tablet" {
			return s.Destroy(t.Context())
		}
		return promote(s)
	})
	if err != nil || !slices.Equal(done.Ended, keysOf(all[:2]...)) || !slices.Equal(done.Changed, keysOf(all[2])) {
		t.Errorf("ChangeUser = %+v, %v", done, err)
	}
}

func TestAChangeTellsWhatItHasDone(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	all := devices(t, p, "phone", "tablet", "desktop")
	keys := keysOf(all...)
	// One cannot be decoded: the others are changed all the same.
	plant(t, p, keys[1], `secret`)
	done, err := p.manager.ChangeUser(t.Context(), "ann", promote)
	if !errors.Is(err, session.ErrUndecodable) || !slices.Equal(done.Changed, []session.Key{keys[0], keys[2]}) {
		t.Errorf("ChangeUser = %+v, %v", done, err)
	}
	if len(done.Failed) != 1 || done.Failed[0].Key != keys[1] || !errors.Is(done.Failed[0].Err, session.ErrUndecodable) {
		t.Errorf("the failed are %+v", done.Failed)
	}
	if text := fmt.Sprint(done, err); strings.Contains(text, "secret") {
		t.Errorf("the values are shown: %s", text)
	}
	plant(t, p, keys[1], `{}`)
	// The application's own error, and the store's, end it.
	oops := errors.New("oops")
	done, err = p.manager.ChangeUser(t.Context(), "ann", func(s *session.Session) error {
		if s.Info().Label == "tablet" {
			return oops
		}
		return s.Set("role", "guest")
	})
	if !errors.Is(err, oops) || !slices.Equal(done.Changed, keys[:1]) {
		t.Errorf("ChangeUser = %+v, %v", done, err)
	}
	saves := 0
	p.store.saving = func(context.Context, session.Record) error {
		if saves++; saves == 2 {
			return fmt.Errorf("%w: %w", session.ErrUnknown, oops)
		}
		return nil
	}
	done, err = p.manager.ChangeUser(t.Context(), "ann", promote)
	if !errors.Is(err, session.ErrUnknown) || !slices.Equal(done.Changed, keys[:1]) || len(done.Failed) > 0 {
		t.Errorf("ChangeUser = %+v, %v", done, err)
	}
	p.store.saving = nil
	ctx, cancel := context.WithCancel(t.Context())
	done, err = p.manager.ChangeUser(ctx, "ann", func(s *session.Session) error {
		cancel()
		return s.Set("role", "user")
	})
	if !errors.Is(err, context.Canceled) || len(done.Changed) > 0 {
		t.Errorf("ChangeUser = %+v, %v", done, err)
	}
}

func TestAChangeNeedsAUser(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	if done, err := p.manager.ChangeUser(t.Context(), "", promote); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("ChangeUser = %+v, %v", done, err)
	}
	if done, err := p.manager.ChangeUser(t.Context(), "nobody", promote); err != nil || done.Changed != nil {
		t.Errorf("ChangeUser = %+v, %v", done, err)
	}
}
