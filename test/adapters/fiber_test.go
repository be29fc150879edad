package adapters

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	fiberv2 "github.com/gofiber/fiber/v2"
	sessionv2 "github.com/gofiber/fiber/v2/middleware/session"
	"github.com/gofiber/fiber/v3"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"

	"github.com/sojourn-go/sojourn/adapters/fiberstore"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/session"
)

// fiberApp is a node of a service with Fiber.
type fiberApp struct {
	site
	slow *gate
}

// listen serves an app of either version until the test ends.
func listen(t testing.TB, run func(net.Listener) error, shutdown func(context.Context) error) site {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- run(ln) }()
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
		defer cancel()
		if err := shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return siteAt(t, "http://"+ln.Addr().String(), client)
}

func listenV3(t testing.TB, app *fiber.App) site {
	return listen(t, func(ln net.Listener) error {
		return app.Listener(ln, fiber.ListenConfig{DisableStartupMessage: true})
	}, app.ShutdownWithContext)
}

// newFiber has sessions by the middleware of version 3.
func newFiber(t testing.TB, cfg fibersession.Config) fiberApp {
	a := fiberApp{slow: newGate()}
	app := fiber.New()
	app.Use(fibersession.New(cfg))
	handle := func(path string, do func(c fiber.Ctx, s *fibersession.Middleware) error) {
		app.Get(path, func(c fiber.Ctx) error {
			s := fibersession.FromContext(c)
			who := fmt.Sprint(s.Get("user"))
			if err := do(c, s); err != nil {
				return err
			}
			return c.SendString(who)
		})
	}
	handle("/who", func(fiber.Ctx, *fibersession.Middleware) error { return nil })
	handle("/set", func(c fiber.Ctx, s *fibersession.Middleware) error { s.Set("user", c.Query("user")); return nil })
	handle("/slow", func(fiber.Ctx, *fibersession.Middleware) error { a.slow.wait(); return nil })
	handle("/renew", func(_ fiber.Ctx, s *fibersession.Middleware) error { return s.Regenerate() })
	handle("/logout", func(_ fiber.Ctx, s *fibersession.Middleware) error { return s.Destroy() })
	a.site = listenV3(t, app)
	return a
}

// newFiberV2 saves sessions itself, as version 2 asks for.
func newFiberV2(t testing.TB, cfg sessionv2.Config) fiberApp {
	a := fiberApp{slow: newGate()}
	app := fiberv2.New(fiberv2.Config{DisableStartupMessage: true})
	store := sessionv2.New(cfg)
	handle := func(path string, do func(c *fiberv2.Ctx, s *sessionv2.Session) error) {
		app.Get(path, func(c *fiberv2.Ctx) error {
			s, err := store.Get(c)
			if err != nil {
				return err
			}
			who := fmt.Sprint(s.Get("user"))
			if err := do(c, s); err != nil {
				return err
			}
			return c.SendString(who)
		})
	}
	handle("/who", func(*fiberv2.Ctx, *sessionv2.Session) error { return nil })
	handle("/set", func(c *fiberv2.Ctx, s *sessionv2.Session) error {
		s.Set("user", string(append([]byte(nil), c.Query("user")...)))
		return s.Save()
	})
	handle("/slow", func(_ *fiberv2.Ctx, s *sessionv2.Session) error { a.slow.wait(); return s.Save() })
	handle("/renew", func(_ *fiberv2.Ctx, s *sessionv2.Session) error {
		if err := s.Regenerate(); err != nil {
			return err
		}
		return s.Save()
	})
	handle("/logout", func(_ *fiberv2.Ctx, s *sessionv2.Session) error { return s.Destroy() })
	a.site = listen(t, app.Listener, app.ShutdownWithContext)
	return a
}

// Fiber saves a session at the end of every request. So one that is slower than a logout,
// or than a new ID, brings the session back.
func TestFiberLogoutIsFinal(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"/logout", "/renew"} {
		for _, own := range []fiberApp{newFiber(t, fibersession.Config{}), newFiberV2(t, sessionv2.Config{})} {
			alice := own.get("/set?user=alice", nil).cookie
			own.during("/slow", alice, own.slow, func() { own.get(end, alice) })
			own.says("/who", alice, "alice") // the defect, with Fiber's own storage
		}
	}
	onDatabases(t, func(t *testing.T, db database) {
		var storages [2]*fiberstore.Storage
		for i, s := range db.open(t) {
			var err error
			if storages[i], err = fiberstore.New(s, fiberstore.Options{}); err != nil {
				t.Fatal(err)
			}
		}
		for name, nodes := range map[string][2]fiberApp{
			"version 3": {
				newFiber(t, fibersession.Config{Storage: storages[0], KeyGenerator: storages[0].NewKey}),
				newFiber(t, fibersession.Config{Storage: storages[1], KeyGenerator: storages[1].NewKey}),
			},
			"version 2": {
				newFiberV2(t, sessionv2.Config{Storage: storages[0], KeyGenerator: storages[0].NewKey}),
				newFiberV2(t, sessionv2.Config{Storage: storages[1], KeyGenerator: storages[1].NewKey}),
			},
			"version 3 with Fiber's keys": {
				newFiber(t, fibersession.Config{Storage: storages[0]}), newFiber(t, fibersession.Config{Storage: storages[1]}),
			},
		} {
			a, b := nodes[0], nodes[1]
			for _, end := range []string{"/logout", "/renew"} {
				alice := a.get("/set?user=alice", nil).cookie
				b.says("/who", alice, "alice")
				var after *http.Cookie
				slow := a.during("/slow", alice, a.slow, func() { after = b.get(end, alice).cookie })
				if slow.status != http.StatusOK || slow.body != "alice" {
					t.Errorf("%s: the slow request: status %d, %q", name, slow.status, slow.body)
				}
				nobodyIn(t, alice, noUser, a.site, b.site)
				if end == "/renew" {
					a.says("/who", after, "alice")
				}
			}
		}
	})
}

// These are cases of the tests of Fiber's session middleware.
func TestFiberBehavesAsBefore(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	behind := memory.Open(t, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	storage, err := fiberstore.New(behind, fiberstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := newFiber(t, fibersession.Config{Storage: storage, KeyGenerator: storage.NewKey, IdleTimeout: time.Hour})
	alice, bob := a.get("/set?user=alice", nil).cookie, a.get("/set?user=bob", nil).cookie
	if len(alice.Value) != session.IDTextLen {
		t.Errorf("the key has %d bytes; want an ID", len(alice.Value))
	}
	for range 3 {
		ahead.Add(int64(50 * time.Minute))
		a.says("/who", alice, "alice")
	}
	a.says("/who", bob, noUser) // idle
	renewed := a.get("/renew", alice).cookie
	a.says("/who", renewed, "alice")
	a.says("/who", alice, noUser)
	gone := a.get("/logout", renewed).cookie
	if gone == nil || !gone.Expires.Before(time.Now()) {
		t.Errorf("the cookie of a logout: %v", gone)
	}
	a.says("/who", renewed, noUser)
	planted := &http.Cookie{Name: alice.Name, Value: storage.NewKey()}
	if got := a.get("/set?user=mallory", planted).cookie; got == nil || got.Value == planted.Value {
		t.Errorf("a session was made with the key that the browser sent: %v", got)
	}
	carol := a.get("/set?user=carol", nil).cookie
	if err := storage.Reset(); err != nil {
		t.Fatal(err)
	}
	a.says("/who", carol, noUser)
}
