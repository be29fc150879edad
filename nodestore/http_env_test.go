package nodestore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	_ "modernc.org/sqlite" // the driver

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// frozen is when the golden rows and cookies were written.
var frozen = time.Date(2030, 1, 1, 0, 0, 0, 123e6, time.UTC)

// movedClock is a clock that a test moves.
type movedClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *movedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *movedClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// handlers is an Express or a Koa.
type handlers interface {
	Handler(http.Handler) http.Handler
	Session(context.Context) (*nodestore.Session, error)
}

// web is a Go service beside a Node application that exists by its rows and
// cookies only.
type web struct {
	testing.TB
	clock  *movedClock
	db     *sql.DB // nil for the fake
	store  *spied
	m      handlers
	logs   *observer.ObservedLogs
	events []session.Event
	mu     sync.Mutex
}

// The IDs, secrets and keys are those of the golden cookies.
const (
	sidA    = "Ef7mJ0aV3kQ-xw_9LzTgYcB2NdR5sHpU"
	sidB    = "AbCdEf0123456789_-xyzABCDEF01234"
	secret  = "keyboard cat"
	koaKey  = "koa-key-1"
	cookieA = "connect.sid=s%3AEf7mJ0aV3kQ-xw_9LzTgYcB2NdR5sHpU.A6XpXohwz%2FxtqdhuyYmfviip%2F9EDInd4wQHE6%2BmAr6U"
	koaA    = "koa.sid=Ef7mJ0aV3kQ-xw_9LzTgYcB2NdR5sHpU; koa.sid.sig=a3lvbmv1nX6KojJoaLZSIUlB8s4"

	// What Node stores.
	plainRow   = `{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"},"views":7}`
	lastingRow = `{"cookie":{"originalMaxAge":86400000,"expires":"2030-01-02T00:00:00.123Z","httpOnly":true,"path":"/"},"user":"zoe","passport":{"user":"106"}}`
	koaRow     = `{"cookie":{"httpOnly":true,"path":"/","overwrite":true,"signed":true,"maxAge":86400000},"user":"zoe"}`
)

// backends are the stores that the rules are tested on.
var backends = []string{"fake", "sqlite"}

func newWeb(t testing.TB, backend string, layout nodestore.Layout) *web {
	t.Helper()
	w := &web{TB: t, clock: &movedClock{now: frozen}}
	if backend == "fake" {
		w.store = &spied{rows: &fakeRows{now: w.clock.Now, rows: map[string]nodestore.Entry{}}}
		return w
	}
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "node.db")+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	w.must("open", err)
	t.Cleanup(func() { _ = db.Close() })
	w.on(db, layout)
	return w
}

// on keeps the sessions in a database.
func (w *web) on(db *sql.DB, layout nodestore.Layout) {
	w.Helper()
	store, err := nodestore.NewStoreAt(w.Context(), db, layout, nodestore.Options{CreateTable: true, PruneInterval: -1}, w.clock.Now)
	w.must("New", err)
	w.Cleanup(func() { _ = store.Close(context.Background()) })
	w.db, w.store = db, &spied{rows: store}
}

func (w *web) onEvent(_ context.Context, e session.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// told returns the kinds of events since it was last asked.
func (w *web) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var kinds []string
	for _, e := range w.events {
		kinds = append(kinds, e.Kind.String())
	}
	w.events = nil
	return strings.Join(kinds, ", ")
}

// express has a service on the sessions of an Express application. New
// sessions have the ID sidB.
func express(t testing.TB, backend string, opts nodestore.ExpressOptions) *web {
	t.Helper()
	layout := nodestore.ConnectSQLite()
	w := newWeb(t, backend, layout)
	w.express(opts)
	return w
}

func (w *web) express(opts nodestore.ExpressOptions) {
	w.Helper()
	core, logs := observer.New(zap.DebugLevel)
	w.logs, opts.Logger, opts.OnEvent = logs, zap.New(core), w.onEvent
	if opts.Secrets == nil {
		opts.Secrets = session.Secrets(secret)
	}
	if opts.GenerateID == nil {
		opts.GenerateID = func(*http.Request) (string, error) { return sidB, nil }
	}
	m, err := nodestore.NewExpressAt(w.store, opts, w.clock.Now)
	w.must("NewExpress", err)
	w.m = m
}

func koa(t testing.TB, backend string, opts nodestore.KoaOptions) *web {
	t.Helper()
	w := newWeb(t, backend, nodestore.KoaGenericSessionSequelize(nodestore.SQLite))
	core, logs := observer.New(zap.DebugLevel)
	w.logs, opts.Logger, opts.OnEvent = logs, zap.New(core), w.onEvent
	if opts.Keys == nil {
		opts.Keys = session.Secrets(koaKey)
	}
	if opts.GenerateID == nil {
		opts.GenerateID = func(*http.Request) (string, error) { return sidB, nil }
	}
	m, err := nodestore.NewKoaAt(w.store, opts, w.clock.Now)
	w.must("NewKoa", err)
	w.m = m
	return w
}

func (w *web) must(what string, err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

func (w *web) is(what string, err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Errorf("%s: %v; want %v", what, err, want)
	}
}

// node stores a session as a Node request does.
func (w *web) node(id, data string) {
	w.Helper()
	w.must("Set", w.store.Set(context.Background(), id, []byte(data)))
}

// row returns what is stored, empty if nothing is.
func (w *web) row(id string) string {
	w.Helper()
	e, err := w.store.rows.Get(context.Background(), id)
	if errors.Is(err, session.ErrNotFound) {
		return ""
	}
	w.must("Get", err)
	return string(e.Data)
}

func (w *web) expires(id string) time.Time {
	w.Helper()
	e, err := w.store.rows.Get(context.Background(), id)
	w.must("Get", err)
	return e.Expires
}

// turn is a handler's.
type turn struct {
	*web
	w   http.ResponseWriter
	r   *http.Request
	s   *nodestore.Session
	err error
}

func (t turn) ctx() context.Context { return t.r.Context() }

// ask has the service answer a request. Without a handle nothing is asked of
// the session.
func (w *web) ask(cookie string, handle func(turn)) *http.Response {
	w.Helper()
	return w.get("https://example.com/", cookie, handle)
}

func (w *web) get(url, cookie string, handle func(turn)) *http.Response {
	w.Helper()
	r := httptest.NewRequest(http.MethodGet, url, nil)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	return w.serve(r, handle)
}

func (w *web) serve(r *http.Request, handle func(turn)) *http.Response {
	answer := httptest.NewRecorder()
	w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if handle != nil {
			s, err := w.m.Session(r.Context())
			handle(turn{w, rw, r, s, err})
		}
	})).ServeHTTP(answer, r)
	return answer.Result()
}

// has fails unless the row is what it should be.
func (w *web) has(id, want string) {
	w.Helper()
	if got := w.row(id); got != want {
		w.Errorf("the row is\n%s; want\n%s", got, want)
	}
}

// cookies are the Set-Cookie lines of an answer.
func cookies(res *http.Response) string { return strings.Join(res.Header["Set-Cookie"], "\n") }

// reads is a handler that reads the session.
func reads(t turn) { t.must("Session", t.err) }

// sets is a handler that changes it.
func sets(key string, v any) func(turn) {
	return func(t turn) {
		t.must("Session", t.err)
		t.must("Set", t.s.Set(key, v))
	}
}

// everywhere runs a test on each backend.
func everywhere(t *testing.T, test func(t *testing.T, backend string)) {
	t.Parallel()
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			test(t, backend)
		})
	}
}

var errLost = fmt.Errorf("%w: the connection was lost", session.ErrUnknown)
