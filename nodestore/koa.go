package nodestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/session"
)

// KoaOptions are the settings of a Koa. They have to be the options of the Node
// application: Keys always, the others where they differ from the defaults of
// koa-generic-session. Its prefix is the IDPrefix of the store's Layout.
type KoaOptions struct {
	// Name is the cookie's, the option key. Empty is "koa.sid". The cookie with
	// the signature has ".sig" after it.
	Name string
	// Keys are app.keys; there must be one at least: see session.Secrets. The first signs, all
	// verify, and a browser whose cookie another one has signed is sent a new
	// signature. To rotate, first add a new one at the end on all sides, then
	// move it to the front.
	Keys []session.Secret
	// Unsigned is signed: false: there is no signature, and no key is needed.
	// Anybody can then try sids. So those of no session are looked up at a bounded
	// rate: see session.Manager.
	Unsigned bool
	// Cookie is what the cookies of new sessions are like.
	Cookie Cookie
	// Rolling stores the session and sends the cookie with each answer to a
	// request that asked for its session. Without it a session lasts from its
	// last change, however much it is used.
	Rolling bool
	// AllowEmpty stores a session for each visitor whose request asks for one,
	// also if it stays empty.
	AllowEmpty bool

	// User is the path of the user in a session. Empty is passport's:
	// "passport", "user".
	User []string
	// TrustProxy is app.proxy: it believes the header X-Forwarded-Proto of a
	// proxy that ends TLS. Without, anybody could send it.
	TrustProxy bool
	// GenerateID makes the IDs of new sessions, which must be hard to guess,
	// printable ASCII without ";" and blanks, and fit the table's column with
	// the prefix. nil makes 32 characters of 24 random bytes, as
	// koa-generic-session does.
	GenerateID func(*http.Request) (string, error)
	// ErrorHandler is as in ExpressOptions.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)
	// OnEvent is as in ExpressOptions, with the keys of session.ForeignKey for
	// "koa-generic-session" and the ID.
	OnEvent func(context.Context, session.Event)
	// Logger is told of failures, and never sees an ID. If it is nil, warnings and
	// errors go to the default logger of log/slog; zap.NewNop() silences them.
	Logger *zap.Logger
}

// Koa gives the requests of a Go service the sessions of a Node application
// that uses koa-generic-session, by the same cookies and the same rows. It is
// safe for concurrent use. The store stays the caller's.
type Koa struct {
	placeholder
	site    *site
	opts    KoaOptions
	cookies koaCookie
}

// NewKoa makes a Koa. It is ErrInvalid of package session if an option is
// wrong.
func NewKoa(store *Store, opts KoaOptions) (*Koa, error) {
	if store == nil {
		return nil, fmt.Errorf("nodestore: %w: the store is nil", session.ErrInvalid)
	}
	return newKoa(store, opts)
}

func newKoa(store entries, opts KoaOptions) (*Koa, error) {
	if opts.Name == "" {
		opts.Name = "koa.sid"
	}
	if err := checkKoaName(opts.Name); err != nil {
		return nil, err
	}
	if !opts.Unsigned {
		if err := checkKeys("Keys", opts.Keys); err != nil {
			return nil, err
		}
	}
	k := &Koa{opts: opts, cookies: koaCookie{opts.Name, opts.Keys, opts.Unsigned}}
	cookie, err := koaRules{k}.complete(opts.Cookie, false)
	if err != nil {
		return nil, fmt.Errorf("nodestore: %w: Options.%w", session.ErrInvalid, err)
	}
	k.site, err = newSite(store, koaRules{k}, common{
		opts.Name, cookie, opts.User, always(opts.TrustProxy), opts.GenerateID, opts.ErrorHandler, opts.OnEvent, opts.Logger,
	})
	return k, err
}

func checkKoaName(name string) error {
	if !visible(name) || strings.Contains(name, "=") {
		return fmt.Errorf("nodestore: %w: Options.Name is %q; it must be printable ASCII without =, ; and blanks", session.ErrInvalid, name)
	}
	return nil
}

// visible reports whether a name or value of a cookie can be written as it is.
func visible(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ';' })
}

// Handler is Express.Handler by the rules of koa-generic-session: a session
// that is not changed is neither stored nor touched, and one that is has its
// cookies sent again. Where the cookie is secure and the request came over
// plain HTTP, a session cannot be stored: it is ErrInsecure of package session.
func (k *Koa) Handler(next http.Handler) http.Handler { return k.site.handler(next) }

// Session is FromContext for this Koa, whether the request has others or not.
func (k *Koa) Session(ctx context.Context) (*Session, error) { return k.site.current(ctx) }

type koaRules struct{ k *Koa }

func (x koaRules) traits() traits {
	return traits{scheme: "koa-generic-session", whole: true, clearEnded: true, clearUnknown: true, endUnset: true, forgeable: x.k.opts.Unsigned}
}

func (x koaRules) hides(key string) bool          { return key == cookieKey }
func (x koaRules) read(r *http.Request) presented { return x.k.cookies.read(header(r)) }
func (x koaRules) checkID(id string) error        { return checkKoaID(id) }

func (x koaRules) correct(f presented, https bool) []cookieLine {
	return x.k.cookies.correct(f, https)
}

func checkKoaID(id string) error {
	if !visible(id) || strings.HasPrefix(id, `"`) {
		return fmt.Errorf("nodestore: %w: GenerateID returned what is no printable ASCII without ;, blanks and a quote in front", session.ErrInvalid)
	}
	return nil
}

// plan is what refreshSession of koa-generic-session does.
func (x koaRules) plan(s atEnd) plan {
	if s.isNew {
		return plan{write: x.k.opts.AllowEmpty || s.dirty}
	}
	write := s.dirty || x.k.opts.Rolling && !s.saved || s.extended
	return plan{write: write, cookie: write || s.saved}
}

// fresh has the options that were given before the defaults, as the package
// does.
func (x koaRules) fresh(time.Time, bool) (*Document, error) {
	var given, left []field
	defaults := koaFields(Cookie{}.withDefaults(day), false)
	for i, f := range koaFields(x.k.site.opts.cookie, x.k.opts.Unsigned) {
		if string(f.value) == string(defaults[i].value) {
			left = append(left, f)
		} else {
			given = append(given, f)
		}
	}
	return split(object(append(given, left...)))
}

func (x koaRules) complete(c Cookie, _ bool) (Cookie, error) {
	c = c.withDefaults(day)
	if c.Secure == SecureAuto {
		c.Secure = SecureDefault
	}
	if c.SameSite == "auto" {
		return c, errors.New(`Cookie.SameSite is "auto", which is for express-session`)
	}
	return c, c.check()
}

func (x koaRules) fields(c Cookie, _ time.Time) []field { return koaFields(c, x.k.opts.Unsigned) }

func koaFields(c Cookie, unsigned bool) []field {
	maxAge := json.RawMessage("null")
	if c.MaxAge > 0 {
		maxAge = strconv.AppendInt(nil, c.MaxAge.Milliseconds(), 10)
	}
	return []field{
		{"httpOnly", boolean(!c.NotHTTPOnly)}, {"path", text(c.Path)}, {"overwrite", boolean(true)}, {"signed", boolean(!unsigned)},
		{"maxAge", maxAge}, {"domain", text(c.Domain)}, {"secure", secureField(c.Secure)}, {"sameSite", text(c.SameSite)},
		{"priority", text(c.Priority)}, {"partitioned", flag(c.Partitioned)},
	}
}

func (x koaRules) parse(cookie *Document) Cookie {
	c := readCookie(cookie)
	if ms, ends := numberOf(cookie.Raw("maxAge")); ends && ms != 0 {
		c.MaxAge = duration(ms)
	}
	return c
}

func (x koaRules) ending(cookie *Document, now time.Time) (time.Time, bool) {
	if maxAge := cookie.Raw("maxAge"); truthy(maxAge) {
		ms, _ := numberOf(maxAge)
		return laterBy(now, ms)
	}
	return expiresOf(cookie)
}

// use leaves maxAge, which counts from when the cookie is set. A text that is no
// date becomes null, as it does when koa-generic-session stores it.
func (x koaRules) use(cookie *Document, _ time.Time) {
	if raw := cookie.Raw("expires"); truthy(raw) {
		if _, ok := dateOf(raw, time.Local); !ok {
			place(cookie, field{"expires", json.RawMessage("null")}, nil)
		}
	}
}

func (x koaRules) set(sid string, cookie *Document, now time.Time, https bool) ([]cookieLine, error) {
	c := x.parse(cookie)
	if err := c.checkLine(); err != nil {
		return nil, err
	}
	if c.Secure == SecureAlways && !https {
		return nil, errKoaInsecure
	}
	expires, err := x.expires(cookie, now)
	if err != nil {
		return nil, err
	}
	a := attributes{Cookie: c, secure: c.overKoa(https), expires: expires}
	signed := !x.k.opts.Unsigned
	if raw := cookie.Raw("signed"); raw != nil {
		signed = signed && truthy(raw)
	}
	return x.k.cookies.lines(sid, signed, a), nil
}

// expires is for the header: maxAge goes before expires.
func (x koaRules) expires(cookie *Document, now time.Time) (string, error) {
	if maxAge := cookie.Raw("maxAge"); truthy(maxAge) {
		ms, is := numberOf(maxAge)
		end, ok := laterBy(now, ms)
		if !ok || !is {
			return "", errEndless
		}
		return httpTime(end), nil
	}
	if raw := cookie.Raw("expires"); truthy(raw) {
		if end, ok := dateOf(raw, time.Local); ok {
			return httpTime(end), nil
		}
	}
	return "", nil
}

var errKoaInsecure = fmt.Errorf("nodestore: %w: behind a proxy that ends TLS set Options.TrustProxy", session.ErrInsecure)

// overKoa is what the package cookies makes of an option secure that is not given.
func (c Cookie) overKoa(https bool) bool {
	return c.Secure == SecureAlways || https && c.Secure != SecureNever
}

// clear has the path and the domain of the cookie, without which browsers
// would keep it.
func (x koaRules) clear(c Cookie, https bool) []cookieLine {
	a := attributes{Cookie: Cookie{Path: c.Path, Domain: c.Domain}, secure: https, expires: httpTime(time.Unix(0, 0).UTC())}
	return x.k.cookies.lines("", !x.k.opts.Unsigned, a)
}
