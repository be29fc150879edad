package adapters

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/sojourn-go/sojourn/adapters/scsstore"
	"github.com/sojourn-go/sojourn/internal/testrig/memory"
)

// These are the cases of scs's own session_test.go. Time passes by the store's clock.
func TestSCSBehavesAsBefore(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	pass := func(d time.Duration) { ahead.Add(int64(d)) }
	behind := memory.Open(t, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	app := func(change func(*scs.SessionManager)) scsApp {
		store, err := scsstore.New(behind, scsstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return newSCS(t, store, change)
	}

	a := app(nil)
	alice := a.login("alice")
	got := a.get("/who", alice)
	if got.body != "alice" || got.cookie != nil {
		t.Errorf("reading: %q, cookie %v", got.body, got.cookie)
	}
	if again := a.get("/put?key=k", alice).cookie; again == nil || again.Value != alice.Value {
		t.Errorf("writing has changed the cookie from %v to %v", alice, again)
	}
	renewed := a.get("/renew", alice).cookie
	if renewed.Value == alice.Value {
		t.Error("the token has not changed")
	}
	a.says("/who", renewed, "alice")
	a.says("/who", alice, "")
	gone := a.get("/logout", renewed).cookie
	if gone.Value != "" || gone.MaxAge >= 0 {
		t.Errorf("the cookie of a logout: %v", gone)
	}
	a.says("/who", renewed, "")

	a = app(func(m *scs.SessionManager) { m.Lifetime = time.Hour })
	alice = a.login("alice")
	pass(50 * time.Minute)
	a.says("/who", alice, "alice")
	pass(11 * time.Minute)
	a.says("/who", alice, "")

	a = app(func(m *scs.SessionManager) { m.Lifetime, m.IdleTimeout = time.Hour, 20*time.Minute })
	alice = a.login("alice")
	for range 3 {
		pass(15 * time.Minute)
		a.says("/who", alice, "alice")
	}
	pass(21 * time.Minute)
	a.says("/who", alice, "")

	a = app(func(m *scs.SessionManager) { m.Cookie.Persist = false })
	if line := a.get("/login?user=alice", nil).header.Get("Set-Cookie"); strings.Contains(line, "Max-Age") {
		t.Errorf("the cookie is kept: %s", line)
	}
}

func TestSCSIterates(t *testing.T) {
	t.Parallel()
	store, err := scsstore.New(inMemory(t), scsstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := newSCS(t, store, nil)
	cookies := map[string]*http.Cookie{}
	for _, user := range []string{"alice", "bob", "carol"} {
		cookies[user] = a.login(user)
	}
	var met []string
	if err := a.manager.Iterate(t.Context(), func(ctx context.Context) error {
		met = append(met, a.manager.GetString(ctx, "user"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(met)
	if !slices.Equal(met, []string{"alice", "bob", "carol"}) {
		t.Errorf("Iterate has met %v", met)
	}
	mine := errors.New("mine")
	if err := a.manager.Iterate(t.Context(), func(context.Context) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("Iterate returns %v", err)
	}
	// A session that is merged into another one ends.
	ctx, err := a.manager.Load(t.Context(), cookies["bob"].Value)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.manager.MergeSession(ctx, cookies["alice"].Value); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.manager.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	a.says("/who", cookies["alice"], "")
	a.says("/who", cookies["bob"], "alice")
}
