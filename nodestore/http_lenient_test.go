package nodestore_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// noValues are what JavaScript takes for false.
var noValues = []string{"null", "false", "0", "-0", "0.0", `""`}

// What JavaScript takes for false is no value, in both middlewares and wherever
// it stands.
func TestWhatIsFalseInJavaScriptIsNoValue(t *testing.T) {
	t.Parallel()
	e := express(t, "sqlite", nodestore.ExpressOptions{})
	k := koa(t, "sqlite", nodestore.KoaOptions{Rolling: true})
	for _, none := range noValues {
		for _, name := range []string{"expires", "maxAge", "originalMaxAge", "domain", "path", "sameSite", "priority", "secure", "httpOnly", "partitioned", "signed"} {
			row := `{"cookie":{"` + name + `":` + none + `},"views":7}`
			for kind, w := range map[string]*web{"express": e, "koa": k} {
				w.node(sidA, row)
				if got := w.expires(sidA); got.Sub(frozen) < 24*time.Hour-time.Second {
					t.Errorf("%s: %s expires at %v; want the default", kind, row, got)
				}
				cookie := map[string]string{"express": cookieA, "koa": koaA}[kind]
				for what, handle := range map[string]func(turn){"read": reads, "changed": sets("views", 8), "destroyed": func(t turn) { t.must("Destroy", t.s.Destroy(t.ctx())) }} {
					w.node(sidA, row)
					if res := w.ask(cookie, handle); res.StatusCode != http.StatusOK {
						t.Errorf("%s: %s is %s: status %d", kind, row, what, res.StatusCode)
					}
				}
			}
		}
	}
	for _, cookie := range []string{"false", "0", `""`, "[]", "{}", `["x"]`} {
		e.node(sidA, `{"cookie":`+cookie+`,"views":7}`)
		if res := e.ask(cookieA, sets("views", 8)); res.StatusCode != http.StatusOK {
			t.Errorf("%s is a cookie without options: status %d", cookie, res.StatusCode)
		}
		if row := e.row(sidA); !strings.HasPrefix(row, `{"cookie":{`) || !strings.HasSuffix(row, `,"views":8}`) {
			t.Errorf("of %s becomes %s", cookie, row)
		}
	}
}

// What express-session writes of an end that is no number.
func TestAnEndThatIsNoNumberStaysAsExpressWritesIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ maxAge, expires, line string }{
		{"null", "null", ""},
		{"false", "false", cookieA + "; Path=/; HttpOnly"},
		{`""`, `""`, cookieA + "; Path=/; HttpOnly"},
		{"1000", `"2030-01-01T00:00:01.123Z"`, cookieA + "; Path=/; Expires=Tue, 01 Jan 2030 00:00:01 GMT; HttpOnly"},
		{"252455616000000", `"+010030-01-01T00:00:00.123Z"`, cookieA + "; Path=/; Expires=Tue, 01 Jan 10030 00:00:00 GMT; HttpOnly"},
	} {
		w := express(t, "sqlite", nodestore.ExpressOptions{})
		w.node(sidA, `{"cookie":{"originalMaxAge":`+c.maxAge+`,"expires":false},"views":7}`)
		if got := cookies(w.ask(cookieA, sets("views", 8))); got != c.line {
			t.Errorf("%s: the cookie is\n%s; want\n%s", c.maxAge, got, c.line)
		}
		w.has(sidA, `{"cookie":{"originalMaxAge":`+c.maxAge+`,"expires":`+c.expires+`},"views":8}`)
		if res := w.ask(cookieA, reads); res.StatusCode != http.StatusOK {
			t.Errorf("%s: what Go wrote is read with status %d", c.maxAge, res.StatusCode)
		}
	}
}

// An end that is no time fails neither a read nor a save that sends no cookie.
func TestAnEndThatIsNoTimeIsTheDefault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ field, stored string }{
		{`"expires":"tomorrow"`, `"expires":null`}, {`"expires":[]`, `"expires":null`}, {`"expires":1e17`, `"expires":null`}, {`"expires":true`, `"expires":null`},
		{`"maxAge":"never"`, `"maxAge":"never"`}, {`"maxAge":{}`, `"maxAge":{}`},
	} {
		w := koa(t, "sqlite", nodestore.KoaOptions{})
		row := `{"cookie":{` + c.field + `},"views":7}`
		w.must("Set", w.store.Set(t.Context(), sidA, []byte(row), nodestore.ExpiresAt(frozen.Add(time.Hour))))
		if res := w.ask(koaA, reads); res.StatusCode != http.StatusOK {
			t.Errorf("%s is read: status %d", row, res.StatusCode)
		}
		want := http.StatusOK
		if strings.Contains(row, "maxAge") { // the package cookies fails
			want = http.StatusInternalServerError
		}
		if res := w.ask(koaA, sets("views", 8)); res.StatusCode != want {
			t.Errorf("%s is changed: status %d; want %d", row, res.StatusCode, want)
		}
		if want == http.StatusOK {
			w.has(sidA, `{"cookie":{`+c.stored+`},"views":8}`)
			if got := w.expires(sidA); got.Before(frozen.Add(24*time.Hour - time.Second)) {
				t.Errorf("%s expires at %v", row, got)
			}
		}
	}
}

// unreadable are rows of which neither side can make a session.
var unreadable = []string{`{"a":`, `[object Object]`, `{} {}`, `7`, `"x"`, `true`, `[1]`}

func TestARowThatNobodyCanParseCanBeEnded(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"express", "koa"} {
		rows, w, cookie, layout := unreadable, (*web)(nil), cookieA, nodestore.ConnectSQLite()
		if kind == "express" {
			rows = append([]string{`{}`, `{"cookie":null}`, `{"cookie":7}`, `{"cookie":"x"}`, `{"cookie":true}`}, rows...)
			w = express(t, "sqlite", nodestore.ExpressOptions{DestroyUnset: true})
		} else {
			cookie, layout = koaA, nodestore.KoaGenericSessionSequelize(nodestore.SQLite)
			w = koa(t, "sqlite", nodestore.KoaOptions{})
		}
		run := func(text string, args ...any) {
			t.Helper()
			_, err := w.db.ExecContext(t.Context(), text, args...)
			w.must(text, err)
		}
		for _, row := range rows {
			for how, end := range map[string]func(turn) error{
				"Destroy":    func(t turn) error { return t.s.Destroy(t.ctx()) },
				"Regenerate": func(t turn) error { return t.s.Regenerate(t.ctx()) },
				"login": func(t turn) error {
					return errors.Join(t.s.Regenerate(t.ctx()), t.s.Set("user", "zoe"), t.s.Save(t.ctx()))
				},
				"Unset":   func(t turn) error { return t.s.Unset() },
				"nothing": func(turn) error { return nil },
				"others": func(t turn) error {
					for what, err := range map[string]error{
						"Set": t.s.Set("a", 1), "Save": t.s.Save(t.ctx()), "Renew": t.s.Renew(t.ctx()), "Touch": t.s.Touch(), "SetCookie": t.s.SetCookie(nodestore.Cookie{}),
					} {
						t.is(what, err, session.ErrUndecodable)
					}
					return nil
				},
			} {
				run("DELETE FROM " + layout.Table)
				w.node(sidA, `{"cookie":{}}`)
				run("UPDATE "+layout.Table+" SET "+layout.Columns.Data+" = ?", row)
				res := w.ask(cookie, func(t turn) {
					t.is("the session", t.err, session.ErrUndecodable)
					t.must(how, end(t))
				})
				var left int
				count := w.db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+layout.Table+" WHERE "+layout.Columns.ID+" = ?", layout.IDPrefix+sidA)
				w.must("SELECT", count.Scan(&left))
				ended := how != "nothing" && how != "others"
				if (left == 0) != ended || (res.StatusCode == http.StatusOK) != ended {
					t.Errorf("%s: %s: %s: status %d, %d rows", kind, row, how, res.StatusCode, left)
				}
				if login := how == "login" || how == "Regenerate" && kind == "express"; (w.row(sidB) != "") != login || strings.Contains(cookies(res), sidB) != login {
					t.Errorf("%s: %s: %s: stored is %s, the cookies are %s", kind, row, how, w.row(sidB), cookies(res))
				}
			}
		}
	}
}
