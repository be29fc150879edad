package nodestore_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// What the tests of express-session 1.19 ask of it, of our side, where no other
// test here asks it already.
func TestWhatExpressSessionAsksOfItself(t *testing.T) {
	t.Parallel()
	hour := nodestore.Cookie{MaxAge: time.Hour}
	for name, ask := range map[string]func(t *testing.T){
		"two visitors have two sessions": func(t *testing.T) {
			ids := []string{sidA, sidB}
			w := express(t, "fake", nodestore.ExpressOptions{GenerateID: func(*http.Request) (id string, err error) {
				id, ids = ids[0], ids[1:]
				return id, nil
			}})
			w.ask("", sets("n", 1))
			w.ask("", sets("n", 2))
			if w.row(sidA) == "" || w.row(sidB) == "" || w.row(sidA) == w.row(sidB) {
				t.Errorf("the rows are %s and %s", w.row(sidA), w.row(sidB))
			}
		},
		"it is saved before an answer of several writes ends": func(t *testing.T) {
			w := express(t, "fake", nodestore.ExpressOptions{})
			w.ask("", func(v turn) {
				sets("hit", true)(v)
				_, _ = v.w.Write([]byte("hello, "))
				v.has(sidB, fresh+`,"hit":true}`)
				_, _ = v.w.Write([]byte("world"))
			})
		},
		"an empty answer with a length saves it": func(t *testing.T) {
			w := express(t, "fake", nodestore.ExpressOptions{})
			w.ask("", func(v turn) {
				sets("hit", true)(v)
				v.w.Header().Set("Content-Length", "0")
			})
			w.has(sidB, fresh+`,"hit":true}`)
		},
		"a member that is reserved does no harm": func(t *testing.T) {
			w := express(t, "fake", nodestore.ExpressOptions{})
			w.node(sidA, `{"cookie":{},"save":"nope","n":1}`)
			if res := w.ask(cookieA, sets("n", 2)); res.StatusCode != http.StatusOK {
				t.Errorf("status %d", res.StatusCode)
			}
			if row := w.row(sidA); !strings.Contains(row, `"n":2`) {
				t.Errorf("the row is %s", row)
			}
		},
		"an error of the store fails the request": func(t *testing.T) {
			w := express(t, "sqlite", nodestore.ExpressOptions{})
			w.must("close", w.db.Close())
			if res := w.ask(cookieA, func(turn) {}); res.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("status %d, want 503", res.StatusCode)
			}
		},
		"a cookie has one line, with the others' beside it": func(t *testing.T) {
			w := express(t, "fake", nodestore.ExpressOptions{Cookie: hour})
			res := w.ask("", func(v turn) {
				v.w.Header().Add("Set-Cookie", "previous=cookie")
				sets("a", 1)(v)
				v.must("Save", v.s.Save(v.ctx()))
				sets("a", 2)(v)
				v.must("Save", v.s.Save(v.ctx()))
			})
			lines := res.Header["Set-Cookie"]
			if len(lines) != 2 || lines[0] != "previous=cookie" || !strings.HasPrefix(lines[1], "connect.sid=") {
				t.Errorf("the lines are %q", lines)
			}
		},
		"originalMaxAge stays for all requests": func(t *testing.T) {
			w := express(t, "fake", nodestore.ExpressOptions{Cookie: hour})
			w.ask("", sets("a", 1))
			cookie := "connect.sid=" + valueB
			for i := range 3 {
				w.clock.advance(time.Minute)
				w.ask(cookie, sets("a", i+2))
				if row := w.row(sidB); !strings.Contains(row, `"originalMaxAge":3600000,`) {
					t.Fatalf("the row is %s", row)
				}
			}
		},
		"a cookie has a larger end once its maxAge has": func(t *testing.T) {
			w := express(t, "fake", nodestore.ExpressOptions{Cookie: hour})
			w.ask("", sets("a", 1))
			res := w.ask("connect.sid="+valueB, func(v turn) {
				c := v.s.Cookie()
				c.MaxAge = 30 * 24 * time.Hour
				v.must("SetCookie", v.s.SetCookie(c))
				sets("a", 2)(v)
			})
			if got := cookies(res); !strings.Contains(got, "Expires=Thu, 31 Jan 2030 00:00:00 GMT") {
				t.Errorf("the answer sets %s", got)
			}
		},
		"a list of proxies counts by its first": func(t *testing.T) {
			w := express(t, "fake", nodestore.ExpressOptions{TrustProxy: true, Cookie: nodestore.Cookie{Secure: nodestore.SecureAlways}})
			for proto, secure := range map[string]bool{"https,http": true, "http,https": false, "": false} {
				r := httptest.NewRequest(http.MethodGet, "http://example.com/", nil)
				if proto != "" {
					r.Header.Set("X-Forwarded-Proto", proto)
				}
				if got := cookies(w.serve(r, sets("a", proto))); (got != "") != secure {
					t.Errorf("X-Forwarded-Proto %q: the answer sets %q", proto, got)
				}
				_, err := w.store.Destroy(t.Context(), sidB)
				w.must("Destroy", err)
			}
		},
		"an ID with odd characters comes back": func(t *testing.T) {
			w := express(t, "fake", nodestore.ExpressOptions{GenerateID: func(*http.Request) (string, error) { return "%;/ä", nil }})
			line, _, _ := strings.Cut(cookies(w.ask("", sets("a", 1))), ";")
			w.ask(line, func(v turn) {
				if v.s.SID() != "%;/ä" {
					t.Errorf("the ID is another one")
				}
			})
		},
		"a session that is destroyed at once sets no cookie": func(t *testing.T) {
			w := express(t, "fake", nodestore.ExpressOptions{SaveUninitialized: true, DestroyUnset: true})
			if got := cookies(w.ask("", func(v turn) { v.must("Unset", v.s.Unset()) })); got != "" {
				t.Errorf("the answer sets %s", got)
			}
		},
		"a save on the way is not repeated in the end": func(t *testing.T) {
			w := express(t, "fake", nodestore.ExpressOptions{})
			w.node(sidA, plainRow)
			_ = w.store.taken()
			w.ask(cookieA, func(v turn) {
				sets("views", 8)(v)
				v.must("Save", v.s.Save(v.ctx()))
			})
			if got := w.store.taken(); got != "get save" {
				t.Errorf("the store was called for %q", got)
			}
		},
		"a session that is gone cannot be saved": func(t *testing.T) {
			w := express(t, "fake", nodestore.ExpressOptions{})
			w.node(sidA, plainRow)
			w.ask(cookieA, func(v turn) {
				sets("views", 8)(v)
				_, err := v.store.Destroy(v.ctx(), sidA)
				v.must("Destroy", err)
				if err := v.s.Save(v.ctx()); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("Save: %v, want ErrNotFound", err)
				}
			})
			w.has(sidA, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ask(t)
		})
	}
}
