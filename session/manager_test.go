package session_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

// handClock is a store's clock that a test moves.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// spyStore is a memstore that notes its calls, and fails those it is told to.
type spyStore struct {
	*memstore.Store
	mu    sync.Mutex
	calls []string
	fails map[string]error
	first map[string]func() // is called once, before the call

	saving func(context.Context, session.Record) error // if not nil, may refuse a Save
}

func (s *spyStore) call(name string) error {
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
func (s *spyStore) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func (s *spyStore) fail(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails == nil {
		s.fails = map[string]error{}
	}
	s.fails[name] = err
}

func (s *spyStore) before(name string, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = map[string]func(){name: f}
}

func (s *spyStore) Get(ctx context.Context, key session.Key) (session.Record, error) {
	if err := s.call("Get"); err != nil {
		return session.Record{}, err
	}
	return s.Store.Get(ctx, key)
}

func (s *spyStore) Create(ctx context.Context, rec session.Record) (session.Record, error) {
	if err := s.call("Create"); err != nil {
		return session.Record{}, err
	}
	return s.Store.Create(ctx, rec)
}

func (s *spyStore) Save(ctx context.Context, rec session.Record) (session.Record, error) {
	if err := s.call("Save"); err != nil {
		return session.Record{}, err
	}
	if s.saving != nil {
		if err := s.saving(ctx, rec); err != nil {
			return session.Record{}, err
		}
	}
	return s.Store.Save(ctx, rec)
}

func (s *spyStore) Touch(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	if err := s.call("Touch"); err != nil {
		return time.Time{}, err
	}
	return s.Store.Touch(ctx, key, expires)
}

func (s *spyStore) Renew(ctx context.Context, old session.Key, rec session.Record, grace time.Duration) (session.Record, error) {
	if err := s.call("Renew"); err != nil {
		return session.Record{}, err
	}
	return s.Store.Renew(ctx, old, rec, grace)
}

func (s *spyStore) Destroy(ctx context.Context, keys ...session.Key) (int64, error) {
	if err := s.call("Destroy"); err != nil {
		return 0, err
	}
	return s.Store.Destroy(ctx, keys...)
}

func (s *spyStore) Fate(ctx context.Context, key session.Key) (session.Fate, error) {
	if err := s.call("Fate"); err != nil {
		return session.FateUnknown, err
	}
	return s.Store.Fate(ctx, key)
}

// site is a web site with a Manager on a store of its own.
type site struct {
	t       testing.TB
	clock   *handClock
	store   *spyStore
	manager *session.Manager

	mu     sync.Mutex
	events []session.Event
}

func newSite(t testing.TB, opts session.Options) *site {
	t.Helper()
	clock := &handClock{now: noon}
	return newSiteOn(t, clock, &spyStore{Store: memory.Open(t, clock.Now)}, opts)
}

// newSiteOn is another node, or another manager, on the same store.
func newSiteOn(t testing.TB, clock *handClock, store *spyStore, opts session.Options) *site {
	t.Helper()
	p := &site{t: t, clock: clock, store: store}
	hook := opts.OnEvent
	opts.OnEvent = func(ctx context.Context, e session.Event) {
		p.mu.Lock()
		p.events = append(p.events, e)
		p.mu.Unlock()
		if hook != nil {
			hook(ctx, e)
		}
	}
	var err error
	if p.manager, err = session.NewManager(store, opts); err != nil {
		t.Fatal(err)
	}
	return p
}

// told returns the events since it was last asked.
func (p *site) told() []session.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	events := p.events
	p.events = nil
	return events
}

// page is what a handler does with the session.
type page func(ctx context.Context, s *session.Session)

func get(cookie string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://www.example.com/app", nil)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	return r
}

// serve answers a request by the page.
func (p *site) serve(r *http.Request, do page) *http.Response { return answerOf(p.manager, r, do) }

func answerOf(m *session.Manager, r *http.Request, do page) *http.Response {
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if s, err := m.Session(r.Context()); err == nil && do != nil {
			do(r.Context(), s)
		}
	})).ServeHTTP(w, r)
	return w.Result()
}

// browser keeps one cookie.
type browser struct {
	site   *site
	cookie string // as it is sent: name=value
}

func (p *site) browser() *browser { return &browser{site: p} }

// visit serves one request of the browser's, which must be answered by 200.
func (b *browser) visit(do page) *http.Response {
	b.site.t.Helper()
	res := b.visitFailing(do)
	if res.StatusCode != http.StatusOK {
		b.site.t.Fatalf("the answer has status %d", res.StatusCode)
	}
	return res
}

func (b *browser) visitFailing(do page) *http.Response {
	b.site.t.Helper()
	res := b.site.serve(get(b.cookie), do)
	cookies := res.Cookies()
	if len(cookies) > 1 {
		b.site.t.Fatalf("the answer sets %d cookies; want at most one", len(cookies))
	}
	for _, c := range cookies {
		b.cookie = c.Name + "=" + c.Value
		if c.MaxAge < 0 {
			b.cookie = ""
		}
	}
	return res
}

// value is the cookie without its name.
func (b *browser) value() string {
	_, value, _ := strings.Cut(b.cookie, "=")
	return value
}

// name is the cookie without its value.
func (b *browser) name() string {
	name, _, _ := strings.Cut(b.cookie, "=")
	return name
}

// setting is a page that sets a value.
func setting(t testing.TB, key string, value any) page {
	return func(_ context.Context, s *session.Session) {
		if err := s.Set(key, value); err != nil {
			t.Errorf("Set(%q): %v", key, err)
		}
	}
}

// loggingIn is a page at which a user logs in.
func loggingIn(t testing.TB, user string, login session.Login) page {
	return func(ctx context.Context, s *session.Session) {
		if err := s.Login(ctx, user, login); err != nil {
			t.Errorf("Login(%q): %v", user, err)
		}
	}
}

// want fails the test unless the store has been called for exactly this.
func (p *site) want(calls ...string) {
	p.t.Helper()
	if got := p.store.taken(); !slices.Equal(got, calls) {
		p.t.Errorf("the store was called for %v; want %v", got, calls)
	}
}
