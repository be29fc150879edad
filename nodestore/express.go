package nodestore

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/session"
)

// ExpressOptions are the settings of an Express. They have to be the options of
// the Node application: Secrets always, the others where they differ from the
// defaults of express-session.
type ExpressOptions struct {
	// Name is the cookie's. Empty is "connect.sid".
	Name string
	// Secrets sign the cookie; there must be one at least: see session.Secrets. The
	// first signs, all verify. To rotate, first add a new one at the end on all sides, then move
	// it to the front. The signature does not cover the cookie's name: whatever
	// else the application signs by the same secret in the same way, cookies of
	// cookie-parser for example, passes for a sid.
	Secrets []session.Secret
	// Cookie is what the cookies of new sessions are like.
	Cookie Cookie
	// Rolling sends the cookie with each answer to a request that asked for its
	// session, so that the browser keeps it longer.
	Rolling bool
	// Resave writes also what has not changed.
	Resave bool
	// SaveUninitialized stores a session for each visitor whose request asks
	// for one, also if it stays empty. It is off here unless set; in
	// express-session it is on unless it is switched off.
	SaveUninitialized bool
	// DestroyUnset is unset: 'destroy': Session.Unset ends the session.
	DestroyUnset bool
	// ClearCookie takes the cookie from the browser when its session is
	// destroyed. express-session leaves it.
	ClearCookie bool

	// User is the path of the user in a session. Empty is passport's:
	// "passport", "user".
	User []string
	// TrustProxy believes the header X-Forwarded-Proto of a proxy that ends
	// TLS. Without, anybody could send it. It is proxy: true, and what Express does
	// after app.set('trust proxy', true) or a number above 0.
	TrustProxy bool
	// TrustedProxies are the addresses of proxies whose X-Forwarded-Proto is
	// believed, where Express is told of such: app.set('trust proxy', 'loopback,
	// 10.0.0.0/8'). Each is an address, a subnet, or "loopback", "linklocal" or
	// "uniquelocal".
	TrustedProxies []string
	// GenerateID makes the IDs of new sessions, which must be hard to guess and
	// fit the table's column. nil makes 32 characters of 24 random bytes, as
	// express-session does.
	GenerateID func(*http.Request) (string, error)
	// ErrorHandler answers a request that failed because of its session; err
	// says why. What the handler had set in the header is gone, what it writes
	// is not sent. nil answers 503 when the store cannot be reached, 409 after
	// ErrConflict and 500 after mistakes of the program, and logs.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)
	// OnEvent, if not nil, is told what happens to sessions. An Event has no
	// ID: its keys are made by session.ForeignKey of "express-session" and the
	// ID. It is called in the request's goroutine, and may be called
	// concurrently.
	OnEvent func(context.Context, session.Event)
	// Logger is told of failures, and never sees an ID. If it is nil, warnings and
	// errors go to the default logger of log/slog; zap.NewNop() silences them.
	Logger *zap.Logger
}

// Express gives the requests of a Go service the sessions of a Node
// application that uses express-session, by the same cookie and the same
// rows. It is safe for concurrent use. The store stays the caller's.
type Express struct {
	placeholder
	site    *site
	opts    ExpressOptions
	cookies expressCookie
}

// NewExpress makes an Express. It is ErrInvalid of package session if an option
// is wrong.
func NewExpress(store *Store, opts ExpressOptions) (*Express, error) {
	if store == nil {
		return nil, fmt.Errorf("nodestore: %w: the store is nil", session.ErrInvalid)
	}
	return newExpress(store, opts)
}

func newExpress(store entries, opts ExpressOptions) (*Express, error) {
	if opts.Name == "" {
		opts.Name = "connect.sid"
	}
	if err := (&http.Cookie{Name: opts.Name}).Valid(); err != nil {
		return nil, fmt.Errorf("nodestore: %w: Options.Name is %q; it must be a cookie's", session.ErrInvalid, opts.Name)
	}
	if err := checkKeys("Secrets", opts.Secrets); err != nil {
		return nil, err
	}
	trusts, err := trustedProxies(opts.TrustProxy, opts.TrustedProxies)
	if err != nil {
		return nil, err
	}
	e := &Express{opts: opts, cookies: expressCookie{opts.Name, opts.Secrets}}
	e.site, err = newSite(store, expressRules{e}, common{
		opts.Name, opts.Cookie.withDefaults(none), opts.User, trusts, opts.GenerateID, opts.ErrorHandler, opts.OnEvent, opts.Logger,
	})
	return e, err
}

func checkKeys(field string, keys []session.Secret) error {
	if len(keys) == 0 {
		return fmt.Errorf("nodestore: %w: Options.%s is empty", session.ErrInvalid, field)
	}
	for i, key := range keys {
		if key.Text() == "" {
			return fmt.Errorf("nodestore: %w: Options.%s[%d] is empty", session.ErrInvalid, field, i)
		}
	}
	return nil
}

// Handler gives the requests to next a session, which FromContext returns. It
// reads nothing for requests that do not ask for one, and so leaves their
// sessions as they are: express-session would touch them.
//
// What the request changes is saved before the first byte of its answer, or
// when next returns. If that fails, ExpressOptions.ErrorHandler answers, and
// what next writes is not sent. Nothing is saved if next panics; a handler that
// recovers from panics belongs around this one. The cookies of what was done before
// by Save or Destroy then are in the header of its ResponseWriter.
//
// A session is replaced only where the cookie of the new one goes out. After
// Regenerate and Renew up to 2 KiB of the answer wait until next has returned, as
// they do in net/http. They fail a request whose context has ended by then, or
// that hijacks the connection before it has written a header, with ErrTooLate of
// package session. The session stays as it was.
//
// A secure cookie is not sent over plain HTTP. As in express-session the
// session is stored all the same; here it is logged too.
//
// Caches, and the request that Handler was given, are told what session.Manager
// tells them.
func (e *Express) Handler(next http.Handler) http.Handler { return e.site.handler(next) }

// Session is FromContext for this Express, whether the request has others or
// not.
func (e *Express) Session(ctx context.Context) (*Session, error) { return e.site.current(ctx) }

type expressRules struct{ e *Express }

func (x expressRules) traits() traits {
	return traits{scheme: "express-session", clearEnded: x.e.opts.ClearCookie, endUnset: x.e.opts.DestroyUnset}
}

func (x expressRules) read(r *http.Request) presented {
	sid, given := x.e.cookies.read(header(r))
	return presented{sid: sid, given: given, wrong: given && sid == ""}
}

func (x expressRules) correct(presented, bool) []cookieLine { return nil }

// checkID lets all pass: the cookie escapes it.
func (x expressRules) checkID(string) error { return nil }

// The properties of an express-session Session and of any object.
// express-session neither gives the value of such a key to the application nor
// writes it again.
var expressHides = map[string]bool{
	"cookie": true, "req": true, "id": true, "touch": true, "resetMaxAge": true, "save": true, "reload": true, "destroy": true, "regenerate": true,
	"constructor": true, "toString": true, "toLocaleString": true, "valueOf": true, "hasOwnProperty": true, "isPrototypeOf": true, "propertyIsEnumerable": true,
	"__proto__": true, "__defineGetter__": true, "__defineSetter__": true, "__lookupGetter__": true, "__lookupSetter__": true,
}

func (x expressRules) hides(key string) bool { return expressHides[key] }

// plan is the table of what express-session does.
func (x expressRules) plan(s atEnd) plan {
	o := x.e.opts
	if s.isNew {
		return plan{write: o.SaveUninitialized || s.dirty || s.regenerated}
	}
	write := s.dirty || o.Resave && !s.saved
	return plan{
		write:  write,
		touch:  !write && (!s.saved || s.extended),
		cookie: o.Rolling || s.ends && (s.changed || s.extended),
	}
}

func (x expressRules) fresh(now time.Time, https bool) (*Document, error) {
	c, err := x.complete(x.e.site.opts.cookie, https)
	if err != nil {
		return nil, err
	}
	return split(object(x.fields(c, now)))
}

func (x expressRules) complete(c Cookie, https bool) (Cookie, error) {
	c = c.withDefaults(none)
	if c.Secure == SecureAuto {
		c.Secure = SecureNever
		if https {
			c.Secure = SecureAlways
		}
	}
	if c.SameSite == "auto" {
		c.SameSite = "lax"
		if https {
			c.SameSite = "none"
		}
	}
	return c, c.check()
}

func (x expressRules) fields(c Cookie, now time.Time) []field {
	maxAge := json.RawMessage("null")
	if c.MaxAge > 0 {
		maxAge = strconv.AppendInt(nil, c.MaxAge.Milliseconds(), 10)
	}
	return []field{
		{"originalMaxAge", maxAge}, {"partitioned", flag(c.Partitioned)}, {"priority", text(c.Priority)},
		{"expires", expiresIn(maxAge, now)}, {"secure", secureField(c.Secure)}, {"httpOnly", boolean(!c.NotHTTPOnly)},
		{"domain", text(c.Domain)}, {"path", text(c.Path)}, {"sameSite", text(c.SameSite)},
	}
}

func (x expressRules) parse(cookie *Document) Cookie {
	c := readCookie(cookie)
	if ms, ends := numberOf(cookie.Raw("originalMaxAge")); ends {
		c.MaxAge = duration(ms)
	}
	return c
}

func (x expressRules) ending(cookie *Document, _ time.Time) (time.Time, bool) {
	return expiresOf(cookie)
}

// use is touch of express-session: the cookie ends originalMaxAge from now,
// whatever it said before.
func (x expressRules) use(cookie *Document, now time.Time) {
	place(cookie, field{"expires", expiresIn(cookie.Raw("originalMaxAge"), now)}, afterExpires)
}

// expiresIn is what express-session stores as a cookie's expires: without an end
// what originalMaxAge is, and null for a Date that is none.
func expiresIn(originalMaxAge json.RawMessage, now time.Time) json.RawMessage {
	if ms, ends := numberOf(originalMaxAge); ends {
		if end, ok := laterBy(now, ms); ok {
			return text(isoTime(end))
		}
	} else if !truthy(originalMaxAge) {
		return originalMaxAge
	}
	return json.RawMessage("null")
}

var afterExpires = []field{{name: "secure"}, {name: "httpOnly"}, {name: "domain"}, {name: "path"}, {name: "sameSite"}}

func (x expressRules) set(sid string, cookie *Document, now time.Time, https bool) ([]cookieLine, error) {
	c := x.parse(cookie)
	if err := c.checkLine(); err != nil {
		return nil, err
	}
	a := attributes{Cookie: c, secure: c.Secure == SecureAlways}
	if a.secure && !https {
		return nil, nil
	}
	originalMaxAge := cookie.Raw("originalMaxAge")
	if ms, ends := numberOf(originalMaxAge); ends || truthy(originalMaxAge) {
		end, ok := laterBy(now, ms)
		if !ok || !ends {
			return nil, errEndless
		}
		a.expires = httpTime(end)
	}
	return []cookieLine{{x.e.opts.Name, x.e.cookies.line(x.e.cookies.value(sid), a)}}, nil
}

func (x expressRules) clear(c Cookie, _ bool) []cookieLine {
	a := attributes{Cookie: c, secure: c.Secure == SecureAlways, expires: httpTime(time.Unix(0, 0).UTC())}
	return []cookieLine{{x.e.opts.Name, x.e.cookies.line("", a)}}
}
