package session_test

import (
	"context"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

// app is a service with a login, and a counter that loses no visit.
func app(store session.Store) (http.Handler, error) {
	sessions, err := session.NewManager(store, session.Options{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		s, err := session.FromContext(r.Context())
		if err != nil {
			return // the store is away: the manager answers 503
		}
		if err := s.Login(r.Context(), "alice", session.Login{}); err != nil { // after checking the password
			http.Error(w, "try again", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		if s, err := session.FromContext(r.Context()); err == nil {
			_ = session.Update(s, "visits", func(n int) int { return n + 1 }) // others may count at the same time
			visits, _ := session.Get[int](s, "visits")
			fmt.Fprintf(w, "visit %d of %q", visits, s.User())
		}
	})
	return http.NewCrossOriginProtection().Handler(sessions.Handler(mux)), err
}

func Example_manager() {
	store, err := memstore.New(memstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(context.Background())
	handler, err := app(store)
	if err != nil {
		fmt.Println(err)
		return
	}
	show(handler, "GET /", "POST /login", "GET /")
	// Output:
	// GET /: visit 1 of ""
	// POST /login:
	// GET /: visit 2 of "alice"
}

// show is a browser that prints the answers to its requests.
func show(handler http.Handler, requests ...string) {
	server := httptest.NewTLSServer(handler)
	defer server.Close()
	browser := server.Client()
	browser.Jar, _ = cookiejar.New(nil)
	for _, request := range requests {
		method, path, _ := strings.Cut(request, " ")
		req, err := http.NewRequest(method, server.URL+path, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		answer, err := browser.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		fmt.Println(strings.TrimSpace(request + ": " + string(body)))
	}
}

// manage returns a manager of an empty store in memory, with a handler, and a
// function that closes the store.
func manage(opts session.Options, handle func(http.ResponseWriter, *http.Request, *session.Session)) (*session.Manager, http.Handler, func()) {
	store, err := memstore.New(memstore.Options{})
	if err != nil {
		panic(err)
	}
	sessions, err := session.NewManager(store, opts)
	if err != nil {
		panic(err)
	}
	handler := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, err := sessions.Session(r.Context()); err == nil {
			handle(w, r, s)
		}
	}))
	return sessions, handler, func() { _ = store.Close(context.Background()) }
}

// "Keep me logged in" gives a session a policy of its own.
func ExampleLogin() {
	_, handler, done := manage(session.Options{}, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		login := session.Login{Label: "Firefox on Linux"}
		if r.FormValue("remember") != "" {
			p := session.PolicyRememberMe()
			login.Policy = &p
		}
		if err := s.Login(r.Context(), "alice", login); err != nil {
			fmt.Fprint(w, err)
			return
		}
		if err := s.Save(r.Context()); err != nil { // or it happens with the answer
			fmt.Fprint(w, err)
			return
		}
		info := s.Info()
		fmt.Fprintf(w, "%s, %s, until %v from now", info.User, info.Label, time.Until(info.Deadline).Round(time.Hour))
	})
	defer done()
	show(handler, "POST /", "POST /?remember=1")
	// Output:
	// POST /: alice, Firefox on Linux, until 12h0m0s from now
	// POST /?remember=1: alice, Firefox on Linux, until 720h0m0s from now
}

// What is shown once is there for the next request, and then gone.
func ExampleSession_Flash() {
	_, handler, done := manage(session.Options{}, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		if r.Method == http.MethodPost {
			_ = s.Flash("saved")
			return
		}
		texts, err := session.Flashes[string](s)
		fmt.Fprint(w, texts, err)
	})
	defer done()
	show(handler, "POST /", "GET /", "GET /")
	// Output:
	// POST /:
	// GET /: [saved] <nil>
	// GET /: [] <nil>
}

// A user sees where he is logged in, and logs the other places out.
func ExampleManager_Sessions() {
	var sessions *session.Manager
	opts := session.Options{
		Address:   func(*http.Request) netip.Addr { return netip.MustParseAddr("203.0.113.7") },
		UserLimit: session.UserLimit{Max: 3, Evict: true},
	}
	sessions, handler, done := manage(opts, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		if r.Method == http.MethodPost {
			_ = s.Login(r.Context(), "alice", session.Login{Label: r.FormValue("device")})
			return
		}
		for d, err := range sessions.Sessions(r.Context(), s.User()) {
			if err != nil {
				fmt.Fprint(w, err)
				return
			}
			fmt.Fprintf(w, "%s %s %t; ", d.Label, d.Address, d.Current)
		}
		ended, err := sessions.RevokeOthers(r.Context())
		fmt.Fprintf(w, "%d ended, %v", ended, err)
	})
	defer done()
	show(handler, "POST /?device=phone")
	show(handler, "POST /?device=laptop", "GET /", "GET /")
	// Output:
	// POST /?device=phone:
	// POST /?device=laptop:
	// GET /: phone 203.0.113.0/24 false; laptop 203.0.113.0/24 true; 1 ended, <nil>
	// GET /: laptop 203.0.113.0/24 true; 0 ended, <nil>
}

// The cookie goes with requests of other sites' pages too, where SameSite
// does not keep it back. net/http's CrossOriginProtection in front of the
// handler refuses those that change something.
func ExampleManager_crossOrigin() {
	sessions, _, done := manage(session.Options{}, nil)
	defer done()
	transfer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, err := session.FromContext(r.Context()); err == nil {
			fmt.Fprint(w, s.Set("sent", 100))
		}
	})
	handler := http.NewCrossOriginProtection().Handler(sessions.Handler(transfer))
	for _, site := range []string{"same-origin", "cross-site"} { // browsers say this themselves
		r := httptest.NewRequest(http.MethodPost, "https://www.example.com/transfer", nil)
		r.Header.Set("Sec-Fetch-Site", site)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Println(site, w.Code, len(w.Result().Cookies()))
	}
	// Output:
	// same-origin 200 1
	// cross-site 403 0
}

// A form has a token of its session, which RequireCSRF asks for. Scripts send it in
// the header, say from a meta element of the page.
func ExampleSession_CSRFToken() {
	page := template.Must(template.New("page").Parse(
		`<meta name="csrf-token" content="{{.}}">
<form method="post" action="/pay"><input type="hidden" name="csrf_token" value="{{.}}"><button>Pay</button></form>`))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		s, err := session.FromContext(r.Context())
		if err != nil {
			return
		}
		token, err := s.CSRFToken() // before the first byte
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		_ = page.Execute(w, token) // the browser has gone
	})
	mux.HandleFunc("POST /pay", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "paid") })

	store, err := memstore.New(memstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(context.Background())
	sessions, err := session.NewManager(store, session.Options{Logger: zap.NewNop()})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewTLSServer(sessions.Handler(sessions.RequireCSRF(mux)))
	defer server.Close()

	browser := server.Client()
	browser.Jar, _ = cookiejar.New(nil)
	answer, err := browser.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	token := regexp.MustCompile(`name="csrf_token" value="([^"]*)"`).FindStringSubmatch(string(text))[1]
	for _, form := range []url.Values{{"csrf_token": {token}}, {}} {
		answer, err := browser.PostForm(server.URL+"/pay", form)
		if err != nil {
			fmt.Println(err)
			return
		}
		answer.Body.Close()
		fmt.Println(answer.Status)
	}
	// Output:
	// 200 OK
	// 403 Forbidden
}
