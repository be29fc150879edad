package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// setup is what a middleware is told, in both languages.
type setup struct {
	name    string
	node    string // JSON
	express nodestore.ExpressOptions
	koa     nodestore.KoaOptions
	flat    nodestore.KoaSessionOptions // of koa-session
	https   bool                        // a proxy in front says so
	// same takes out of what happened where Go differs on purpose.
	same func(string) string
}

var expressSetups = []setup{
	{name: "defaults", node: `{}`},
	{
		name: "maxAge", node: `{"cookie":{"maxAge":3600000}}`,
		express: nodestore.ExpressOptions{Cookie: nodestore.Cookie{MaxAge: time.Hour}},
	},
	{name: "rolling", node: `{"rolling":true}`, express: nodestore.ExpressOptions{Rolling: true}},
	{
		name: "rolling and maxAge", node: `{"rolling":true,"cookie":{"maxAge":3600000}}`,
		express: nodestore.ExpressOptions{Rolling: true, Cookie: nodestore.Cookie{MaxAge: time.Hour}},
	},
	{
		name: "resave and maxAge", node: `{"resave":true,"cookie":{"maxAge":3600000}}`,
		express: nodestore.ExpressOptions{Resave: true, Cookie: nodestore.Cookie{MaxAge: time.Hour}},
	},
	{name: "resave", node: `{"resave":true}`, express: nodestore.ExpressOptions{Resave: true}},
	{name: "saveUninitialized", node: `{"saveUninitialized":true}`, express: nodestore.ExpressOptions{SaveUninitialized: true}},
	{
		name: "all of these", node: `{"resave":true,"saveUninitialized":true,"rolling":true,"cookie":{"maxAge":3600000}}`,
		express: nodestore.ExpressOptions{Resave: true, SaveUninitialized: true, Rolling: true, Cookie: nodestore.Cookie{MaxAge: time.Hour}},
	},
	{name: "unset destroys", node: `{"unset":"destroy"}`, express: nodestore.ExpressOptions{DestroyUnset: true}},
	{
		name: "attributes", node: `{"name":"web","cookie":{"httpOnly":false,"sameSite":"strict","priority":"high","partitioned":true,"domain":"example.com"}}`,
		express: nodestore.ExpressOptions{Name: "web", Cookie: nodestore.Cookie{
			NotHTTPOnly: true, SameSite: "strict", Priority: "high", Partitioned: true, Domain: "example.com",
		}},
	},
	{
		name: "secure over HTTPS", node: `{"proxy":true,"cookie":{"secure":true,"sameSite":"strict"}}`, https: true,
		express: nodestore.ExpressOptions{TrustProxy: true, Cookie: nodestore.Cookie{Secure: nodestore.SecureAlways, SameSite: "strict"}},
	},
	{
		name: "secure over HTTP", node: `{"cookie":{"secure":true}}`,
		express: nodestore.ExpressOptions{Cookie: nodestore.Cookie{Secure: nodestore.SecureAlways}},
	},
	{
		name: "auto over HTTPS", node: `{"proxy":true,"cookie":{"secure":"auto","sameSite":"auto"}}`, https: true,
		express: nodestore.ExpressOptions{TrustProxy: true, Cookie: nodestore.Cookie{Secure: nodestore.SecureAuto, SameSite: "auto"}},
	},
	{
		name: "auto over HTTP", node: `{"proxy":true,"cookie":{"secure":"auto","sameSite":"auto"}}`,
		express: nodestore.ExpressOptions{TrustProxy: true, Cookie: nodestore.Cookie{Secure: nodestore.SecureAuto, SameSite: "auto"}},
	},
}

var koaSetups = []setup{
	{name: "defaults", node: `{}`},
	{
		name: "maxAge", node: `{"cookie":{"maxAge":3600000}}`,
		koa: nodestore.KoaOptions{Cookie: nodestore.Cookie{MaxAge: time.Hour}},
	},
	{
		name: "until the browser is closed", node: `{"cookie":{"maxAge":null}}`,
		koa: nodestore.KoaOptions{Cookie: nodestore.Cookie{MaxAge: -1}},
	},
	{name: "rolling", node: `{"rolling":true}`, koa: nodestore.KoaOptions{Rolling: true}},
	{name: "allowEmpty", node: `{"allowEmpty":true}`, koa: nodestore.KoaOptions{AllowEmpty: true}},
	{
		name: "unsigned", node: `{"cookie":{"signed":false}}`, koa: nodestore.KoaOptions{Unsigned: true},
		// Node clears a signature that never was, and has "signed" elsewhere.
		same: without(` \| koa\.sid\.sig=…; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT; httponly|"signed":false,`, ""),
	},
	{
		name: "attributes", node: `{"key":"web","cookie":{"httpOnly":false,"domain":"example.com","sameSite":"lax"}}`,
		koa: nodestore.KoaOptions{Name: "web", Cookie: nodestore.Cookie{NotHTTPOnly: true, SameSite: "lax", Domain: "example.com"}},
		// Node forgets the domain when it clears the cookie, which has no effect then.
		same: without(`(GMT); domain=example\.com; httponly`, "$1; httponly"),
	},
	{
		name: "secure over HTTPS", node: `{"proxy":true,"cookie":{"secure":true}}`, https: true,
		koa: nodestore.KoaOptions{TrustProxy: true, Cookie: nodestore.Cookie{Secure: nodestore.SecureAlways}},
	},
	{name: "HTTPS", node: `{"proxy":true}`, https: true, koa: nodestore.KoaOptions{TrustProxy: true}},
}

var koaSessionSetups = []setup{
	{
		name: "defaults", node: `{}`,
		// Node sends the cookie that begins a session without an end.
		same: without(`; expires;`, ";"),
	},
	{
		name: "maxAge", node: `{"maxAge":3600000}`,
		flat: nodestore.KoaSessionOptions{Cookie: nodestore.Cookie{MaxAge: time.Hour}},
	},
	{
		name: "rolling", node: `{"rolling":true,"maxAge":3600000}`,
		flat: nodestore.KoaSessionOptions{Rolling: true, Cookie: nodestore.Cookie{MaxAge: time.Hour}},
	},
	{
		name: "renew", node: `{"renew":true,"maxAge":3600000}`,
		flat: nodestore.KoaSessionOptions{Renew: true, Cookie: nodestore.Cookie{MaxAge: time.Hour}},
	},
	{
		name: "unsigned", node: `{"signed":false,"maxAge":3600000}`,
		flat: nodestore.KoaSessionOptions{Unsigned: true, Cookie: nodestore.Cookie{MaxAge: time.Hour}},
	},
	{
		name: "attributes", node: `{"key":"web","httpOnly":false,"domain":"example.com","path":"/","sameSite":"lax","maxAge":3600000}`,
		flat: nodestore.KoaSessionOptions{Name: "web", Cookie: nodestore.Cookie{MaxAge: time.Hour, NotHTTPOnly: true, SameSite: "lax", Domain: "example.com"}},
	},
	{
		name: "secure over HTTPS", node: `{"proxy":true,"secure":true,"maxAge":3600000}`, https: true,
		flat: nodestore.KoaSessionOptions{TrustProxy: true, Cookie: nodestore.Cookie{MaxAge: time.Hour, Secure: nodestore.SecureAlways}},
	},
	{
		name: "HTTPS", node: `{"proxy":true,"maxAge":3600000}`, https: true,
		flat: nodestore.KoaSessionOptions{TrustProxy: true, Cookie: nodestore.Cookie{MaxAge: time.Hour}},
	},
}

func without(pattern, with string) func(string) string {
	re := regexp.MustCompile(pattern)
	return func(s string) string { return re.ReplaceAllString(s, with) }
}

// visit is what a browser asks for, one after the other.
var visit = []string{
	"GET /show",
	"POST /login?user=ann",
	"GET /show",
	"POST /change?key=x&value=1",
	"POST /change?key=x&value=1", // no change
	"POST /touch",
	"POST /login?user=bob",
	"POST /logout",
	"GET /show",
	"POST /login?user=ann",
	"POST /unset",
	"GET /show",
}

// TestMiddlewaresDoTheSame sends the same requests to Node and to Go and
// compares what is answered, stored and touched.
func TestMiddlewaresDoTheSame(t *testing.T) {
	t.Parallel()
	for _, k := range onePerMiddleware() {
		setups := expressSetups
		switch {
		case k.does.flat:
			setups = koaSessionSetups
		case k.does.koa:
			setups = koaSetups
		}
		t.Run(k.frameworks()[0], func(t *testing.T) {
			t.Parallel()
			needNode(t)
			db := k.database(t)
			inNode := map[string]nodeApp{}
			for i, s := range setups {
				inNode[fmt.Sprint(i)] = nodeApp{k.frameworks()[0], []string{"secret"}, json.RawMessage(s.node)}
			}
			apps := startApps(t, k, db, inNode)
			store := openStore(t, db.open(t), k.layout, k.options())
			for i, s := range setups {
				t.Run(s.name, func(t *testing.T) { doTheSame(t, k, s, apps[fmt.Sprint(i)], store) })
			}
		})
	}
}

func doTheSame(t *testing.T, k kind, s setup, inNode http.Handler, store *nodestore.Store) {
	var inGo http.Handler
	switch {
	case k.does.flat:
		s.flat.Keys = session.Secrets("secret")
		inGo = goKoaSession(t, store, s.flat)
	case k.does.koa:
		s.koa.Keys = session.Secrets("secret")
		inGo = goKoa(t, store, s.koa)
	default:
		s.express.Secrets = session.Secrets("secret")
		inGo = goExpress(t, store, s.express)
	}
	node, golang := newVisitor(inNode, s.https, store), newVisitor(inGo, s.https, store)
	for i, request := range visit {
		got, want := golang.send(t, request), node.send(t, request)
		if s.same != nil {
			got, want = s.same(got), s.same(want)
		}
		if got != want {
			t.Errorf("request %d, %s\nGo:   %s\nNode: %s", i+1, request, got, want)
		}
	}
}

// visitor is a browser that tells all that happens to its session.
type visitor struct {
	app     http.Handler
	https   bool
	store   *nodestore.Store
	cookies map[string]string
	aged    string // the date in the documents that nobody has written since
}

func newVisitor(app http.Handler, https bool, store *nodestore.Store) *visitor {
	return &visitor{app: app, https: https, store: store, cookies: map[string]string{}}
}

// send sends a request and returns what came of it, without what differs each
// time.
func (v *visitor) send(t testing.TB, request string) string {
	t.Helper()
	v.age(t)
	method, path, _ := strings.Cut(request, " ")
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for _, name := range slices.Sorted(maps.Keys(v.cookies)) {
		r.Header.Add("Cookie", name+"="+v.cookies[name])
	}
	if joined := strings.Join(r.Header.Values("Cookie"), "; "); joined != "" {
		r.Header.Set("Cookie", joined)
	}
	if v.https {
		r.Header.Set("X-Forwarded-Proto", "https")
	}
	before := v.sid()
	w := httptest.NewRecorder()
	v.app.ServeHTTP(w, r)
	told := []string{fmt.Sprint(w.Code)}
	for _, line := range w.Header().Values("Set-Cookie") {
		name, rest, _ := strings.Cut(line, "=")
		value, _, _ := strings.Cut(rest, ";")
		v.cookies[name] = value
		if strings.Contains(line, "1970") {
			delete(v.cookies, name)
		}
		line = cookieDate.ReplaceAllStringFunc(line, func(date string) string {
			if strings.Contains(date, "1970") {
				return date
			}
			return "expires"
		})
		told = append(told, strings.Replace(line, "="+value, "="+mask(value), 1))
	}
	if after := v.sid(); after != before {
		told = append(told, "another session")
		if before != "" {
			told = append(told, "before: "+v.row(t, before))
		}
	}
	return strings.Join(append(told, v.row(t, v.sid())), " | ")
}

func mask(value string) string {
	if value == "" {
		return ""
	}
	return "…"
}

// soon is how long a session lives that nobody has touched since.
const soon = 10 * time.Minute

// age has the session expire soon, in its document too, so that the next touch
// and the next write show.
func (v *visitor) age(t testing.TB) {
	t.Helper()
	sid := v.sid()
	if sid == "" {
		return
	}
	e, err := v.store.Get(t.Context(), sid)
	if errors.Is(err, session.ErrNotFound) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(soon)
	v.aged = expires.UTC().Format("2006-01-02T15:04:05.000Z")
	data := isoDate.ReplaceAll(e.Data, []byte(v.aged))
	if ends.Match(data) {
		v.aged = fmt.Sprintf(`"_expire":%d`, expires.Add(-10*time.Second).UnixMilli())
		data = ends.ReplaceAll(data, []byte(v.aged))
	}
	if err := v.store.Set(t.Context(), sid, data, nodestore.ExpiresAt(expires)); err != nil {
		t.Fatal(err)
	}
}

// row tells what the table has of a session.
func (v *visitor) row(t testing.TB, sid string) string {
	t.Helper()
	if sid == "" {
		return "no ID"
	}
	e, err := v.store.Get(t.Context(), sid)
	if errors.Is(err, session.ErrNotFound) {
		return "no row"
	}
	if err != nil {
		t.Fatal(err)
	}
	expiry := "touched"
	if time.Until(e.Expires) < soon+time.Minute {
		expiry = "not touched"
	}
	data := almostAnHour.ReplaceAllString(string(e.Data), "$1:3600000")
	return expiry + " " + written.ReplaceAllStringFunc(data, func(date string) string {
		if date == v.aged {
			return "not written"
		}
		return "written"
	})
}

// almostAnHour is what express-session makes of an hour when its clock ticks
// between the two calls with which it measures that.
var almostAnHour = regexp.MustCompile(`("originalMaxAge"):35999\d\d\b`)

// ends is what koa-session keeps of a session's end; written finds it and what
// the others keep.
var (
	ends    = regexp.MustCompile(`"_expire":\d+`)
	written = regexp.MustCompile(isoDate.String() + "|" + ends.String())
)

var isoDate = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)

// sid is what the cookie says.
func (v *visitor) sid() string {
	for name, value := range v.cookies {
		if strings.HasSuffix(name, ".sig") {
			continue
		}
		if escaped, signed := strings.CutPrefix(value, "s%3A"); signed {
			sid, _, _ := strings.Cut(escaped, ".")
			if plain, err := url.PathUnescape(sid); err == nil {
				return plain
			}
		}
		return value
	}
	return ""
}
