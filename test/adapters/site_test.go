package adapters

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// site is a node of a service.
type site struct {
	t   testing.TB
	url string
	*http.Client
}

func serve(t testing.TB, h http.Handler) site {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return siteAt(t, server.URL, server.Client())
}

func siteAt(t testing.TB, url string, client *http.Client) site {
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Timeout = dbtest.Patience
	return site{t, url, client}
}

// answer is what a browser is sent.
type answer struct {
	status int
	body   string
	header http.Header
	cookie *http.Cookie // the last one that it sets; nil if it sets none
}

// get sends a request with a cookie; nil is none.
func (s site) get(path string, cookie *http.Cookie) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if cookie != nil {
		req.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
	}
	resp, err := s.Do(req)
	if err != nil {
		s.t.Fatalf("GET %s: %v", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Errorf("GET %s: %v", path, err)
	}
	a := answer{status: resp.StatusCode, body: strings.TrimSpace(string(body)), header: resp.Header}
	if cookies := resp.Cookies(); len(cookies) > 0 {
		a.cookie = cookies[len(cookies)-1]
	}
	return a
}

// says checks what a page says.
func (s site) says(path string, cookie *http.Cookie, want string) {
	s.t.Helper()
	if got := s.get(path, cookie); got.body != want {
		s.t.Errorf("GET %s: %q with status %d; want %q", path, got.body, got.status, want)
	}
}

// during sends a request whose handler waits at the given gate, does what comes
// meanwhile, and lets the handler go on. It returns the answer.
func (s site) during(path string, cookie *http.Cookie, g *gate, meanwhile func()) (slow answer) {
	s.t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { slow = s.get(path, cookie) })
	select {
	case <-g.arrived:
	case <-s.t.Context().Done():
	}
	meanwhile()
	g.open <- struct{}{}
	wg.Wait()
	return slow
}

// gate holds a handler up.
type gate struct{ arrived, open chan struct{} }

func newGate() *gate { return &gate{make(chan struct{}), make(chan struct{})} }

// wait holds the caller up until the gate is opened once more.
func (g *gate) wait() {
	g.arrived <- struct{}{}
	<-g.open
}
