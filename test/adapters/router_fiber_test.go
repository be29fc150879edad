package adapters

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/sojourn-go/sojourn/session"
)

// inFiber is the middleware that docs/adapters.md shows.
func inFiber(sessions *session.Manager, cookie string) fiber.Handler {
	return func(c fiber.Ctx) error {
		s, err := sessions.Open(c.Context(), c.Cookies(cookie))
		if errors.Is(err, session.ErrNotFound) {
			s, err = sessions.Open(c.Context(), "")
		}
		if err != nil {
			return err
		}
		c.SetContext(session.NewContext(c.Context(), s))
		if err := c.Next(); err != nil {
			return err
		}
		if err := s.End(c.Context()); err != nil {
			return err
		}
		if line := s.SetCookie().Text(); line != "" {
			c.Append(fiber.HeaderSetCookie, line)
			c.Set(fiber.HeaderCacheControl, "no-store")
		}
		return nil
	}
}

func TestTheManagerInFiber(t *testing.T) {
	t.Parallel()
	sessions, err := session.NewManager(inMemory(t), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := newGate()
	app := fiber.New()
	app.Use(recover.New())
	app.Use(inFiber(sessions, "__Host-session"))
	app.Get("/login", func(c fiber.Ctx) error { return logIn(c.Context(), string([]byte(c.Query("user")))) })
	app.Group("/group").Get("/who", func(c fiber.Ctx) error { return c.SendString(who(c.Context())) })
	app.Get("/logout", func(c fiber.Ctx) error {
		s, err := session.FromContext(c.Context())
		if err != nil {
			return err
		}
		return s.Logout(c.Context())
	})
	app.Get("/stream", func(c fiber.Ctx) error {
		user := who(c.Context()) // the writer runs when the use of the session has ended
		return c.SendStreamWriter(func(w *bufio.Writer) {
			fmt.Fprintln(w, user)
			if err := w.Flush(); err == nil {
				g.wait()
				fmt.Fprintln(w, "end")
			}
		})
	})
	app.Get("/panic", func(c fiber.Ctx) error {
		if err := logIn(c.Context(), "mallory"); err != nil {
			return err
		}
		panic(errPanic)
	})
	a := listenV3(t, app)
	alice := a.get("/login?user=alice", nil).cookie
	if alice == nil {
		t.Fatal("no cookie")
	}
	a.says("/group/who", alice, "alice")
	a.says("/group/who", nil, "")
	if got := a.get("/nowhere", alice); got.status != http.StatusNotFound || got.cookie != nil {
		t.Errorf("a page that is not there: status %d, cookie %v", got.status, got.cookie)
	}
	if got := a.get("/panic", alice); got.status != http.StatusInternalServerError || got.cookie != nil {
		t.Errorf("a panic: status %d, cookie %v", got.status, got.cookie)
	}
	a.says("/group/who", alice, "alice")
	a.streams("/stream", alice, g, "alice")
	if gone := a.get("/logout", alice).cookie; gone == nil || gone.MaxAge >= 0 {
		t.Errorf("the cookie of a logout: %v", gone)
	}
	a.says("/group/who", alice, "")
}
