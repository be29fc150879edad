package adapters

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"

	"github.com/sojourn-go/sojourn/session"
)

// who returns the user of the request, for the handlers of all routers.
func who(ctx context.Context) string {
	s, err := session.FromContext(ctx)
	if err != nil {
		return err.Error()
	}
	return s.User()
}

func logIn(ctx context.Context, user string) error {
	s, err := session.FromContext(ctx)
	if err != nil {
		return err
	}
	return s.Login(ctx, user, session.Login{})
}

var errPanic = errors.New("on purpose")

func withChi(sessions *session.Manager, g *gate) http.Handler {
	r := chi.NewRouter()
	r.Use(chimiddleware.Recoverer)
	r.Use(sessions.Handler)
	r.Get("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := logIn(r.Context(), r.FormValue("user")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	r.Route("/group", func(r chi.Router) {
		r.Get("/who", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, who(r.Context())) })
	})
	r.Get("/stream", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, who(r.Context()))
		if err := http.NewResponseController(w).Flush(); err != nil {
			panic(err)
		}
		g.wait()
		fmt.Fprintln(w, "end")
	})
	r.Get("/panic", func(_ http.ResponseWriter, r *http.Request) {
		if err := logIn(r.Context(), "mallory"); err == nil {
			panic(errPanic)
		}
	})
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "none for ", who(r.Context()))
	})
	return r
}

func withGin(sessions *session.Manager, g *gate) http.Handler {
	engine := gin.New()
	engine.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, _ any) { c.AbortWithStatus(http.StatusInternalServerError) }))
	engine.GET("/login", func(c *gin.Context) {
		if err := logIn(c.Request.Context(), c.Query("user")); err != nil {
			c.String(http.StatusInternalServerError, err.Error())
		}
	})
	engine.Group("/group").GET("/who", func(c *gin.Context) { c.String(http.StatusOK, "%s", who(c.Request.Context())) })
	engine.GET("/stream", func(c *gin.Context) {
		c.String(http.StatusOK, "%s\n", who(c.Request.Context()))
		c.Writer.Flush()
		g.wait()
		c.String(http.StatusOK, "end\n")
	})
	engine.GET("/panic", func(c *gin.Context) {
		if err := logIn(c.Request.Context(), "mallory"); err == nil {
			panic(errPanic)
		}
	})
	engine.NoRoute(func(c *gin.Context) { c.String(http.StatusNotFound, "none for %s", who(c.Request.Context())) })
	return sessions.Handler(engine)
}

func withEcho(sessions *session.Manager, g *gate) http.Handler {
	e := echo.New()
	e.Use(echomiddleware.RecoverWithConfig(echomiddleware.RecoverConfig{DisablePrintStack: true, LogErrorFunc: func(_ echo.Context, err error, _ []byte) error { return err }}))
	e.GET("/login", func(c echo.Context) error { return logIn(c.Request().Context(), c.QueryParam("user")) })
	e.Group("/group").GET("/who", func(c echo.Context) error { return c.String(http.StatusOK, who(c.Request().Context())) })
	e.GET("/stream", func(c echo.Context) error {
		if _, err := fmt.Fprintln(c.Response(), who(c.Request().Context())); err != nil {
			return err
		}
		c.Response().Flush()
		g.wait()
		_, err := fmt.Fprintln(c.Response(), "end")
		return err
	})
	e.GET("/panic", func(c echo.Context) error {
		if err := logIn(c.Request().Context(), "mallory"); err != nil {
			return err
		}
		panic(errPanic)
	})
	e.RouteNotFound("/*", func(c echo.Context) error {
		return c.String(http.StatusNotFound, "none for "+who(c.Request().Context()))
	})
	return sessions.Handler(e)
}

// router is a service in one of them, with the router's own middleware for panics.
type router struct {
	with func(*session.Manager, *gate) http.Handler
	// afterPanic is whose session it is when a handler has logged mallory in and then
	// panics. Where the recovery is inside of the Manager, its 500 is an answer as any
	// other, and saves what was done before.
	afterPanic string
}

// The Manager stands around a router, or among its middleware where that is net/http's.
func TestTheManagerInRouters(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]router{"chi": {withChi, "alice"}, "gin": {withGin, "mallory"}, "echo": {withEcho, "mallory"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sessions, err := session.NewManager(inMemory(t), session.Options{Cookie: session.Cookie{Insecure: true}})
			if err != nil {
				t.Fatal(err)
			}
			g := newGate()
			a := serve(t, r.with(sessions, g))
			cookie := a.get("/login?user=alice", nil).cookie
			if cookie == nil {
				t.Fatal("no cookie")
			}
			a.says("/group/who", cookie, "alice")
			a.says("/group/who", nil, "")
			if got := a.get("/nowhere", cookie); got.status != http.StatusNotFound || got.body != "none for alice" {
				t.Errorf("a page that is not there: status %d, %q", got.status, got.body)
			}
			a.streams("/stream", cookie, g, "alice")
			got := a.get("/panic", cookie)
			if got.status != http.StatusInternalServerError {
				t.Errorf("a panic: status %d", got.status)
			}
			if got.cookie != nil {
				cookie = got.cookie
			}
			a.says("/group/who", cookie, r.afterPanic)
		})
	}
}

// streams checks that the first line arrives while the handler still runs.
func (s site) streams(path string, cookie *http.Cookie, g *gate, first string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.AddCookie(cookie)
	resp, err := s.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	line, err := body.ReadString('\n')
	if line != first+"\n" || err != nil {
		s.t.Errorf("the first line of a stream: %q, %v", line, err)
	}
	<-g.arrived
	g.open <- struct{}{}
	rest, err := io.ReadAll(body)
	if string(rest) != "end\n" || err != nil {
		s.t.Errorf("the rest of a stream: %q, %v", rest, err)
	}
}
