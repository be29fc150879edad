package nodestore_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

const (
	valueB = "s%3AAbCdEf0123456789_-xyzABCDEF01234.kp2yj5qlKxtokaiOJZBTIrTJaqUrkzYQ4TI%2BOv5anoY"
	setB   = "connect.sid=" + valueB + "; Path=/; HttpOnly"
	setA   = cookieA + "; Path=/; HttpOnly"
	endsA  = cookieA + "; Path=/; Expires=Wed, 02 Jan 2030 00:00:00 GMT; HttpOnly"
	views  = `,"views":1}`
	fresh  = `{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"}`
)

// rule is a line of the table of what a middleware does.
type rule struct {
	name    string
	row     string // of sidA before
	cookie  string
	url     string // if not https://example.com/
	outside bool   // of the cookie's path
	handle  func(turn)
	calls   string // of the store
	set     string // the Set-Cookie lines
	rowA    string // after; "=" if it is as before
	rowB    string
	after   func(*web) // what else is to be seen
	events  string
}

func (r rule) check(t *testing.T, w *web) {
	t.Helper()
	if r.row != "" {
		w.node(sidA, r.row)
	}
	if r.url == "" {
		r.url = "https://example.com/"
	}
	w.clock.advance(0)
	res := w.get(r.url, r.cookie, r.handle)
	if got := w.store.taken(); got != r.calls {
		t.Errorf("the store was called for %q; want %q", got, r.calls)
	}
	if got := cookies(res); got != r.set {
		t.Errorf("the answer sets\n%s; want\n%s", got, r.set)
	}
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %d", res.StatusCode)
	}
	want := ""
	switch {
	case r.set != "":
		want = "no-store"
	case r.handle != nil && !r.outside:
		want = "private"
	}
	if res.Header.Get("Cache-Control") != want {
		t.Errorf("Cache-Control is %q; want %q", res.Header.Get("Cache-Control"), want)
	}
	if r.rowA == "=" {
		r.rowA = r.row
	}
	w.has(sidA, r.rowA)
	w.has(sidB, r.rowB)
	if got := w.told(); got != r.events {
		t.Errorf("told %q; want %q", got, r.events)
	}
	if r.after != nil {
		r.after(w)
	}
}

func TestExpressRules(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		for _, test := range []struct {
			opts nodestore.ExpressOptions
			rule
		}{
			{rule: rule{name: "nothing is asked of the session", row: plainRow, cookie: cookieA, rowA: "="}},
			{rule: rule{name: "no cookie, not modified", handle: reads}},
			{nodestore.ExpressOptions{SaveUninitialized: true}, rule{name: "no cookie, not modified, saveUninitialized", handle: reads, calls: "create", set: setB, rowB: fresh + "}", events: "created"}},
			{rule: rule{name: "new, modified", handle: sets("views", 1), calls: "create", set: setB, rowB: fresh + views, events: "created"}},
			{rule: rule{name: "new, set and deleted", handle: func(t turn) {
				sets("views", 1)(t)
				t.must("Delete", t.s.Delete("views"))
			}}},
			{nodestore.ExpressOptions{Cookie: nodestore.Cookie{MaxAge: time.Minute}}, rule{
				name: "new, modified, with an end", handle: sets("views", 1), calls: "create", events: "created",
				set:  "connect.sid=" + valueB + "; Path=/; Expires=Tue, 01 Jan 2030 00:01:00 GMT; HttpOnly",
				rowB: `{"cookie":{"originalMaxAge":60000,"expires":"2030-01-01T00:01:00.123Z","httpOnly":true,"path":"/"}` + views,
			}},
			{rule: rule{name: "existing, not modified, just touched", row: plainRow, cookie: cookieA, handle: reads, calls: "get", rowA: "="}},
			{rule: rule{name: "existing, not modified", row: plainRow, cookie: cookieA, handle: func(t turn) {
				t.clock.advance(time.Minute)
				reads(t)
			}, calls: "get touch", rowA: "=", after: func(w *web) {
				if got, want := w.expires(sidA), frozen.Add(24*time.Hour+time.Minute); got.Sub(want).Abs() > time.Second {
					w.Errorf("it expires at %v; want %v", got, want)
				}
			}}},
			{rule: rule{name: "existing, set to what it is", row: plainRow, cookie: cookieA, handle: func(t turn) {
				t.clock.advance(time.Minute)
				sets("views", 7)(t)
			}, calls: "get touch", rowA: "="}},
			{nodestore.ExpressOptions{Rolling: true}, rule{name: "existing, not modified, rolling", row: lastingRow, cookie: cookieA, handle: func(t turn) {
				t.clock.advance(time.Hour)
				reads(t)
			}, calls: "get touch", set: strings.Replace(endsA, "00:00:00", "01:00:00", 1), rowA: "="}},
			{nodestore.ExpressOptions{Rolling: true}, rule{name: "rolling, browser session", row: plainRow, cookie: cookieA, handle: func(t turn) {
				t.clock.advance(time.Minute)
				reads(t)
			}, calls: "get touch", set: setA, rowA: "="}},
			{nodestore.ExpressOptions{Resave: true}, rule{name: "existing, not modified, resave", row: lastingRow, cookie: cookieA, handle: func(t turn) {
				t.clock.advance(time.Hour)
				reads(t)
			}, calls: "get save", rowA: strings.Replace(lastingRow, "00:00:00.123", "01:00:00.123", 1)}},
			{rule: rule{name: "existing, modified, browser session", row: plainRow, cookie: cookieA, handle: sets("views", 8), calls: "get save", rowA: strings.Replace(plainRow, "7", "8", 1)}},
			{rule: rule{name: "existing, modified, with an end", row: lastingRow, cookie: cookieA, handle: func(t turn) {
				t.clock.advance(time.Hour)
				sets("theme", "dark")(t)
			}, calls: "get save", set: strings.Replace(endsA, "00:00:00", "01:00:00", 1),
				rowA: strings.Replace(lastingRow[:len(lastingRow)-1], "00:00:00.123", "01:00:00.123", 1) + `,"theme":"dark"}`}},
			{rule: rule{name: "only the cookie changed", row: plainRow, cookie: cookieA, handle: func(t turn) {
				c := t.s.Cookie()
				c.MaxAge = time.Hour
				t.must("SetCookie", t.s.SetCookie(c))
			}, calls: "get touch", rowA: "=", after: func(w *web) {
				if got, want := w.expires(sidA), frozen.Add(time.Hour); got.Sub(want).Abs() > time.Second {
					w.Errorf("it expires at %v; want %v", got, want)
				}
			}}},
			{rule: rule{name: "the cookie and a value changed", row: plainRow, cookie: cookieA, handle: func(t turn) {
				c := t.s.Cookie()
				c.MaxAge, c.SameSite, c.Secure = 24*time.Hour, "lax", nodestore.SecureAlways
				t.must("SetCookie", t.s.SetCookie(c))
				sets("views", 1)(t)
			}, calls: "get save", set: endsA + "; Secure; SameSite=Lax",
				rowA: `{"cookie":{"originalMaxAge":86400000,"expires":"2030-01-02T00:00:00.123Z","secure":true,"httpOnly":true,"path":"/","sameSite":"lax"},"views":1}`}},
			{rule: rule{name: "the cookie changed and saved", row: plainRow, cookie: cookieA, handle: func(t turn) {
				c := t.s.Cookie()
				c.Priority, c.Partitioned = "high", true
				t.must("SetCookie", t.s.SetCookie(c))
				t.must("Save", t.s.Save(t.ctx()))
				t.clock.advance(time.Minute) // which is no reason for a touch
			}, calls: "get save", rowA: `{"cookie":{"originalMaxAge":null,"partitioned":true,"priority":"high","expires":null,"httpOnly":true,"path":"/"},"views":7}`}},
			{rule: rule{name: "extended", row: lastingRow, cookie: cookieA, handle: func(t turn) {
				t.clock.advance(time.Hour)
				t.must("Touch", t.s.Touch())
			}, calls: "get touch", set: strings.Replace(endsA, "00:00:00", "01:00:00", 1), rowA: "="}},
			{rule: rule{name: "destroyed", row: plainRow, cookie: cookieA, handle: func(t turn) { t.must("Destroy", t.s.Destroy(t.ctx())) }, calls: "get destroy", events: "destroyed"}},
			{nodestore.ExpressOptions{ClearCookie: true}, rule{name: "destroyed, cookie cleared", row: plainRow, cookie: cookieA, handle: func(t turn) { t.must("Destroy", t.s.Destroy(t.ctx())) },
				calls: "get destroy", set: "connect.sid=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly", events: "destroyed"}},
			{rule: rule{name: "regenerated", row: lastingRow, cookie: cookieA, handle: func(t turn) {
				t.must("Regenerate", t.s.Regenerate(t.ctx()))
				if t.row(sidA) == "" || len(t.s.Keys()) > 0 || t.s.User() != "" {
					t.Error("something has happened before the answer, or the old session can be read")
				}
			}, calls: "get create destroy", set: setB, rowB: fresh + "}", events: "created, destroyed"}},
			{rule: rule{name: "regenerated and saved", row: lastingRow, cookie: cookieA, handle: func(t turn) {
				t.must("Regenerate", t.s.Regenerate(t.ctx()))
				t.must("Save", t.s.Save(t.ctx()))
				if t.row(sidA) != "" {
					t.Error("the old session is still there")
				}
			}, calls: "get create destroy", set: setB, rowB: fresh + "}", events: "created, destroyed"}},
			{rule: rule{name: "regenerated and destroyed", row: lastingRow, cookie: cookieA, handle: func(t turn) {
				t.must("Regenerate", t.s.Regenerate(t.ctx()))
				t.must("Destroy", t.s.Destroy(t.ctx()))
			}, calls: "get destroy", events: "destroyed"}},
			{rule: rule{name: "regenerated and unset", row: lastingRow, cookie: cookieA, handle: func(t turn) {
				t.must("Regenerate", t.s.Regenerate(t.ctx()))
				t.must("Unset", t.s.Unset())
			}, calls: "get destroy", events: "destroyed"}},
			{rule: rule{name: "renewed and destroyed", row: lastingRow, cookie: cookieA, handle: func(t turn) {
				t.must("Renew", t.s.Renew(t.ctx()))
				t.must("Destroy", t.s.Destroy(t.ctx()))
			}, calls: "get destroy", events: "destroyed"}},
			{rule: rule{name: "renewed", row: lastingRow, cookie: cookieA, handle: func(t turn) {
				t.must("Renew", t.s.Renew(t.ctx()))
				sets("theme", "dark")(t)
			}, calls: "get renew", set: strings.Replace(endsA, cookieA, "connect.sid="+valueB, 1), rowB: lastingRow[:len(lastingRow)-1] + `,"theme":"dark"}`, events: "renewed"}},
			{rule: rule{name: "unset", row: plainRow, cookie: cookieA, handle: func(t turn) {
				sets("views", 8)(t)
				t.must("Unset", t.s.Unset())
			}, calls: "get", rowA: "="}},
			{nodestore.ExpressOptions{DestroyUnset: true}, rule{name: "unset, destroyed", row: plainRow, cookie: cookieA, handle: func(t turn) { t.must("Unset", t.s.Unset()) }, calls: "get destroy", events: "destroyed"}},
			{nodestore.ExpressOptions{Cookie: nodestore.Cookie{Secure: nodestore.SecureAlways}}, rule{
				name: "secure over plain HTTP", url: "http://example.com/", handle: sets("views", 1), calls: "create", events: "created",
				rowB: `{"cookie":{"originalMaxAge":null,"expires":null,"secure":true,"httpOnly":true,"path":"/"},"views":1}`,
				after: func(w *web) {
					if w.logs.FilterMessageSnippet("plain HTTP").Len() != 1 {
						w.Errorf("logged %v", w.logs.All())
					}
				},
			}},
			{nodestore.ExpressOptions{Cookie: nodestore.Cookie{Secure: nodestore.SecureAuto, SameSite: "auto"}}, rule{
				name: "secure and sameSite auto over HTTPS", handle: sets("views", 1), calls: "create", set: setB + "; Secure; SameSite=None", events: "created",
				rowB: `{"cookie":{"originalMaxAge":null,"expires":null,"secure":true,"httpOnly":true,"path":"/","sameSite":"none"},"views":1}`,
			}},
			{nodestore.ExpressOptions{Cookie: nodestore.Cookie{Secure: nodestore.SecureAuto, SameSite: "auto"}}, rule{
				name: "secure and sameSite auto over HTTP", url: "http://example.com/", handle: sets("views", 1), calls: "create", set: setB + "; SameSite=Lax", events: "created",
				rowB: `{"cookie":{"originalMaxAge":null,"expires":null,"secure":false,"httpOnly":true,"path":"/","sameSite":"lax"},"views":1}`,
			}},
			{nodestore.ExpressOptions{Cookie: nodestore.Cookie{Path: "/app"}}, rule{name: "outside the cookie's path", outside: true, row: plainRow, cookie: cookieA, rowA: "=", handle: func(t turn) {
				if t.is("Session", t.err, session.ErrNoManager); t.s != nil {
					t.Error("there is a session")
				}
			}}},
			{nodestore.ExpressOptions{Cookie: nodestore.Cookie{Path: "/app"}}, rule{name: "inside the cookie's path", url: "https://example.com/apple?x", handle: sets("views", 1), calls: "create",
				set: "connect.sid=" + valueB + "; Path=/app; HttpOnly", rowB: strings.Replace(fresh, `"/"`, `"/app"`, 1) + views, events: "created"}},
			{rule: rule{name: "unknown sid, modified", cookie: cookieA, handle: sets("views", 1), calls: "get create", set: setB, rowB: fresh + views, events: "unknown ID, created"}},
			{rule: rule{name: "unknown sid, not modified", cookie: cookieA, handle: reads, calls: "get", events: "unknown ID"}},
			{rule: rule{name: "wrong signature", row: plainRow, cookie: cookieA + "x", handle: sets("views", 1), calls: "create", set: setB, rowA: "=", rowB: fresh + views, events: "invalid ID, created"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.check(t, express(t, backend, test.opts))
			})
		}
	})
}

const (
	koaClear  = "koa.sid=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT; httponly\nkoa.sid.sig=XjPLNnisFsNoH1nkBpJeP4qTDd4; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT; httponly"
	koaFresh  = `{"cookie":{"httpOnly":true,"path":"/","overwrite":true,"signed":true,"maxAge":86400000}`
	plainHTTP = "http://example.com/"
)

// koaSet is the golden pair of lines for a sid.
func koaSet(sid, expires string) string {
	attributes := "; path=/; expires=" + expires + "; httponly"
	return "koa.sid=" + sid + attributes + "\nkoa.sid.sig=" + nodestore.SignKoa(koaKey, "koa.sid", sid) + attributes
}

func TestKoaRules(t *testing.T) {
	const end = "Wed, 02 Jan 2030 00:00:00 GMT"
	const later = "Wed, 02 Jan 2030 01:00:00 GMT"
	everywhere(t, func(t *testing.T, backend string) {
		for _, test := range []struct {
			opts nodestore.KoaOptions
			rule
		}{
			{rule: rule{name: "nothing is asked of the session", row: koaRow, cookie: koaA, rowA: "="}},
			{rule: rule{name: "no cookie, not modified", handle: reads}},
			{nodestore.KoaOptions{AllowEmpty: true}, rule{name: "allowEmpty", handle: reads, calls: "create", set: koaSet(sidB, end), rowB: koaFresh + "}", events: "created"}},
			{rule: rule{name: "new, modified", handle: sets("user", "zoe"), calls: "create", set: koaSet(sidB, end), rowB: koaRow, events: "created"}},
			{rule: rule{name: "new, only the cookie changed", handle: func(t turn) {
				c := t.s.Cookie()
				c.MaxAge = -1
				t.must("SetCookie", t.s.SetCookie(c))
			}, calls: "create", events: "created", set: strings.ReplaceAll(koaSet(sidB, end), "; expires="+end, ""), rowB: strings.Replace(koaFresh, "86400000", "null", 1) + "}"}},
			{rule: rule{name: "existing, not modified", row: koaRow, cookie: koaA, handle: func(t turn) {
				t.clock.advance(time.Hour)
				reads(t)
			}, calls: "get", rowA: "=", after: func(w *web) {
				if got, want := w.expires(sidA), frozen.Add(24*time.Hour); got.Sub(want).Abs() > time.Second {
					w.Errorf("it expires at %v; want %v", got, want)
				}
			}}},
			{nodestore.KoaOptions{Rolling: true}, rule{name: "existing, not modified, rolling", row: koaRow, cookie: koaA, handle: func(t turn) {
				t.clock.advance(time.Hour)
				reads(t)
			}, calls: "get save", set: koaSet(sidA, later), rowA: "="}},
			{rule: rule{name: "existing, modified", row: koaRow, cookie: koaA, handle: func(t turn) {
				t.clock.advance(time.Hour)
				sets("user", "ann")(t)
			}, calls: "get save", set: koaSet(sidA, later), rowA: strings.Replace(koaRow, "zoe", "ann", 1)}},
			{rule: rule{name: "existing, the cookie changed", row: koaRow, cookie: koaA, handle: func(t turn) {
				c := t.s.Cookie()
				c.MaxAge = 25 * time.Hour
				t.must("SetCookie", t.s.SetCookie(c))
			}, calls: "get save", set: koaSet(sidA, later), rowA: strings.Replace(koaRow, "86400000", "90000000", 1)}},
			{rule: rule{name: "extended", row: koaRow, cookie: koaA, handle: func(t turn) {
				t.clock.advance(time.Hour)
				t.must("Touch", t.s.Touch())
			}, calls: "get save", set: koaSet(sidA, later), rowA: "="}},
			{rule: rule{name: "saved", row: koaRow, cookie: koaA, handle: func(t turn) { t.must("Save", t.s.Save(t.ctx())) }, calls: "get save", set: koaSet(sidA, end), rowA: "="}},
			{rule: rule{name: "destroyed", row: koaRow, cookie: koaA, handle: func(t turn) { t.must("Destroy", t.s.Destroy(t.ctx())) }, calls: "get destroy", set: koaClear, events: "destroyed"}},
			{rule: rule{name: "unset", row: koaRow, cookie: koaA, handle: func(t turn) { t.must("Unset", t.s.Unset()) }, calls: "get destroy", set: koaClear, events: "destroyed"}},
			{rule: rule{name: "regenerated, empty", row: koaRow, cookie: koaA, handle: func(t turn) { t.must("Regenerate", t.s.Regenerate(t.ctx())) }, calls: "get destroy", set: koaClear, events: "destroyed"}},
			{rule: rule{name: "regenerated", row: koaRow, cookie: koaA, handle: func(t turn) {
				t.must("Regenerate", t.s.Regenerate(t.ctx()))
				sets("user", "zoe")(t)
			}, calls: "get create destroy", set: koaSet(sidB, end), rowB: koaRow, events: "created, destroyed"}},
			{rule: rule{name: "renewed", row: koaRow, cookie: koaA, handle: func(t turn) { t.must("Renew", t.s.Renew(t.ctx())) }, calls: "get renew", set: koaSet(sidB, end), rowB: koaRow, events: "renewed"}},
			{rule: rule{name: "unknown sid", cookie: koaA, handle: reads, calls: "get", set: koaClear, events: "unknown ID"}},
			{rule: rule{name: "unknown sid, modified", cookie: koaA, handle: sets("user", "zoe"), calls: "get create", set: koaSet(sidB, end), rowB: koaRow, events: "unknown ID, created"}},
			{rule: rule{name: "no signature", row: koaRow, cookie: "koa.sid=" + sidA, handle: reads, rowA: "=", events: "invalid ID"}},
			{rule: rule{name: "wrong signature", row: koaRow, cookie: koaA + "x", handle: reads, rowA: "=", set: "koa.sid.sig=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT; httponly", events: "invalid ID"}},
			{nodestore.KoaOptions{Keys: session.Secrets("koa-key-2", koaKey)}, rule{name: "old key", row: koaRow, cookie: koaA, handle: reads, calls: "get", rowA: "=", set: "koa.sid.sig=qL9JvGXJ1jrTO9FutdzgqZfND-E; path=/; httponly"}},
			{nodestore.KoaOptions{Unsigned: true}, rule{name: "unsigned", handle: sets("user", "zoe"), calls: "create", events: "created",
				set: "koa.sid=" + sidB + "; path=/; expires=" + end + "; httponly", rowB: strings.Replace(strings.Replace(koaRow, `"signed":true,`, "", 1), `{"httpOnly`, `{"signed":false,"httpOnly`, 1)}},
			{nodestore.KoaOptions{Cookie: nodestore.Cookie{Domain: "example.com", SameSite: "lax"}}, rule{name: "options first", handle: sets("user", "zoe"), calls: "create", events: "created",
				set:  strings.ReplaceAll(koaSet(sidB, end), "; httponly", "; domain=example.com; samesite=lax; httponly"),
				rowB: strings.Replace(koaRow, `"httpOnly"`, `"domain":"example.com","sameSite":"lax","httpOnly"`, 1)}},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				if test.url == "" {
					test.url = plainHTTP // over HTTPS koa's cookies are secure
				}
				test.check(t, koa(t, backend, test.opts))
			})
		}
	})
}

func TestKoaCookiesAreSecureOverHTTPS(t *testing.T) {
	t.Parallel()
	w := koa(t, "fake", nodestore.KoaOptions{})
	if got, want := cookies(w.ask("", sets("user", "zoe"))), strings.ReplaceAll(koaSet(sidB, "Wed, 02 Jan 2030 00:00:00 GMT"), "; httponly", "; secure; httponly"); got != want {
		t.Errorf("the answer sets\n%s; want\n%s", got, want)
	}
	w = koa(t, "fake", nodestore.KoaOptions{Cookie: nodestore.Cookie{Secure: nodestore.SecureNever}})
	if got := cookies(w.ask("", sets("user", "zoe"))); strings.Contains(got, "secure") {
		t.Errorf("the answer sets\n%s", got)
	}
}

func TestASecureKoaCookieOverPlainHTTPFailsBeforeThereIsARow(t *testing.T) {
	t.Parallel()
	w := koa(t, "fake", nodestore.KoaOptions{Cookie: nodestore.Cookie{Secure: nodestore.SecureAlways}})
	res := w.get(plainHTTP, "", sets("user", "zoe"))
	if res.StatusCode != http.StatusInternalServerError || cookies(res) != "" || w.row(sidB) != "" || w.store.taken() != "" {
		t.Errorf("status %d, cookies %q, row %q", res.StatusCode, cookies(res), w.row(sidB))
	}
	secure := strings.Replace(koaRow, `"path"`, `"secure":true,"path"`, 1)
	w.node(sidA, secure)
	res = w.get(plainHTTP, koaA, sets("user", "ann"))
	if res.StatusCode != http.StatusInternalServerError || cookies(res) != "" {
		t.Errorf("changed: status %d, cookies %q", res.StatusCode, cookies(res))
	}
	w.has(sidA, secure)
}

func TestAProxyIsBelievedWhenAskedTo(t *testing.T) {
	t.Parallel()
	for proto, secure := range map[string]bool{"": false, "http": false, "https": true, "HTTPS , http": true, "http, https": false} {
		for _, trust := range []bool{false, true} {
			w := express(t, "fake", nodestore.ExpressOptions{TrustProxy: trust, Cookie: nodestore.Cookie{Secure: nodestore.SecureAlways}})
			r, _ := http.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("X-Forwarded-Proto", proto)
			if got := cookies(w.serve(r, sets("views", 1))) != ""; got != (trust && secure) {
				t.Errorf("X-Forwarded-Proto %q, trusted %v: the cookie was sent: %v", proto, trust, got)
			}
		}
	}
}
