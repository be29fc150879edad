package nodestore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/logging"
	"github.com/sojourn-go/sojourn/internal/reqsession"
	"github.com/sojourn-go/sojourn/session"
)

// entries is what a Store does for a middleware.
type entries interface {
	Get(ctx context.Context, id string) (Entry, error)
	Create(ctx context.Context, id string, data []byte, expires time.Time) (Entry, error)
	Save(ctx context.Context, read Entry, data []byte, expires time.Time) (Entry, error)
	Renew(ctx context.Context, read Entry, id string, data []byte, expires time.Time) (Entry, error)
	Touch(ctx context.Context, id string, expires time.Time) (bool, error)
	TouchDue(read Entry, expires time.Time) bool
	Destroy(ctx context.Context, ids ...string) (int64, error)
	Expiry(data []byte) (time.Time, error)
	Fits(data []byte) error
}

// site is what the middlewares have in common.
type site struct {
	store entries
	rules rules
	traits
	opts common
	log  *reqsession.Log
	now  func() time.Time

	differs   differences
	strangers reqsession.Strangers
	turns     reqsession.Turns[Entry]
}

// common are the options of both.
type common struct {
	name         string
	cookie       Cookie // with its defaults
	user         []string
	trusts       func(*http.Request) bool // the proxy that a request came from
	generateID   func(*http.Request) (string, error)
	errorHandler func(http.ResponseWriter, *http.Request, error)
	onEvent      func(context.Context, session.Event)
	log          *zap.Logger
}

// rules is what the two do differently.
type rules interface {
	// traits returns the differences that a name or a flag can tell.
	traits() traits
	// read finds the session ID in a request.
	read(r *http.Request) presented
	// otherName returns the name of another cookie that holds a signed session ID,
	// empty if there is none.
	otherName(header string) string
	// correct returns the cookie lines that answer what the browser presented.
	correct(f presented, https bool) []cookieLine
	// fresh returns the cookie object of a new session.
	fresh(now time.Time, https bool) (*Document, error)
	// complete fills in what is empty, and checks the rest.
	complete(c Cookie, https bool) (Cookie, error)
	// parse reads a cookie object. It takes whatever is there.
	parse(cookie *Document) Cookie
	// fields returns the fields of a cookie object.
	fields(c Cookie, now time.Time) []field
	// ending returns when the cookie ends.
	ending(cookie *Document, now time.Time) (at time.Time, ends bool)
	// use extends the cookie from now on.
	use(cookie *Document, now time.Time)
	// plan returns what is to be done at the end of a request.
	plan(s atEnd) plan
	// set returns the cookie lines that give the browser the session ID. There
	// are none if the browser may not have it over this connection. It fails for
	// what cannot be in a cookie line.
	set(sid string, cookie *Document, now time.Time, https bool) ([]cookieLine, error)
	// clear returns the cookie lines that take it from the browser.
	clear(c Cookie, https bool) []cookieLine
	// checkID returns an error for an ID that a generator must not make.
	checkID(id string) error
	// hides reports whether the package does not see a key of the session.
	hides(key string) bool
}

type traits struct {
	scheme       string // names the package in the keys of events
	whole        bool   // the cookie object is part of what may have changed
	flat         bool   // there is no cookie object, but members of the session
	clearEnded   bool   // a session that is destroyed has its cookie cleared
	clearUnknown bool   // so has one that is not there
	endUnset     bool   // Unset destroys
	forgeable    bool   // anybody can make up IDs
	// send gives the client its ID where that is not done by a cookie.
	send func(header http.Header, id string)
}

// atEnd is what a session is like at the end of its request.
type atEnd struct {
	isNew       bool // whether there is no row
	dirty       bool // whether it differs from what is stored
	changed     bool // whether it differs from what was read
	saved       bool // whether it has been written
	extended    bool // by Touch
	regenerated bool
	ends        bool // whether its cookie says when it ends, as express-session sees that
	halfGone    bool // whether half of its lifetime has passed, where the document says
}

// plan of a new session is whether to write it; then its cookie is sent.
type plan struct{ write, touch, cookie bool }

const defaultIDLen = 24

func newSite(store entries, r rules, opts common) (*site, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("nodestore: %w: Options.%w", session.ErrInvalid, fmt.Errorf(format, args...))
	}
	if err := opts.cookie.check(); err != nil {
		return nil, bad("%w", err)
	}
	if len(opts.user) > 0 {
		if err := checkPath(opts.user); err != nil {
			return nil, bad("User: %w", err)
		}
	} else {
		opts.user = []string{"passport", "user"}
	}
	if opts.generateID == nil {
		opts.generateID = generateID
	}
	log := logging.Or(opts.log)
	return &site{
		store: store, rules: r, traits: r.traits(), opts: opts, log: reqsession.NewLog(log), now: time.Now, differs: differences{log: log},
	}, nil
}

// generateID makes IDs like those of both packages.
func generateID(*http.Request) (string, error) {
	var random [defaultIDLen]byte
	rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(random[:]), nil
}

func (m *site) newID(r *http.Request) (string, error) {
	id, err := m.opts.generateID(r)
	switch {
	case err != nil:
		return "", fmt.Errorf("nodestore: generate an ID: %w", err)
	case id == "" || !utf8.ValidString(id) || strings.ContainsRune(id, 0):
		return "", fmt.Errorf("nodestore: %w: GenerateID returned what is empty, not UTF-8 or has a NUL", session.ErrInvalid)
	}
	return id, m.rules.checkID(id)
}

// lookUp reads a session for a request that came with its ID. How many IDs of no
// session are looked up is bounded, unless they have to be signed.
func (m *site) lookUp(ctx context.Context, id string) (entry Entry, err error) {
	if !m.forgeable {
		return m.store.Get(ctx, id)
	}
	ended := m.strangers.LookUp(ctx, m.key(id).Hash, func() reqsession.LookedUp {
		entry, err = m.store.Get(ctx, id)
		switch {
		case err == nil:
			return reqsession.Met
		case errors.Is(err, session.ErrNotFound):
			return reqsession.Stranger
		}
		return reqsession.Unanswered
	})
	if ended != nil {
		return Entry{}, ended
	}
	return entry, err
}

func (m *site) key(id string) session.Key { return session.ForeignKey(m.scheme, id) }

// https reports whether the browser sent the request over HTTPS.
func (m *site) https(r *http.Request) bool {
	return r.TLS != nil || m.opts.trusts(r) && reqsession.SecureScheme(r.Header.Get("X-Forwarded-Proto"))
}

// inPath reports whether a request is within the cookie's path, by the address
// that the browser sent.
func (m *site) inPath(r *http.Request) bool {
	sent := r.URL
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		sent = u
	}
	path := sent.EscapedPath()
	if path == "" {
		path = "/"
	}
	return strings.HasPrefix(path, m.opts.cookie.Path)
}

func (m *site) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, found := reqsession.Find[part](r.Context(), m); found {
			next.ServeHTTP(w, r) // it has its session already
			return
		}
		if reqsession.CookieTaken(r.Context(), m, m.opts.name) {
			m.fail(w, r, fmt.Errorf("nodestore: %w: two handlers have the cookie %s", session.ErrInvalid, m.opts.name))
			return
		}
		s := &Session{visit: &visit{m: m}}
		reqsession.Serve(w, r, m, m.opts.name, part{s}, func(r *http.Request) { s.r = r }, next)
	})
}

// FromContext returns the session of the request that ctx belongs to. The
// first call loads it, and a request without one gets an empty one. If it
// cannot be loaded, the error handler will answer the request, whatever the
// handler does: it should just return. If that is because ctx has ended while the
// request goes on, the error is the caller's alone, and the next call loads the
// session.
//
// A session whose row cannot be decoded, ErrUndecodable of package session, comes
// with the error: Destroy, Regenerate and Unset work on it, and after one of them
// the handler answers the request.
//
// Of several around a handler it is that of the outermost: who adds another one
// inside changes nothing for handlers that are there. Express.Session and Koa.Session
// ask for a certain one.
//
// The error is ErrNoManager of package session if ctx does not come from the
// Handler of an Express or a Koa. It is the same if the request is outside the
// cookie's path: there is no session then, nothing fails, and the handler answers.
func FromContext(ctx context.Context) (*Session, error) {
	p, found := reqsession.Choose(ctx, func(part) bool { return false })
	if !found {
		return nil, errNoHandler
	}
	return p.s.open(ctx)
}

var errNoHandler = fmt.Errorf("nodestore: %w: wrap the handler by that of an Express or a Koa", session.ErrNoManager)

// current is FromContext of this site.
func (m *site) current(ctx context.Context) (*Session, error) {
	p, found := reqsession.Find[part](ctx, m)
	if !found {
		return nil, errNoHandler
	}
	return p.s.open(ctx)
}

// fail answers a request instead of its handler.
func (m *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	if m.opts.errorHandler != nil {
		m.opts.errorHandler(w, r, err)
		return
	}
	status := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		w.Header().Set("Retry-After", "1")
	case errors.Is(err, session.ErrConflict):
		status = http.StatusConflict
	case errors.Is(err, session.ErrTooLarge), errors.Is(err, session.ErrInvalid), errors.Is(err, session.ErrUndecodable),
		errors.Is(err, session.ErrInsecure), errors.Is(err, session.ErrMisplaced), errors.Is(err, session.ErrTooLate), errors.Is(err, session.ErrDeadline):
		status = http.StatusInternalServerError
	default:
		w.Header().Set("Retry-After", "1")
	}
	level := zap.ErrorLevel
	if errors.Is(err, context.Canceled) {
		level = zap.DebugLevel // the browser has gone
	}
	m.log.Tell(level, "nodestore: request failed", kindOf(err), r, zap.Int("status", status), zap.Error(err))
	http.Error(w, http.StatusText(status), status)
}

// isCookie reports whether a key of the session is its cookie's.
func (m *site) isCookie(key string) bool {
	if m.flat {
		return private(key)
	}
	return key == cookieKey
}

// apart reports whether a key does not count as changed.
func (m *site) apart(key string) bool { return !m.whole && m.isCookie(key) }
