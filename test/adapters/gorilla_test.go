package adapters

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gin-contrib/sessions/tester"
	"github.com/gin-gonic/gin"
	"github.com/gorilla/sessions"
	echosession "github.com/labstack/echo-contrib/session"
	"github.com/labstack/echo/v4"

	"github.com/sojourn-go/sojourn/adapters/ginstore"
	"github.com/sojourn-go/sojourn/adapters/gorillastore"
	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/session"
)

// gorillaApp is a node of a service with gorilla/sessions.
type gorillaApp struct {
	site
	store *gorillastore.Store
	slow  *gate
}

const gorillaName = "shop"

func newGorilla(t testing.TB, behind session.Store, cfg gorillastore.Config) gorillaApp {
	store, err := gorillastore.New(behind, cfg)
	if err != nil {
		t.Fatal(err)
	}
	a := serveGorilla(t, store)
	a.store = store
	return a
}

// serveGorilla serves an application on any store of gorilla.
func serveGorilla(t testing.TB, store sessions.Store) gorillaApp {
	a := gorillaApp{slow: newGate()}
	mux := http.NewServeMux()
	handle := func(path string, do func(r *http.Request, s *sessions.Session) string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			s, err := store.Get(r, gorillaName)
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			text := do(r, s)
			if path != "/who" {
				if err := s.Save(r, w); errors.Is(err, session.ErrNotFound) {
					text = "ended"
				} else if err != nil {
					text = err.Error()
				}
			}
			fmt.Fprintln(w, text)
		})
	}
	who := func(_ *http.Request, s *sessions.Session) string { return fmt.Sprint(s.Values["user"]) }
	set := func(r *http.Request, s *sessions.Session) string {
		s.Values["user"] = r.FormValue("user")
		return ""
	}
	handle("/who", who)
	handle("/set", set)
	handle("/save", func(*http.Request, *sessions.Session) string { return "" })
	handle("/login", func(r *http.Request, s *sessions.Session) string { s.ID = ""; return set(r, s) })
	handle("/slow", func(r *http.Request, s *sessions.Session) string { a.slow.wait(); return set(r, s) })
	handle("/renew", func(_ *http.Request, s *sessions.Session) string { s.ID = ""; return "" })
	handle("/slowrenew", func(_ *http.Request, s *sessions.Session) string { a.slow.wait(); s.ID = ""; return "" })
	handle("/logout", func(_ *http.Request, s *sessions.Session) string { s.Options.MaxAge = -1; return "" })
	a.site = serve(t, mux)
	return a
}

const noUser = "<nil>"

func TestGorilla(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, db database) {
		nodes := db.open(t)
		a, b := newGorilla(t, nodes[0], gorillastore.Config{}), newGorilla(t, nodes[1], gorillastore.Config{Codec: gorillastore.Gob{}})
		a.says("/who", nil, noUser)
		got := a.get("/set?user=alice", nil)
		alice := got.cookie
		if alice == nil {
			t.Fatalf("no cookie: %s", got.body)
		}
		if alice.Name != "__Host-shop" || !alice.Secure || !alice.HttpOnly || alice.SameSite != http.SameSiteLaxMode || alice.Path != "/" ||
			alice.MaxAge != 30*24*3600 || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("the answer's header: %v", got.header)
		}
		// The next request sees what the last one has saved, on any node.
		for i := range 30 {
			node, next := a, b
			if i%2 == 1 {
				node, next = b, a
			}
			user := fmt.Sprint("user-", i)
			alice = node.get("/set?user="+user, alice).cookie
			next.says("/who", alice, user)
		}
		// A session that is renewed is dead under its old ID.
		renewed := a.get("/renew", alice).cookie
		for _, n := range []gorillaApp{a, b} {
			n.says("/who", renewed, "user-29")
		}
		nobodyIn(t, alice, noUser, a.site, b.site)
		// A slow request brings nothing back, and leaves the cookie alone.
		for _, path := range []string{"/slow?user=mallory", "/slowrenew"} {
			mine := a.get("/set?user=bob", nil).cookie
			slow := a.during(path, mine, a.slow, func() {
				if gone := b.get("/logout", mine).cookie; gone == nil || gone.MaxAge >= 0 || gone.Name != "__Host-shop" || gone.Path != "/" {
					t.Errorf("the cookie of a logout: %v", gone)
				}
				nobodyIn(t, mine, noUser, a.site, b.site)
			})
			if slow.body != "ended" || slow.cookie != nil {
				t.Errorf("%s after a logout: %q, cookie %v", path, slow.body, slow.cookie)
			}
			nobodyIn(t, mine, noUser, a.site, b.site)
		}
		// A logout ends what the cookie names, also if it was not read.
		bob := a.get("/set?user=bob", nil).cookie
		b.get("/logout", bob)
		nobodyIn(t, bob, noUser, a.site, b.site)
		// What a handler does to the options of a session is for that one only.
		if carol := b.get("/set?user=carol", nil).cookie; carol == nil || carol.MaxAge != 30*24*3600 {
			t.Errorf("the cookie of a login after a logout: %v", carol)
		}
	})
}

func TestGorillaWritesNothingThatIsTheSame(t *testing.T) {
	t.Parallel()
	for _, codec := range []gorillastore.Codec{gorillastore.Gob{}, gorillastore.JSON{}} {
		start := time.Now()
		ahead := time.Duration(0)
		behind := memory.Open(t, func() time.Time { return start.Add(ahead) })
		a := newGorilla(t, behind, gorillastore.Config{Codec: codec, IdleTimeout: time.Hour, Lifetime: 3 * time.Hour})
		a.store.Options.MaxAge = 0
		cookie := a.get("/set?user=alice", nil).cookie
		if cookie.MaxAge != 0 {
			t.Errorf("the cookie outlasts the browser: %v", cookie)
		}
		for range 5 {
			ahead += 30 * time.Minute
			a.get("/save", cookie)
			a.get("/save", cookie)
		}
		if st := behind.Stats(); st.Saves != 0 || st.Touches != 4 { // the last one cannot move the deadline
			t.Errorf("%d saves and %d touches; want 0 and 4", st.Saves, st.Touches)
		}
		a.says("/who", cookie, "alice")
		ahead += 31 * time.Minute // the deadline, however often it was saved
		a.says("/who", cookie, noUser)
		cookie = a.get("/set?user=alice", cookie).cookie // a new one, as the cookie names none
		a.says("/who", cookie, "alice")
		ahead += 61 * time.Minute
		a.says("/who", cookie, noUser)
	}
}

// The cookie has the prefix that its Options allow.
func TestGorillaCookieNames(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]sessions.Options{
		"__Host-shop":   {Path: "/", Secure: true, HttpOnly: true},
		"__Secure-shop": {Path: "/app", Secure: true, HttpOnly: true},
		"shop":          {Path: "/", HttpOnly: true},
	} {
		a := newGorilla(t, inMemory(t), gorillastore.Config{})
		a.store.Options = &options
		cookie := a.get("/set?user=alice", nil).cookie
		if cookie == nil || cookie.Name != name || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != options.Path {
			t.Errorf("want %s; got %v", name, cookie)
		}
		a.says("/who", cookie, "alice")
		for _, planted := range []string{"", "x", strings.Repeat("A", session.IDTextLen), "MTIzNDU2Nzg5MA=="} {
			a.says("/who", &http.Cookie{Name: name, Value: planted}, noUser)
		}
	}
}

// A session that could not be read is not replaced by an empty one.
func TestGorillaOutage(t *testing.T) {
	t.Parallel()
	behind := inMemory(t)
	store, err := gorillastore.New(behind, gorillastore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	request := func(ctx context.Context, cookie *http.Cookie) (*http.Request, *httptest.ResponseRecorder) {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		if cookie != nil {
			r.AddCookie(cookie)
		}
		return r, httptest.NewRecorder()
	}
	r, w := request(t.Context(), nil)
	s, _ := store.Get(r, "s")
	s.Values["user"] = "alice"
	if err := s.Save(r, w); err != nil {
		t.Fatal(err)
	}
	cookie := w.Result().Cookies()[0]
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r, w = request(ended, cookie)
	s, err = store.Get(r, "s")
	if s == nil || !s.IsNew || !errors.Is(err, context.Canceled) {
		t.Fatalf("Get = %v, %v; want an empty session and the error", s, err)
	}
	if err := s.Save(r, w); !errors.Is(err, context.Canceled) || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("Save = %v, with the header %v", err, w.Header())
	}
	r, _ = request(t.Context(), cookie)
	again, err := store.Get(r, "s")
	if err != nil || !reflect.DeepEqual(again.Values, map[any]any{"user": "alice"}) {
		t.Errorf("afterwards the session has %v, %v", again.Values, err)
	}
	// A registry saves all sessions of a request.
	other, err := store.Get(r, "other")
	if err != nil {
		t.Fatal(err)
	}
	other.Values["n"] = 1
	w = httptest.NewRecorder()
	if err := sessions.Save(r, w); err != nil || len(w.Result().Cookies()) != 2 {
		t.Errorf("sessions.Save = %v, with %v", err, w.Result().Cookies())
	}
}

// The tests that gin-contrib has for its own stores.
func TestGinContrib(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, db database) {
		nodes := db.open(t)
		for name, test := range map[string]func(*testing.T, func(*testing.T) ginsessions.Store){
			"GetSet":    func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.GetSet(t, f) },
			"DeleteKey": func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.DeleteKey(t, f) },
			"Flashes":   func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.Flashes(t, f) },
			"Clear":     func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.Clear(t, f) },
			"Options":   func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.Options(t, f) },
			"Many":      func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.Many(t, f) },
		} {
			for _, codec := range []gorillastore.Codec{gorillastore.Gob{}, gorillastore.JSON{}} {
				t.Run(fmt.Sprintf("%s %T", name, codec), func(t *testing.T) {
					test(t, func(t *testing.T) ginsessions.Store {
						store, err := ginstore.New(nodes[0], gorillastore.Config{Codec: codec})
						if err != nil {
							t.Fatal(err)
						}
						return store
					})
				})
			}
		}
	})
}

func TestGinAndEcho(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, db database) {
		nodes := db.open(t)
		ginStore, err := ginstore.New(nodes[0], gorillastore.Config{})
		if err != nil {
			t.Fatal(err)
		}
		engine := gin.New()
		engine.Use(ginsessions.Sessions(gorillaName, ginStore))
		engine.GET("/set", func(c *gin.Context) {
			s := ginsessions.Default(c)
			s.Set("user", c.Query("user"))
			c.String(http.StatusOK, "%v", s.Save())
		})
		engine.GET("/who", func(c *gin.Context) { c.String(http.StatusOK, "%v", ginsessions.Default(c).Get("user")) })
		engine.GET("/logout", func(c *gin.Context) {
			s := ginsessions.Default(c)
			s.Options(ginsessions.Options{MaxAge: -1})
			c.String(http.StatusOK, "%v", s.Save())
		})
		echoStore, err := gorillastore.New(nodes[1], gorillastore.Config{})
		if err != nil {
			t.Fatal(err)
		}
		e := echo.New()
		e.Use(echosession.Middleware(echoStore))
		e.GET("/who", func(c echo.Context) error {
			s, err := echosession.Get(gorillaName, c)
			if err != nil {
				return err
			}
			return c.String(http.StatusOK, fmt.Sprint(s.Values["user"]))
		})
		withGin, withEcho := serve(t, engine), serve(t, e)
		alice := withGin.get("/set?user=alice", nil).cookie
		withGin.says("/who", alice, "alice")
		withEcho.says("/who", alice, "alice")
		if gone := withGin.get("/logout", alice).cookie; gone == nil || gone.Name != "__Host-shop" || gone.Path != "/" || gone.MaxAge >= 0 {
			t.Errorf("the cookie of a logout: %v", gone)
		}
		nobodyIn(t, alice, noUser, withGin, withEcho)
	})
}
