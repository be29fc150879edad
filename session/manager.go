package session

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/logging"
	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// Manager gives the requests of a web service their sessions: it reads and
// writes the cookie, loads and saves the session, and ends it. It is safe for
// concurrent use. It runs nothing in the background and need not be closed;
// the store stays the caller's.
//
// Anybody can make up IDs. Of those of which there never was a session it looks up
// 250 a second for long, and 500 at once; beyond that, requests with IDs that this
// node has not met lately wait for their look-up. That is so if the store is an
// Explainer and the cookie is not signed.
type Manager struct {
	placeholder
	store  Store
	opts   Options
	policy Policy // with its defaults
	cookie Cookie // with its defaults
	prefix string // of users, in the store
	log    *reqsession.Log
	https  func(*http.Request) bool

	strangers *reqsession.Strangers

	now      func() time.Time
	longest  func() time.Duration
	fresh    func(context.Context, Key) (Record, error)
	touch    func(context.Context, Key, time.Time) (time.Time, error)
	users    UserIndex // nil if the store is none, as those below
	lister   Lister
	waiter   NodeWaiter
	versions VersionGetter
	explains bool    // whether the error of Get says what became of a session
	most     int     // bytes of a record's data; 0: the store does not say
	merger   *merger // behind a pointer, as what changes: see visit
}

// userSeparator stands between the name of a manager and a user, in the store.
const userSeparator = "\x1f"

// NewManager makes a Manager of a store. Its error is ErrInvalid, with the
// field and the limit, if an option is out of range. It is
// errors.ErrUnsupported if an option needs what the store cannot do.
func NewManager(store Store, opts Options) (*Manager, error) {
	if store == nil {
		return nil, fmt.Errorf("%w: the store is nil", ErrInvalid)
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	m := &Manager{
		store: store, opts: opts, policy: opts.Policy.withDefaults(), cookie: opts.Cookie.withDefaults(opts.Name),
		log: reqsession.NewLog(logging.Or(opts.Logger)), strangers: new(reqsession.Strangers), https: opts.HTTPS,
		fresh: store.Get, touch: store.Touch,
		now:     func() time.Time { return time.Now().UTC() },
		longest: func() time.Duration { return math.MaxInt64 / 2 },
	}
	m.merger = &merger{m: m, of: map[Key]*merge{}}
	m.find()
	if m.https == nil {
		m.https = overHTTPS
	}
	if m.opts.Codec == nil {
		m.opts.Codec = JSON{}
	}
	if opts.Name != "" {
		m.prefix = opts.Name + userSeparator
	}
	if err := m.cookie.check(); err != nil {
		return nil, err
	}
	if err := m.policy.check("Options.Policy", m.longest(), m.cookie); err != nil {
		return nil, err
	}
	if idle := m.policy.IdleTimeout; idle > 0 && opts.TouchInterval > idle/2 {
		return nil, fmt.Errorf("%w: Options.TouchInterval is %v; it must not be longer than half of the idle timeout of %v", ErrInvalid, opts.TouchInterval, idle)
	}
	if opts.Old != nil && !m.explains {
		return nil, fmt.Errorf("session: Options.Old needs a store that is an Explainer: %w", errors.ErrUnsupported)
	}
	if opts.UserLimit.Max > 0 && m.users == nil {
		return nil, fmt.Errorf("session: Options.UserLimit needs a store with an index of users: %w", errors.ErrUnsupported)
	}
	return m, nil
}

// find looks for the optional interfaces of the store.
func (m *Manager) find() {
	if c, ok := m.store.(Clock); ok {
		m.now, m.longest = c.Now, c.Longest
	}
	if f, ok := m.store.(FreshGetter); ok {
		m.fresh = f.GetFresh
	}
	if l, ok := m.store.(LateToucher); ok {
		m.touch = l.TouchLater
	}
	m.users, _ = m.store.(UserIndex)
	m.lister, _ = m.store.(Lister)
	m.waiter, _ = m.store.(NodeWaiter)
	m.versions, _ = m.store.(VersionGetter)
	_, m.explains = m.store.(Explainer)
	if l, ok := m.store.(DataLimiter); ok {
		m.most = l.MaxData()
	}
}

// Handler gives the requests to next a session, which FromContext returns. It
// reads nothing for requests that do not ask for one.
//
// What the request changes is saved before the first byte of its answer, or
// when next returns. If that fails, Options.ErrorHandler answers, and what next
// writes is not sent. Nothing is saved if next panics; a handler that recovers
// from panics belongs around this one. The cookies of what was done before by
// Save or Destroy then are in the header of its ResponseWriter.
//
// A session is replaced only where the cookie of the new one goes out. After
// Login and Renew up to 2 KiB of the answer wait until next has returned, as they
// do in net/http. So a panic, or a TimeoutHandler around this one, leaves all as
// it was.
// A request whose context has ended by then, and one that hijacks the connection
// before it has written a header, replaces no session: an ID that is due waits for
// another request, and Login and Renew fail the request with ErrTooLate. A new
// session may begin with a hijack: next finds its cookie in the header of its
// ResponseWriter, as it does after Login and Save.
//
// The answer to a request that asked for its session has Vary: Cookie and
// Cache-Control: private, whatever next says, unless that is no-store; one that
// sets the cookie has no-store. Fields such as CDN-Cache-Control, which would go
// before, are removed. Pages for everybody should not ask.
//
// When next has returned, the request that Handler was given has the Pattern, the
// form and all else of the one that next was given, and the files of its
// MultipartForm are removed.
//
// Managers may be nested if their cookies have different names.
func (m *Manager) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.current(r.Context()) != nil {
			next.ServeHTTP(w, r) // it is managed already
			return
		}
		if reqsession.CookieTaken(r.Context(), m, m.cookie.Name) {
			m.fail(w, r, fmt.Errorf("%w: two managers have the cookie %s: give them different Options.Name", ErrInvalid, m.cookie.Name))
			return
		}
		s := &Session{visit: &visit{m: m}}
		reqsession.Serve(w, r, m, m.cookie.Name, part{s}, func(r *http.Request) { s.r, s.ctx = r, r.Context() }, next)
	})
}

// get reads the session of a request, as it is after each answer that the
// browser has got before.
func (m *Manager) get(r *http.Request) func(context.Context, Key) (Record, error) {
	if m.versions != nil {
		return m.since(m.cookie.version(r))
	}
	return m.store.Get
}

// since reads a session as it is after a version that the client was told of; 0 is
// none.
func (m *Manager) since(version int64) func(context.Context, Key) (Record, error) {
	if m.versions == nil || version <= 0 {
		return m.store.Get
	}
	return func(ctx context.Context, key Key) (Record, error) { return m.versions.GetVersion(ctx, key, version) }
}

// FromContext returns the session of the request that ctx belongs to. The
// first call loads it, and a request without one gets an empty one. If it
// cannot be loaded, the error handler will answer the request, whatever the
// handler does: it should just return. If that is because ctx has ended while the
// request goes on, as that of a part of the page with a timeout of its own, the
// error is the caller's alone, and the next call loads the session.
//
// Of several managers around a handler it is that of the one without Options.Name,
// wherever it stands: who adds another one, with a name, changes nothing for handlers
// that are there. If there is none without a name, or several, it is the outermost of
// them. Manager.Session asks for a certain one. What NewContext has given goes before
// all of them.
//
// The error is ErrNoManager if ctx comes neither from a Manager's Handler nor from
// NewContext.
func FromContext(ctx context.Context) (*Session, error) {
	p, found := reqsession.Choose(ctx, func(p part) bool { return p.s.m.opts.Name == "" })
	if !found {
		return nil, fmt.Errorf("%w: wrap the handler by Manager.Handler", ErrNoManager)
	}
	return p.s, p.s.open(ctx)
}

// Session is FromContext for this manager, whether the request has other
// managers or not.
func (m *Manager) Session(ctx context.Context) (*Session, error) {
	if s := m.current(ctx); s != nil {
		return s, s.open(ctx)
	}
	return nil, fmt.Errorf("%w: wrap the handler by this Manager's Handler", ErrNoManager)
}

func (m *Manager) current(ctx context.Context) *Session {
	p, _ := reqsession.Find[part](ctx, m)
	return p.s
}

// fail answers a request instead of its handler.
func (m *Manager) fail(w http.ResponseWriter, r *http.Request, err error) {
	if m.opts.ErrorHandler != nil {
		m.opts.ErrorHandler(w, r, err)
		return
	}
	status := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		w.Header().Set("Retry-After", "1")
	case errors.Is(err, ErrCSRF):
		status = http.StatusForbidden
	case errors.Is(err, ErrConflict), errors.Is(err, ErrUserLimit):
		status = http.StatusConflict
	case errors.Is(err, ErrInsecure), errors.Is(err, ErrMisplaced), errors.Is(err, ErrTooLarge), errors.Is(err, ErrInvalid), errors.Is(err, ErrUndecodable),
		errors.Is(err, ErrUserChanged), errors.Is(err, ErrDeadline), errors.Is(err, ErrTooLate), errors.Is(err, ErrNoManager):
		status = http.StatusInternalServerError
	default:
		w.Header().Set("Retry-After", "1")
	}
	level := zap.ErrorLevel
	switch {
	case errors.Is(err, context.Canceled):
		level = zap.DebugLevel // the browser has gone
	case errors.Is(err, ErrCSRF):
		level = zap.WarnLevel // it may be an attack
	}
	m.log.Tell(level, "session: request failed", kindOf(err), r, zap.Int("status", status), zap.Error(err))
	http.Error(w, http.StatusText(status), status)
}

// stored is how the store knows a user.
func (m *Manager) stored(user string) string {
	if user == "" {
		return ""
	}
	return m.prefix + user
}

// policyOf returns the policy of a session, with its defaults.
func (m *Manager) policyOf(h head) Policy {
	if h.policy == nil {
		return m.policy
	}
	return h.policy.withDefaults()
}
