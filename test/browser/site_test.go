//go:build unix

package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

// site is a service with sessions, and the browser that visits it.
type site struct {
	*testing.T
	store   *memstore.Store
	m       atomic.Pointer[session.Manager]
	mux     *http.ServeMux // with sessions
	address *url.URL
	reports chan string
}

var hosts atomic.Int64

// newSite starts a service over HTTPS, on a host of its own.
func newSite(t *testing.T, opts session.Options) *site {
	t.Helper()
	t.Parallel()
	return anotherSite(t, opts)
}

// anotherSite starts another service for a test.
func anotherSite(t *testing.T, opts session.Options) *site {
	t.Helper()
	s := &site{T: t, store: memory.Open(t, nil), mux: http.NewServeMux(), reports: make(chan string, 1)}
	s.manage(opts)
	server := s.listen()
	server.StartTLS()
	s.address = s.at(server, fmt.Sprintf("www.site%d.test", hosts.Add(1)))
	s.page("/who", func(v visit) { v.say(v.s.User(), ": ", strings.Join(v.s.Keys(), ", ")) })
	s.page("/login", func(v visit) { v.must("Login", v.s.Login(v.r.Context(), v.r.FormValue("as"), session.Login{})) })
	s.page("/logout", func(v visit) { v.must("Logout", v.s.Logout(v.r.Context())) })
	s.page("/set", func(v visit) { v.must("Set", v.s.Set(v.r.FormValue("key"), true)) })
	return s
}

func (s *site) manage(opts session.Options) {
	s.Helper()
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	m, err := session.NewManager(s.store, opts)
	if err != nil {
		s.Fatal(err)
	}
	s.m.Store(m)
}

// plain has the browser visit the service on that host, without TLS.
func (s *site) plain(host string) {
	s.Helper()
	server := s.listen()
	server.Start()
	s.address = s.at(server, host)
}

// listen makes a server that has to be started. Its manager may be another one
// later.
func (s *site) listen() *httptest.Server {
	outer := http.NewServeMux()
	outer.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.m.Load().Handler(s.mux).ServeHTTP(w, r) })
	outer.HandleFunc("POST /report", func(_ http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			s.Errorf("the report: %v", err)
		}
		s.reports <- string(text)
	})
	server := httptest.NewUnstartedServer(outer)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // panics are part of the tests
	s.Cleanup(server.Close)
	return server
}

func (s *site) at(server *httptest.Server, host string) *url.URL {
	s.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		s.Fatal(err)
	}
	u.Host = net.JoinHostPort(host, u.Port())
	return u
}

// visit is a request in the hands of its page.
type visit struct {
	*site
	w http.ResponseWriter
	r *http.Request
	s *session.Session
}

func (s *site) page(path string, do func(visit)) {
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		one, err := s.m.Load().Session(r.Context())
		if err != nil {
			s.Errorf("Session: %v", err)
			return
		}
		do(visit{s, w, r, one})
	})
}

func (v visit) must(what string, err error) {
	v.Helper()
	if err != nil {
		v.Errorf("%s: %v", what, err)
	}
}

func (v visit) say(words ...string) {
	v.Helper()
	if _, err := io.WriteString(v.w, strings.Join(words, "")); err != nil {
		v.Errorf("write: %v", err)
	}
}

// helpers are what the scripts of pages use.
const helpers = `
const ask = async (path, options) => {
	const answer = await fetch(path, {credentials: "same-origin", cache: "no-store", ...options});
	return answer.text();
};
const fails = async (path, options) => {
	try { await ask(path, options); return false } catch { return true }
};
const socket = path => new Promise((done, failed) => {
	const s = new WebSocket(location.origin.replace("https", "wss") + path);
	s.onmessage = m => { s.close(); done(m.data) };
	s.onerror = () => failed("no websocket at " + path);
});
`

// run has a tab run a script, below a path, and returns what the script does.
func (s *site) run(path, script string) map[string]any {
	s.Helper()
	b := start(s.T)
	page := path + "page"
	s.mux.HandleFunc(page, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><title>test</title><script type="module">%s
const run = async () => {%s};
let report;
try { report = await run() } catch (e) { report = {error: String(e)} }
await fetch("/report", {method: "POST", body: JSON.stringify(report)});
</script>`, helpers, script)
	})
	ctx, cancel := context.WithTimeoutCause(s.Context(), dbtest.Patience, errors.New("the page did not report"))
	defer cancel()
	if err := b.open(ctx, s.address.String()+page); err != nil {
		s.Fatal(err)
	}
	select {
	case text := <-s.reports:
		var report map[string]any
		if err := json.Unmarshal([]byte(text), &report); err != nil {
			s.Fatalf("the report is %q: %v", text, err)
		}
		if report["error"] != nil {
			s.Errorf("the page's script failed: %v", report["error"])
		}
		return report
	case <-ctx.Done():
		s.Fatal(context.Cause(ctx))
		return nil
	}
}

// is checks one thing of a report.
func (s *site) is(report map[string]any, what string, want any) {
	s.Helper()
	if got := report[what]; got != want {
		s.Errorf("%s: %v; want %v", what, got, want)
	}
}
