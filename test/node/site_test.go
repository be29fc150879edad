package node

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// site is one origin with several apps behind it, by the first part of the
// path.
type site struct {
	url  *url.URL
	apps []string
}

func newSite(t testing.TB, apps map[string]http.Handler) *site {
	t.Helper()
	mux := http.NewServeMux()
	for name, app := range apps {
		mux.Handle("/"+name+"/", http.StripPrefix("/"+name, app))
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &site{u, slices.Sorted(maps.Keys(apps))}
}

// nodeApp is an app in Node.
type nodeApp struct {
	Framework string   `json:"framework"`
	Secrets   []string `json:"secrets"`
	Session   any      `json:"session"` // options of the middleware
}

// startApps has Node serve apps and returns proxies to them.
func startApps(t testing.TB, k kind, db database, apps map[string]nodeApp) map[string]http.Handler {
	t.Helper()
	config := k.config(db)
	config["apps"] = apps
	node := useHub(t)
	number, _ := node.open(t, "apps", config)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	proxies := map[string]http.Handler{}
	for name := range apps {
		to := &url.URL{Scheme: "http", Host: fmt.Sprint("127.0.0.1:", node.port), Path: fmt.Sprintf("/%d/%s", number, name)}
		proxies[name] = &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Header["X-Forwarded-Proto"] = r.In.Header["X-Forwarded-Proto"]
		}}
	}
	return proxies
}

// frameworks are what the kind's package works with.
func (k kind) frameworks() []string {
	switch {
	case k.does.flat:
		return []string{"koa-session"}
	case k.does.koa:
		return []string{"koa"}
	}
	return []string{"express-4", "express-5"}
}

// maxAge is what the apps give their sessions, in Node and in Go.
const maxAge = time.Hour

func (k kind) maxAgeInNode() map[string]any {
	option := map[string]any{"maxAge": maxAge.Milliseconds()}
	if k.does.flat {
		return option
	}
	return map[string]any{"cookie": option}
}

// goApp is the same app with package nodestore.
func goApp(t testing.TB, k kind, db database, secrets ...string) http.Handler {
	t.Helper()
	store := openStore(t, db.open(t), k.layout, k.options())
	cookie := nodestore.Cookie{MaxAge: maxAge}
	switch {
	case k.does.flat:
		return goKoaSession(t, store, nodestore.KoaSessionOptions{Keys: session.Secrets(secrets...), Cookie: cookie})
	case k.does.koa:
		return goKoa(t, store, nodestore.KoaOptions{Keys: session.Secrets(secrets...), Cookie: cookie})
	}
	return goExpress(t, store, nodestore.ExpressOptions{Secrets: session.Secrets(secrets...), Cookie: cookie})
}

func goExpress(t testing.TB, store *nodestore.Store, opts nodestore.ExpressOptions) http.Handler {
	t.Helper()
	opts.User = []string{"user"}
	m, err := nodestore.NewExpress(store, opts)
	if err != nil {
		t.Fatal(err)
	}
	return m.Handler(goRoutes(t))
}

func goKoa(t testing.TB, store *nodestore.Store, opts nodestore.KoaOptions) http.Handler {
	t.Helper()
	opts.User = []string{"user"}
	m, err := nodestore.NewKoa(store, opts)
	if err != nil {
		t.Fatal(err)
	}
	return m.Handler(goRoutes(t))
}

func goKoaSession(t testing.TB, store *nodestore.Store, opts nodestore.KoaSessionOptions) http.Handler {
	t.Helper()
	opts.User = []string{"user"}
	m, err := nodestore.NewKoaSession(store, opts)
	if err != nil {
		t.Fatal(err)
	}
	return m.Handler(goRoutes(t))
}

func goRoutes(t testing.TB) http.Handler {
	routes := map[string]func(http.ResponseWriter, *http.Request, *nodestore.Session) error{
		"POST /login": func(w http.ResponseWriter, r *http.Request, s *nodestore.Session) error {
			if err := s.Regenerate(r.Context()); err != nil {
				return err
			}
			return s.Set("user", r.FormValue("user"))
		},
		"POST /change": func(w http.ResponseWriter, r *http.Request, s *nodestore.Session) error {
			return s.Set(r.FormValue("key"), r.FormValue("value"))
		},
		"GET /show": func(w http.ResponseWriter, r *http.Request, s *nodestore.Session) error {
			values := map[string]json.RawMessage{}
			for _, key := range s.Keys() {
				values[key] = s.Raw(key)
			}
			return json.NewEncoder(w).Encode(values)
		},
		"POST /touch": func(http.ResponseWriter, *http.Request, *nodestore.Session) error { return nil },
		"POST /logout": func(w http.ResponseWriter, r *http.Request, s *nodestore.Session) error {
			return s.Destroy(r.Context())
		},
		"POST /unset": func(w http.ResponseWriter, r *http.Request, s *nodestore.Session) error { return s.Unset() },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := nodestore.FromContext(r.Context())
		route := r.Method + " " + r.URL.Path
		switch {
		case err != nil:
			t.Errorf("%s: no session: %v", route, err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		case route != "POST /login" && s.User() == "":
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if err := routes[route](w, r, s); err != nil {
			t.Errorf("%s: %v", route, err)
			w.WriteHeader(http.StatusInternalServerError)
		} else if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusNoContent)
		}
	})
}

// browser keeps the cookies of one visitor. It may be used from several
// goroutines, but for what ends the test.
type browser struct {
	site   *site
	client *http.Client
}

func (s *site) browser(t testing.TB) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{s, &http.Client{Jar: jar, Transport: transport, Timeout: patience}}
}

// cookies returns what the browser would send, in the order of names.
func (b *browser) cookies() []*http.Cookie {
	all := b.client.Jar.Cookies(b.site.url)
	slices.SortFunc(all, func(x, y *http.Cookie) int { return strings.Compare(x.Name, y.Name) })
	return all
}

// send sends a request to an app.
func (b *browser) send(app, method, path string) (status int, header http.Header, body []byte, err error) {
	req, err := http.NewRequest(method, b.site.url.String()+"/"+app+path, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, body, err
}

// post fails the test unless it succeeds.
func (b *browser) post(t testing.TB, app, path string, query ...string) http.Header {
	t.Helper()
	status, header, body, err := b.send(app, http.MethodPost, path+encoded(query))
	if err != nil || status/100 != 2 {
		t.Fatalf("POST %s on %s: %d %s %v", path, app, status, short(body), err)
	}
	return header
}

func encoded(query []string) string {
	values := url.Values{}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	return "?" + values.Encode()
}

// wantShown checks what an app shows of the session.
func (b *browser) wantShown(t testing.TB, app string, want map[string]string) {
	t.Helper()
	status, _, body, err := b.send(app, http.MethodGet, "/show")
	if err != nil || status != http.StatusOK {
		t.Fatalf("GET /show on %s: %d %s %v", app, status, short(body), err)
	}
	got := map[string]string{}
	decode(t, body, &got)
	if !maps.Equal(got, want) {
		t.Errorf("%s shows %q, want %q", app, got, want)
	}
}

// wantRefused checks that an app knows nobody by the browser's cookies.
func (b *browser) wantRefused(t testing.TB, app, why string) {
	t.Helper()
	if status, _, body, err := b.send(app, http.MethodGet, "/show"); err != nil || status != http.StatusUnauthorized {
		t.Errorf("%s: GET /show on %s: %d %s %v, want 401", why, app, status, short(body), err)
	}
}
