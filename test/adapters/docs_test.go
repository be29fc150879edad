package adapters

import (
	"net/http"
	"testing"

	"github.com/alexedwards/scs/v2"
	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"
	echosession "github.com/labstack/echo-contrib/session"
	"github.com/labstack/echo/v4"

	"github.com/sojourn-go/sojourn/adapters/fiberstore"
	"github.com/sojourn-go/sojourn/adapters/ginstore"
	"github.com/sojourn-go/sojourn/adapters/gorillastore"
	"github.com/sojourn-go/sojourn/adapters/scsstore"
	"github.com/sojourn-go/sojourn/session"
)

// What docs/adapters.md shows.
func TestDocumentedLines(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(testing.TB, session.Store) error{"scs": documentedSCS, "echo": documentedEcho, "gin": documentedGin, "fiber": documentedFiber} {
		if err := run(t, inMemory(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func documentedSCS(t testing.TB, sessions session.Store) error {
	store, err := scsstore.New(sessions, scsstore.Options{})
	if err != nil {
		return err
	}
	manager := scs.New()
	manager.Store = store

	a := newSCS(t, manager.Store, nil)
	a.says("/who", a.login("alice"), "alice")
	return nil
}

func documentedEcho(t testing.TB, sessions session.Store) error {
	store, err := gorillastore.New(sessions, gorillastore.Config{})
	if err != nil {
		return err
	}
	app := echo.New()
	app.Use(echosession.Middleware(store))

	app.GET("/who", func(c echo.Context) error {
		s, err := echosession.Get("shop", c)
		if err != nil {
			return err
		}
		who, _ := s.Values["user"].(string)
		s.Values["user"] = "alice"
		if err := s.Save(c.Request(), c.Response()); err != nil {
			return err
		}
		return c.String(http.StatusOK, who)
	})
	remembers(t, serve(t, app))
	return nil
}

func documentedGin(t testing.TB, sessions session.Store) error {
	store, err := ginstore.New(sessions, gorillastore.Config{})
	if err != nil {
		return err
	}
	engine := gin.New()
	engine.Use(ginsessions.Sessions("shop", store))

	engine.GET("/who", func(c *gin.Context) {
		s := ginsessions.Default(c)
		who, _ := s.Get("user").(string)
		s.Set("user", "alice")
		if err := s.Save(); err != nil {
			t.Error(err)
		}
		c.String(http.StatusOK, "%s", who)
	})
	remembers(t, serve(t, engine))
	return nil
}

// remembers checks that a site knows the user at the second visit.
func remembers(t testing.TB, a site) {
	t.Helper()
	first := a.get("/who", nil)
	if first.body != "" || first.cookie == nil {
		t.Fatalf("the first visit: %q, cookie %v", first.body, first.cookie)
	}
	a.says("/who", first.cookie, "alice")
}

func documentedFiber(t testing.TB, sessions session.Store) error {
	storage, err := fiberstore.New(sessions, fiberstore.Options{})
	if err != nil {
		return err
	}
	app := fiber.New()
	app.Use(fibersession.New(fibersession.Config{
		Storage: storage, KeyGenerator: storage.NewKey,
		CookieSecure: true, CookieHTTPOnly: true,
	}))

	app.Get("/who", func(c fiber.Ctx) error {
		s := fibersession.FromContext(c)
		who, _ := s.Get("user").(string)
		s.Set("user", "alice")
		return c.SendString(who)
	})
	remembers(t, listenV3(t, app))
	return nil
}
