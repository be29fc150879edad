package nodestore_test

import (
	"context"
	"database/sql"
	"encoding/json"
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

// fakeRows is a table in memory.
type fakeRows struct {
	mu   sync.Mutex
	now  func() time.Time
	rows map[string]nodestore.Entry
}

func (f *fakeRows) live(id string) (nodestore.Entry, error) {
	e, ok := f.rows[id]
	if !ok || !e.Expires.IsZero() && !e.Expires.After(f.now()) {
		return nodestore.Entry{}, session.ErrNotFound
	}
	return e, nil
}

func (f *fakeRows) Get(_ context.Context, id string) (nodestore.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.live(id)
}

func (f *fakeRows) Create(_ context.Context, id string, data []byte, expires time.Time) (nodestore.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, taken := f.rows[id]; taken {
		return nodestore.Entry{}, session.ErrExists
	}
	f.rows[id] = nodestore.Entry{ID: id, Data: data, Expires: expires}
	return f.rows[id], nil
}

func (f *fakeRows) Save(_ context.Context, read nodestore.Entry, data []byte, expires time.Time) (nodestore.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch now, err := f.live(read.ID); {
	case err != nil:
		return nodestore.Entry{}, err
	case string(now.Data) != string(read.Data):
		return nodestore.Entry{}, session.ErrConflict
	}
	f.rows[read.ID] = nodestore.Entry{ID: read.ID, Data: data, Expires: expires}
	return f.rows[read.ID], nil
}

func (f *fakeRows) Renew(_ context.Context, read nodestore.Entry, id string, data []byte, expires time.Time) (nodestore.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch now, err := f.live(read.ID); {
	case err != nil:
		return nodestore.Entry{}, err
	case string(now.Data) != string(read.Data):
		return nodestore.Entry{}, session.ErrConflict
	}
	delete(f.rows, read.ID)
	f.rows[id] = nodestore.Entry{ID: id, Data: data, Expires: expires}
	return f.rows[id], nil
}

func (f *fakeRows) Touch(_ context.Context, id string, expires time.Time) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.live(id)
	if err != nil {
		return false, nil
	}
	e.Expires = expires
	f.rows[id] = e
	return true, nil
}

func (f *fakeRows) TouchDue(read nodestore.Entry, expires time.Time) bool {
	return !read.Expires.Equal(expires)
}

func (f *fakeRows) Destroy(_ context.Context, ids ...string) (n int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if _, there := f.rows[id]; there {
			n++
		}
		delete(f.rows, id)
	}
	return n, nil
}

func (f *fakeRows) Expiry(data []byte) (time.Time, error) {
	var doc struct {
		Cookie struct {
			Expires *time.Time `json:"expires"`
			MaxAge  *float64   `json:"maxAge"`
		} `json:"cookie"`
	}
	err := json.Unmarshal(data, &doc)
	switch {
	case doc.Cookie.Expires != nil:
		return *doc.Cookie.Expires, err
	case doc.Cookie.MaxAge != nil:
		return f.now().Add(time.Duration(*doc.Cookie.MaxAge) * time.Millisecond), err
	}
	return f.now().Add(24 * time.Hour), err
}

// Set is what a Node request does: it replaces whatever is there.
func (f *fakeRows) Set(_ context.Context, id string, data []byte, _ ...nodestore.SetOption) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	expires, err := f.Expiry(data)
	f.rows[id] = nodestore.Entry{ID: id, Data: data, Expires: expires}
	return err
}

// rows is a store with what Node does.
type rows interface {
	nodestore.Entries
	Set(context.Context, string, []byte, ...nodestore.SetOption) error
}

// spied notes the calls of a store, and fails those it is told to.
type spied struct {
	rows
	mu    sync.Mutex
	calls []string
	fails map[string]error
	first map[string]func() // is called once, before the call
}

func (s *spied) call(name string) error {
	s.mu.Lock()
	s.calls = append(s.calls, name)
	err, first := s.fails[name], s.first[name]
	delete(s.first, name)
	s.mu.Unlock()
	if first != nil {
		first()
	}
	return err
}

// taken returns the calls since it was last asked.
func (s *spied) taken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := strings.Join(s.calls, " ")
	s.calls = nil
	return calls
}

func (s *spied) fail(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = map[string]error{name: err}
}

func (s *spied) before(name string, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = map[string]func(){name: f}
}

func (s *spied) Get(ctx context.Context, id string) (nodestore.Entry, error) {
	if err := s.call("get"); err != nil {
		return nodestore.Entry{}, err
	}
	return s.rows.Get(ctx, id)
}

func (s *spied) Create(ctx context.Context, id string, data []byte, expires time.Time) (nodestore.Entry, error) {
	if err := s.call("create"); err != nil {
		return nodestore.Entry{}, err
	}
	return s.rows.Create(ctx, id, data, expires)
}

func (s *spied) Save(ctx context.Context, read nodestore.Entry, data []byte, expires time.Time) (nodestore.Entry, error) {
	if err := s.call("save"); err != nil {
		return nodestore.Entry{}, err
	}
	return s.rows.Save(ctx, read, data, expires)
}

func (s *spied) Renew(ctx context.Context, read nodestore.Entry, id string, data []byte, expires time.Time) (nodestore.Entry, error) {
	if err := s.call("renew"); err != nil {
		return nodestore.Entry{}, err
	}
	return s.rows.Renew(ctx, read, id, data, expires)
}

func (s *spied) Touch(ctx context.Context, id string, expires time.Time) (bool, error) {
	if err := s.call("touch"); err != nil {
		return false, err
	}
	return s.rows.Touch(ctx, id, expires)
}

func (s *spied) Destroy(ctx context.Context, ids ...string) (int64, error) {
	if err := s.call("destroy"); err != nil {
		return 0, err
	}
	return s.rows.Destroy(ctx, ids...)
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
	w.store = &spied{rows: store}
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
		opts.Secrets = []string{secret}
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
		opts.Keys = []string{koaKey}
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
