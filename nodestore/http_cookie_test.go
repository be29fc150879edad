package nodestore_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// goldenCookies are what the Node packages made.
type goldenCookies struct {
	Cookies struct {
		Express struct {
			Examples []struct {
				SID, Secret string
				Decoded     string `json:"cookie_value_decoded"`
				Wire        string `json:"cookie_value_on_the_wire"`
			}
			Rotation struct {
				Secrets            []string
				SID                string
				Accepted, Rejected []string
			}
			Full struct {
				Secret, Name string
				SetCookie    string `json:"set_cookie"`
				Stored       string `json:"stored_session"`
			} `json:"full_set_cookie"`
		} `json:"express_session"`
		Koa struct {
			Examples []struct {
				Name                string `json:"cookie_name"`
				SID, Key, Signature string
			}
		} `json:"koa_generic_session"`
	}
	Foreign struct {
		Cases []struct{ Payload, Result string }
	} `json:"foreign_rows_read_by_express_session"`
}

func golden(t testing.TB) (g goldenCookies) {
	t.Helper()
	text, err := os.ReadFile("testdata/golden.json")
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	if err != nil || len(g.Cookies.Express.Examples) == 0 || len(g.Cookies.Koa.Examples) == 0 || len(g.Foreign.Cases) == 0 {
		t.Fatal("no golden cookies:", err)
	}
	return g
}

func TestGoldenExpressCookiesAreVerifiedAndMade(t *testing.T) {
	t.Parallel()
	g := golden(t).Cookies.Express
	for _, e := range g.Examples {
		for what, header := range map[string]string{
			"on the wire": "connect.sid=" + e.Wire, "among others": "a=1; connect.sid=" + e.Wire + "; b=2", "in quotes": `connect.sid="` + e.Wire + `"`,
			"with blanks": " \tconnect.sid =\t " + e.Wire + " ;", "first of two": "connect.sid=" + e.Wire + "; connect.sid=x",
		} {
			if sid, given := nodestore.ReadExpress(header, "connect.sid", e.Secret); sid != e.SID || !given {
				t.Errorf("%s: the sid of %s is %q; want %q", what, header, sid, e.SID)
			}
		}
		if !strings.ContainsAny(e.Decoded, " ;,") { // which cannot be in a cookie
			if sid, _ := nodestore.ReadExpress("connect.sid="+e.Decoded, "connect.sid", e.Secret); sid != e.SID {
				t.Errorf("not escaped: the sid of %s is %q; want %q", e.Decoded, sid, e.SID)
			}
		}
		if got := nodestore.ExpressValue(e.Secret, e.SID); got != e.Wire {
			t.Errorf("%q becomes %s; want %s", e.SID, got, e.Wire)
		}
		// The name is not signed.
		if sid, _ := nodestore.ReadExpress("other="+e.Wire, "other", e.Secret); sid != e.SID {
			t.Errorf("under another name the sid is %q", sid)
		}
	}
	for _, value := range g.Rotation.Accepted {
		if sid, _ := nodestore.ReadExpress("connect.sid="+value, "connect.sid", g.Rotation.Secrets...); sid != g.Rotation.SID {
			t.Errorf("%s is refused", value)
		}
	}
	for _, value := range g.Rotation.Rejected {
		if sid, given := nodestore.ReadExpress("connect.sid="+value, "connect.sid", g.Rotation.Secrets...); sid != "" || !given {
			t.Errorf("%s is accepted", value)
		}
	}
}

func TestTheGoldenCookieWithAllAttributesIsMade(t *testing.T) {
	t.Parallel()
	g := golden(t).Cookies.Express.Full
	w := express(t, "fake", nodestore.ExpressOptions{
		Name: g.Name, Secrets: session.Secrets(g.Secret), GenerateID: func(*http.Request) (string, error) { return sidA, nil },
		Cookie: nodestore.Cookie{MaxAge: 60e9, Domain: "example.com", Secure: nodestore.SecureAlways, SameSite: "lax", Priority: "high", Partitioned: true},
	})
	if got := cookies(w.ask("", sets("user", "zoe"))); got != g.SetCookie {
		t.Errorf("the answer sets\n%s; want\n%s", got, g.SetCookie)
	}
	w.has(sidA, g.Stored)
}

func TestHostileExpressCookiesOpenNothing(t *testing.T) {
	t.Parallel()
	const value = "s%3AEf7mJ0aV3kQ-xw_9LzTgYcB2NdR5sHpU.A6XpXohwz%2FxtqdhuyYmfviip%2F9EDInd4wQHE6%2BmAr6U"
	plain, _ := url.PathUnescape(value)
	if sid, _ := nodestore.ReadExpress("connect.sid="+value, "connect.sid", "old", secret); sid != sidA {
		t.Fatalf("the genuine cookie is refused: %q", sid)
	}
	for what, header := range map[string]string{
		"empty":                            "connect.sid=",
		"not signed":                       "connect.sid=" + sidA,
		"not signed, prefix":               "connect.sid=s%3A" + sidA,
		"empty signature":                  "connect.sid=s%3A" + sidA + ".",
		"signature of an empty sid":        "connect.sid=" + nodestore.ExpressValue(secret, ""),
		"without the prefix":               "connect.sid=" + value[4:],
		"upper case prefix":                "connect.sid=S%3A" + value[4:],
		"truncated":                        "connect.sid=" + value[:len(value)-1],
		"longer":                           "connect.sid=" + value + "A",
		"padded":                           "connect.sid=" + value + "%3D",
		"last character of the same bytes": "connect.sid=" + value[:len(value)-1] + "V",
		"base64url":                        "connect.sid=" + strings.NewReplacer("%2F", "_", "%2B", "-").Replace(value),
		"another's sid":                    "connect.sid=" + strings.Replace(value, sidA, sidB, 1),
		"doubled value":                    "connect.sid=" + value + value,
		"second of two":                    "connect.sid=x; connect.sid=" + value,
		"second, the first empty":          "connect.sid=; connect.sid=" + value,
		"second, the first in quotes":      `connect.sid="; connect.sid=` + value,
		"another name":                     "connect.sidx=" + value,
		"the name escaped":                 "connect%2Esid=" + value,
		"the name in upper case":           "CONNECT.SID=" + value,
		"escaped twice":                    "connect.sid=" + url.QueryEscape(value),
		"undecodable in part":              "connect.sid=" + value + "%",
		"undecodable UTF-8":                "connect.sid=%FF" + value,
		"overlong UTF-8":                   "connect.sid=" + strings.Replace(value, "s%3A", "s%C0%BA", 1),
		"a NUL":                            "connect.sid=" + strings.Replace(value, "Hp", "%00Hp", 1),
		"a NUL at the end":                 "connect.sid=" + value + "%00",
		"invalid bytes":                    "connect.sid=" + value + "\xff",
		"8 KB":                             "connect.sid=" + strings.Repeat("A", 8<<10) + "." + value,
		"signed 20 KB":                     "connect.sid=" + nodestore.ExpressValue(secret, strings.Repeat("A", 20<<10)),
		"1 MB of dots":                     "connect.sid=s:" + strings.Repeat(".", 1<<20),
		"1 MB of escapes":                  "connect.sid=" + strings.Repeat("%2E", 1<<18),
		"1 MB of quotes":                   "connect.sid=" + strings.Repeat(`"`, 1<<20),
		"many pairs":                       strings.Repeat("a=b;", 1<<16) + "connect.sid",
		"one quote":                        `connect.sid="`,
		"no value":                         "connect.sid",
		"nothing":                          "",
		"semicolons":                       ";;=;=;;",
		"a quoted semicolon":               `connect.sid="` + plain[:9] + `;` + plain[9:] + `"`,
	} {
		if sid, _ := nodestore.ReadExpress(header, "connect.sid", "old", secret); sid != "" {
			t.Errorf("%s: a sid of %d bytes is accepted", what, len(sid))
		}
	}
	if sid, _ := nodestore.ReadExpress("connect.sid="+nodestore.ExpressValue(secret, strings.Repeat("A", 8<<10)), "connect.sid", secret); len(sid) != 8<<10 {
		t.Errorf("a genuine sid of 8 KB becomes one of %d bytes", len(sid))
	}
	// What decodeURIComponent refuses is taken as it is.
	for _, sid := range []string{"%FF", "%C3%28", "%E9", "%C0%AF", "%ED%A0%80", "%F4%90%80%80", "%C3x", "%"} {
		raw, _ := url.PathUnescape(nodestore.ExpressValue(secret, sid))
		if got, _ := nodestore.ReadExpress("connect.sid="+raw, "connect.sid", secret); got != sid {
			t.Errorf("%q becomes %q", raw, got)
		}
	}
	if sid, _ := nodestore.ReadExpress("connect.sid="+nodestore.ExpressValue(secret, "a\x00é\U0001F680"), "connect.sid", secret); sid != "a\x00é\U0001F680" {
		t.Errorf("a genuine sid with other characters becomes %q", sid)
	}
}

// Express reads all lines of the header, and what net/http would skip.
func TestTheFirstCookieCountsWhereNetHTTPSeesNone(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, plainRow)
	for what, lines := range map[string][]string{
		"two lines": {"a=b", cookieA}, "after what net/http refuses": {"a b=c\"d; " + cookieA}, "blanks around the name": {"connect.sid =" + cookieA[len("connect.sid="):]},
	} {
		r, _ := http.NewRequest(http.MethodGet, "/", nil)
		r.Header["Cookie"] = lines
		w.serve(r, func(t turn) {
			if reads(t); t.s.SID() != sidA {
				t.Errorf("%s: the session is not found", what)
			}
		})
	}
	// net/http skips the first of these, for its backslash.
	r, _ := http.NewRequest(http.MethodGet, "/", nil)
	r.Header["Cookie"] = []string{`connect.sid=a\b; ` + cookieA}
	w.serve(r, func(t turn) {
		if reads(t); !t.s.IsNew() {
			t.Error("the second cookie is used")
		}
	})
}

func TestGoldenKoaCookiesAreVerifiedAndMade(t *testing.T) {
	t.Parallel()
	for _, e := range golden(t).Cookies.Koa.Examples {
		if got := nodestore.SignKoa(e.Key, e.Name, e.SID); got != e.Signature {
			t.Errorf("%q is signed %s; want %s", e.SID, got, e.Signature)
		}
		header := fmt.Sprintf("%s.sig=%s; a=1;   %s=%s", e.Name, e.Signature, e.Name, e.SID)
		if sid, given, wrong, old := nodestore.ReadKoa(header, e.Name, e.Key); sid != e.SID || !given || wrong || old {
			t.Errorf("the sid of %s is %q; want %q", header, sid, e.SID)
		}
		if sid, _, _, old := nodestore.ReadKoa(header, e.Name, "newer", "new", e.Key); sid != e.SID || !old {
			t.Errorf("by an old key the sid of %s is %q", header, sid)
		}
		if _, _, wrong, _ := nodestore.ReadKoa(header, e.Name, "other"); !wrong {
			t.Errorf("by another key %s is accepted", header)
		}
	}
}

func TestHostileKoaCookiesOpenNothing(t *testing.T) {
	t.Parallel()
	const sig = "a3lvbmv1nX6KojJoaLZSIUlB8s4"
	for what, header := range map[string]string{
		"not signed":               "koa.sid=" + sidA,
		"empty signature":          "koa.sid=" + sidA + "; koa.sid.sig=",
		"no sid":                   "koa.sid.sig=" + sig,
		"truncated":                "koa.sid=" + sidA + "; koa.sid.sig=" + sig[:26],
		"longer":                   "koa.sid=" + sidA + "; koa.sid.sig=" + sig + "A",
		"padded":                   "koa.sid=" + sidA + "; koa.sid.sig=" + sig + "=",
		"same bytes":               "koa.sid=" + sidA + "; koa.sid.sig=" + sig[:26] + "5",
		"another's sid":            "koa.sid=" + sidB + "; koa.sid.sig=" + sig,
		"second of two":            "koa.sid=x; koa.sid=" + sidA + "; koa.sid.sig=" + sig,
		"second signature":         "koa.sid=" + sidA + "; koa.sid.sig=x; koa.sid.sig=" + sig,
		"signature of another one": "koa.sid=" + sidA + "; koa.sid.sig=" + nodestore.SignKoa(koaKey, "other", sidA),
		"a blank after the value":  "koa.sid=" + sidA + " ; koa.sid.sig=" + sig,
		"a tab before the name":    "a=1;\tkoa.sid=" + sidA + "; koa.sid.sig=" + sig,
		"a blank before the =":     "koa.sid =" + sidA + "; koa.sid.sig=" + sig,
		"another name":             "koaxsid=" + sidA + "; koa.sid.sig=" + sig,
		"escaped":                  "koa.sid=%45" + sidA[1:] + "; koa.sid.sig=" + sig,
		"one quote":                `koa.sid="; koa.sid.sig=` + sig,
		"8 KB":                     "koa.sid=" + strings.Repeat("A", 8<<10) + "; koa.sid.sig=" + sig,
		"1 MB":                     "koa.sid=" + strings.Repeat(`"`, 1<<20) + "; koa.sid.sig=" + strings.Repeat(`"`, 1<<20),
		"invalid bytes":            "koa.sid=" + sidA + "\xff; koa.sid.sig=" + sig,
		"a NUL":                    "koa.sid=" + sidA + "\x00; koa.sid.sig=" + sig,
		"nothing":                  "",
	} {
		if sid, _, _, _ := nodestore.ReadKoa(header, "koa.sid", "new", koaKey); sid != "" {
			t.Errorf("%s: a sid of %d bytes is accepted", what, len(sid))
		}
	}
	for _, header := range []string{koaA, `koa.sid="` + sidA + `"; koa.sid.sig="` + sig + `"`, `koa.sid="` + sidA + `x; koa.sid.sig="` + sig + `x`} {
		if sid, _, _, _ := nodestore.ReadKoa(header, "koa.sid", "new", koaKey); sid != sidA {
			t.Errorf("%s is refused", header)
		}
	}
}

func TestForeignRowsAreReadAsExpressReadsThem(t *testing.T) {
	t.Parallel()
	for _, c := range golden(t).Foreign.Cases {
		w := express(t, "sqlite", nodestore.ExpressOptions{})
		w.node(sidA, c.Payload)
		res := w.ask(cookieA, func(t turn) {
			if t.err == nil {
				if user, err := nodestore.Value[string](t.s, "user"); user != "x" || err != nil {
					t.Errorf("%s: the user is %q, %v", c.Payload, user, err)
				}
			}
		})
		if want := c.Result[len("HTTP "):][:3]; fmt.Sprint(res.StatusCode) != want {
			t.Errorf("%s: status %d; want %s", c.Payload, res.StatusCode, want)
		}
		w.has(sidA, c.Payload)
	}
}

// The cookie and the row are what express 3.21.2, which is connect 2, made.
func TestExpress3HasTheSameCookiesAndRows(t *testing.T) {
	t.Parallel()
	const sid, row = "iL1jDkIZnCaBtNUszLvlFRTfARtU18hz", `{"cookie":{"originalMaxAge":86400000,"expires":"2030-01-01T22:46:22.313Z","httpOnly":true,"path":"/"},"user":"x"}`
	w := express(t, "sqlite", nodestore.ExpressOptions{})
	w.node(sid, row)
	w.ask("connect.sid=s%3AiL1jDkIZnCaBtNUszLvlFRTfARtU18hz.CqnkcdGZwNAYGxiWl1HbYppjVEcGL212AiqFRoroypk", func(t turn) {
		if user, err := nodestore.Value[string](t.s, "user"); user != "x" || err != nil {
			t.Errorf("the user is %q, %v", user, err)
		}
	})
}

// What stands in a row may be anything, and must not get into a header. It only
// matters to a request whose answer has that cookie.
func TestARowWithAnImpossibleCookieFailsOnlyItsCookieLine(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		still := express(t, backend, nodestore.ExpressOptions{})
		rolls := express(t, backend, nodestore.ExpressOptions{Rolling: true, DestroyUnset: true})
		for _, cookie := range []string{
			`{"domain":"a.example;HttpOnly"}`, `{"domain":"a.example\r\nX: y"}`, `{"domain":"my_host.example"}`, `{"domain":"localhost:3000"}`, `{"domain":[]}`, `{"path":"/;"}`, `{"path":"/\n"}`, `{"path":"/é"}`,
			`{"sameSite":"sometimes"}`, `{"sameSite":"auto"}`, `{"sameSite":1}`, `{"priority":"top"}`, `{"priority":true}`, `{"originalMaxAge":"soon"}`, `{"originalMaxAge":1e400}`, `{"originalMaxAge":1e16}`, `{"originalMaxAge":[]}`,
		} {
			row := `{"cookie":` + cookie + `,"views":1}`
			begin := func(w *web) *web {
				_, err := w.store.Destroy(t.Context(), sidB)
				w.must("Destroy", err)
				w.must("Set", w.store.Set(t.Context(), sidA, []byte(row), nodestore.ExpiresAt(frozen.Add(time.Hour))))
				return w
			}
			w := begin(still)
			if res := w.ask(cookieA, reads); res.StatusCode != http.StatusOK || cookies(res) != "" || w.told() != "" {
				t.Errorf("%s is read: status %d, cookies %q", row, res.StatusCode, cookies(res))
			}
			w.has(sidA, row)
			w = begin(rolls)
			if res := w.ask(cookieA, reads); res.StatusCode != http.StatusInternalServerError || cookies(res) != "" {
				t.Errorf("%s, rolling: status %d, cookies %q", row, res.StatusCode, cookies(res))
			}
			for how, end := range map[string]func(turn) error{
				"Destroy":    func(t turn) error { return t.s.Destroy(t.ctx()) },
				"Regenerate": func(t turn) error { return t.s.Regenerate(t.ctx()) },
				"Unset":      func(t turn) error { return t.s.Unset() },
			} {
				w := begin(rolls)
				res := w.ask(cookieA, func(t turn) { t.must(how, end(t)) })
				if w.row(sidA) != "" || res.StatusCode != http.StatusOK {
					t.Errorf("%s: %s: status %d, the row is %s", row, how, res.StatusCode, w.row(sidA))
				}
			}
			// Saved is also what has no end.
			if strings.Contains(cookie, "originalMaxAge") {
				continue
			}
			w = begin(still)
			if res := w.ask(cookieA, sets("views", 2)); res.StatusCode != http.StatusOK || w.row(sidA) != strings.TrimSuffix(row, "1}")+"2}" {
				t.Errorf("%s is saved: status %d, %s", row, res.StatusCode, w.row(sidA))
			}
		}
	})
}

func TestSetCookieLinesOfOddRows(t *testing.T) {
	t.Parallel()
	for cookie, want := range map[string]string{
		`{"sameSite":true,"httpOnly":0,"secure":1,"path":null,"originalMaxAge":1000.9}`: cookieA + "; Expires=Tue, 01 Jan 2030 00:00:01 GMT; Secure; SameSite=Strict",
		`{"sameSite":"NONE","priority":"LOW","httpOnly":"yes","secure":"","domain":""}`: cookieA + "; Path=/; HttpOnly; Priority=Low; SameSite=None",
	} {
		w := express(t, "fake", nodestore.ExpressOptions{Rolling: true})
		w.node(sidA, `{"cookie":`+cookie+`}`)
		if got := cookies(w.ask(cookieA, reads)); got != want {
			t.Errorf("the cookie of %s is\n%s; want\n%s", cookie, got, want)
		}
	}
}

// FuzzExpressCookie gives whole Cookie headers to the parser. An "@" in them
// stands for the genuine value, which no fuzzer can guess; a "#" for the same
// without escapes.
func FuzzExpressCookie(f *testing.F) {
	for _, header := range []string{
		"", "@", "connect.sid=@", "connect.sid=#", `connect.sid="@"`, "connect.sid=@; connect.sid=x", "connect.sid=x; connect.sid=@", "connect.sid = @ ", "connect.sid=@%", "connect.sid=%@",
		"connect.sid=@x", "connect.sid=s:@", "connect.sid=s%3A.@", "=@", ";", `connect.sid="`, "connect.sid=%C3", "connect.sid=\xff", "connect.sid=%00@", "a;b=c;connect.sid=@", "connect.sid=%E2%82", "connect.sid=%F0%9F%9A%80.",
	} {
		f.Add(header)
	}
	value := nodestore.ExpressValue(secret, sidA)
	plain, err := url.PathUnescape(value)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header string) {
		genuine := strings.ContainsAny(header, "@#")
		header = strings.NewReplacer("@", value, "#", plain).Replace(header)
		sid, given := nodestore.ReadExpress(header, "connect.sid", "other", secret)
		switch {
		case sid != "" && (sid != sidA || !genuine || !given):
			t.Errorf("%q opens %q", header, sid)
		case given && !strings.Contains(header, "connect.sid"):
			t.Errorf("%q has no such cookie", header)
		}
		if strings.HasPrefix(header, "connect.sid=") {
			first, _, _ := strings.Cut(header[len("connect.sid="):], ";")
			if first == value && sid != sidA {
				t.Errorf("%q is refused", header)
			}
		}
	})
}

// FuzzKoaCookie is FuzzExpressCookie with "@" for the sid and "#" for its
// signature.
func FuzzKoaCookie(f *testing.F) {
	for _, header := range []string{
		"", "koa.sid=@; koa.sid.sig=#", "koa.sid.sig=#;koa.sid=@", `koa.sid="@"; koa.sid.sig="#"`, "koa.sid=@", "koa.sid=x; koa.sid=@; koa.sid.sig=#", "koa.sid=@ ; koa.sid.sig=#", `koa.sid="`, "koa.sid=; koa.sid.sig=#", "koa.sid=@\xff; koa.sid.sig=#", "koa.sid=@; koa.sid.sig=#=",
	} {
		f.Add(header)
	}
	sig := nodestore.SignKoa(koaKey, "koa.sid", sidA)
	f.Fuzz(func(t *testing.T, header string) {
		genuine := strings.Contains(header, "@") && strings.Contains(header, "#")
		header = strings.NewReplacer("@", sidA, "#", sig).Replace(header)
		sid, given, wrong, _ := nodestore.ReadKoa(header, "koa.sid", "other", koaKey)
		switch {
		case sid != "" && (sid != sidA || !genuine || !given || wrong):
			t.Errorf("%q opens %q", header, sid)
		case sid == "" && strings.HasPrefix(header, "koa.sid="+sidA+"; koa.sid.sig="+sig+";"):
			t.Errorf("%q is refused", header)
		}
	})
}
