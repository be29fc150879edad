package nodestore

import (
	"context"
	"crypto/rand"
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

// KoaSessionOptions are the settings of a KoaSession. They have to be the options
// of the Node application: Keys always, the others where they differ from the
// defaults of koa-session.
type KoaSessionOptions struct {
	// Name is the cookie's, the option key. Empty is "koa.sess". The cookie with
	// the signature has ".sig" after it.
	Name string
	// Keys are app.keys; see KoaOptions.Keys.
	Keys []session.Secret
	// Unsigned is signed: false: there is no signature, and no key is needed. See
	// KoaOptions.Unsigned.
	Unsigned bool
	// Cookie is what the cookies are like. koa-session keeps MaxAge in a session and
	// takes the rest from here, for all sessions. A MaxAge of 0 is a day, and a
	// negative one is maxAge: 'session'. Where maxAge is not given, the package sends
	// the first cookie of a session without an end, and Go sends all with it.
	Cookie Cookie
	// Rolling stores the session and sends the cookie with each answer to a
	// request that asked for its session.
	Rolling bool
	// Renew does what Rolling does once half of the session's lifetime has passed.
	Renew bool
	// Prefix begins the IDs that are made where GenerateID is nil.
	Prefix string
	// ExternalKey and SendExternalKey are get and set of externalKey: the first finds
	// the ID in a request, empty if there is none, and the second gives it to the
	// client, in the header of the answer. Both are set, or none. With them there is
	// no cookie and no signature, and IDs of no session are looked up at a bounded
	// rate: see session.Manager.
	ExternalKey     func(*http.Request) string
	SendExternalKey func(header http.Header, id string)

	// User is the path of the user in a session. Empty is passport's:
	// "passport", "user".
	User []string
	// TrustProxy is app.proxy; see KoaOptions.TrustProxy.
	TrustProxy bool
	// GenerateID is genid, as in KoaOptions. nil makes a random UUID, as koa-session
	// does.
	GenerateID func(*http.Request) (string, error)
	// ErrorHandler is as in ExpressOptions.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)
	// OnEvent is as in ExpressOptions, with the keys of session.ForeignKey for
	// "koa-session" and the ID.
	OnEvent func(context.Context, session.Event)
	// Logger is told of failures, and never sees an ID. If it is nil, warnings and
	// errors go to the default logger of log/slog; zap.NewNop() silences them.
	Logger *zap.Logger
}

// KoaSession gives the requests of a Go service the sessions of a Node application
// that uses koa-session with an external store, by the same cookies and the same
// rows. It is safe for concurrent use. The store stays the caller's.
//
// A session has no cookie object: its members _expire and _maxAge, or _session,
// say when it ends, in milliseconds. One whose _expire has passed is dead, whatever
// the column says, so that a touch does not extend it. Nothing but a change, the
// options Rolling and Renew, and Session.Touch do.
type KoaSession struct {
	placeholder
	site    *site
	opts    KoaSessionOptions
	cookies koaCookie
}

// NewKoaSession makes a KoaSession. It is ErrInvalid of package session if an
// option is wrong.
func NewKoaSession(store *Store, opts KoaSessionOptions) (*KoaSession, error) {
	if store == nil {
		return nil, fmt.Errorf("nodestore: %w: the store is nil", session.ErrInvalid)
	}
	return newKoaSession(store, opts)
}

func newKoaSession(store entries, opts KoaSessionOptions) (*KoaSession, error) {
	if opts.Name == "" {
		opts.Name = "koa.sess"
	}
	if err := checkKoaName(opts.Name); err != nil {
		return nil, err
	}
	if (opts.ExternalKey == nil) != (opts.SendExternalKey == nil) {
		return nil, fmt.Errorf("nodestore: %w: of Options.ExternalKey and Options.SendExternalKey one is nil", session.ErrInvalid)
	}
	if !opts.Unsigned && opts.ExternalKey == nil {
		if err := checkKeys("Keys", opts.Keys); err != nil {
			return nil, err
		}
	}
	if opts.GenerateID == nil {
		opts.GenerateID = func(*http.Request) (string, error) { return opts.Prefix + newUUID(), nil }
	}
	opts.Cookie = opts.Cookie.withDefaults(day)
	if opts.Cookie.SameSite == "auto" {
		return nil, fmt.Errorf(`nodestore: %w: Options.Cookie.SameSite is "auto", which is for express-session`, session.ErrInvalid)
	}
	k := &KoaSession{opts: opts, cookies: koaCookie{opts.Name, opts.Keys, opts.Unsigned}}
	var err error
	k.site, err = newSite(expiring{store}, koaSessionRules{k}, common{
		opts.Name, opts.Cookie, opts.User, always(opts.TrustProxy), opts.GenerateID, opts.ErrorHandler, opts.OnEvent, opts.Logger,
	})
	return k, err
}

// newUUID makes a random UUID, of version 4.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Handler is Express.Handler by the rules of koa-session: a session that is not
// changed is neither stored nor touched, and one that is has its cookies sent
// again. Where the cookie is secure and the request came over plain HTTP, a session
// cannot be stored: it is ErrInsecure of package session.
func (k *KoaSession) Handler(next http.Handler) http.Handler { return k.site.handler(next) }

// Session is FromContext for this KoaSession, whether the request has others or
// not.
func (k *KoaSession) Session(ctx context.Context) (*Session, error) { return k.site.current(ctx) }

// expiring finds no session whose own end has passed.
type expiring struct{ entries }

func (e expiring) Get(ctx context.Context, id string) (Entry, error) {
	entry, err := e.entries.Get(ctx, id)
	if err != nil {
		return Entry{}, err
	}
	if doc, err := split(entry.Data); err == nil {
		if end, is := numberOf(doc.Raw(expireKey)); is && end < float64(time.Now().UnixMilli()) {
			return Entry{}, fmt.Errorf("nodestore: get: %w: its %s has passed", session.ErrNotFound, expireKey)
		}
	}
	return entry, nil
}

// What koa-session keeps of a cookie stands among the members of the session.
const (
	expireKey  = "_expire"
	maxAgeKey  = "_maxAge"
	sessionKey = "_session"
)

// private reports whether koa-session keeps a member from the application.
func private(key string) bool { return strings.HasPrefix(key, "_") }

type koaSessionRules struct{ k *KoaSession }

func (x koaSessionRules) traits() traits {
	external := x.k.opts.ExternalKey != nil
	return traits{
		scheme: "koa-session", flat: true, clearEnded: !external, endUnset: true,
		forgeable: x.k.opts.Unsigned || external, send: x.k.opts.SendExternalKey,
	}
}

// koaSessionHides are the properties of a Session of koa-session and of any object.
var koaSessionHides = map[string]bool{
	"isNew": true, "length": true, "populated": true, "maxAge": true, "externalKey": true,
	"save": true, "regenerate": true, "manuallyCommit": true, "commit": true, "toJSON": true, "constructor": true,
}

func (x koaSessionRules) hides(key string) bool { return private(key) || koaSessionHides[key] }

func (x koaSessionRules) read(r *http.Request) presented {
	if x.k.opts.ExternalKey == nil {
		return x.k.cookies.read(header(r))
	}
	sid := x.k.opts.ExternalKey(r)
	return presented{sid: sid, given: sid != ""}
}

func (x koaSessionRules) correct(f presented, https bool) []cookieLine {
	return x.k.cookies.correct(f, https)
}

func (x koaSessionRules) checkID(id string) error { return checkKoaID(id) }

// plan is what commit of koa-session does.
func (x koaSessionRules) plan(s atEnd) plan {
	if s.isNew {
		return plan{write: s.dirty || s.extended || s.regenerated}
	}
	write := s.dirty || s.extended || !s.saved && (x.k.opts.Rolling || x.k.opts.Renew && s.halfGone)
	return plan{write: write, cookie: write || s.saved}
}

func (x koaSessionRules) fresh(now time.Time, _ bool) (*Document, error) {
	return split(object(x.fields(x.k.opts.Cookie, now)))
}

func (x koaSessionRules) complete(c Cookie, _ bool) (Cookie, error) {
	c = c.withDefaults(day)
	if rest := (Cookie{MaxAge: c.MaxAge}); c != x.all(rest) {
		return c, errors.New("the Cookie has another field than MaxAge that is not the option's: koa-session keeps MaxAge alone")
	}
	return c, c.check()
}

// all is a cookie with what the options say.
func (x koaSessionRules) all(c Cookie) Cookie {
	maxAge := c.MaxAge
	c = x.k.opts.Cookie
	c.MaxAge = maxAge
	return c
}

func (x koaSessionRules) fields(c Cookie, _ time.Time) []field {
	if c.MaxAge < 0 {
		return []field{{sessionKey, boolean(true)}, {maxAgeKey, nil}}
	}
	return []field{{sessionKey, nil}, {maxAgeKey, strconv.AppendInt(nil, c.MaxAge.Milliseconds(), 10)}}
}

func (x koaSessionRules) parse(cookie *Document) Cookie {
	c := x.all(x.k.opts.Cookie)
	if cookie.Raw(sessionKey) != nil {
		c.MaxAge = none
	} else if ms, is := numberOf(cookie.Raw(maxAgeKey)); is && ms != 0 {
		c.MaxAge = duration(ms)
	}
	return c
}

func (x koaSessionRules) ending(cookie *Document, _ time.Time) (time.Time, bool) {
	if cookie.Raw(sessionKey) != nil {
		return time.Time{}, false
	}
	end, ends := numberOf(cookie.Raw(expireKey))
	if !ends {
		return time.Time{}, false
	}
	return dateOfNumber(end)
}

// use has the session end a maxAge from now.
func (x koaSessionRules) use(cookie *Document, now time.Time) {
	c := x.parse(cookie)
	end := json.RawMessage(nil)
	if c.MaxAge > 0 {
		end = strconv.AppendInt(nil, now.Add(c.MaxAge).UnixMilli(), 10)
	}
	for _, f := range append(x.fields(c, now), field{expireKey, end}) {
		place(cookie, f, nil)
	}
}

func (x koaSessionRules) set(sid string, cookie *Document, now time.Time, https bool) ([]cookieLine, error) {
	if x.k.opts.SendExternalKey != nil {
		return []cookieLine{{text: sid}}, nil
	}
	c := x.parse(cookie)
	if c.Secure == SecureAlways && !https {
		return nil, errKoaInsecure
	}
	a := attributes{Cookie: c, secure: c.overKoa(https)}
	if c.MaxAge > 0 {
		a.expires = httpTime(now.Add(c.MaxAge).UTC())
	}
	return x.k.cookies.lines(sid, !x.k.opts.Unsigned, a), nil
}

// clear has all attributes of the cookie, as the package does.
func (x koaSessionRules) clear(c Cookie, https bool) []cookieLine {
	a := attributes{Cookie: c, secure: c.overKoa(https), expires: httpTime(time.Unix(0, 0).UTC())}
	return x.k.cookies.lines("", !x.k.opts.Unsigned, a)
}

// flatCookie takes what koa-session keeps of a cookie out of a document.
func flatCookie(doc *Document) *Document {
	var fields []field
	for _, key := range []string{sessionKey, expireKey, maxAgeKey} {
		fields = append(fields, field{key, doc.Raw(key)})
	}
	cookie, err := split(object(fields))
	if err != nil { // it cannot be: object has made it
		return &Document{tail: []byte{'}'}}
	}
	return cookie
}

// putFlat puts it back, behind the values of the application, as the package does.
func putFlat(doc, cookie *Document) {
	for _, key := range []string{sessionKey, expireKey, maxAgeKey} {
		place(doc, field{name: key}, nil) // gone
		if value := cookie.Raw(key); value != nil {
			place(doc, field{key, value}, nil)
		}
	}
}

// halfGone reports whether half of the lifetime that a document tells has passed.
func halfGone(doc *Document, now time.Time) bool {
	end, ends := numberOf(doc.Raw(expireKey))
	maxAge, _ := numberOf(doc.Raw(maxAgeKey))
	return ends && end != 0 && maxAge != 0 && end-float64(now.UnixMilli()) < maxAge/2
}
