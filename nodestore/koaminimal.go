package nodestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/session"
)

// KoaMinimalOptions are the settings of an application with koa-session-minimal.
type KoaMinimalOptions struct {
	// Name is the cookie's, the option key. Empty is "koa:sess". It is in the rows too:
	// the IDPrefix of the store's Layout must be the Name and a colon.
	Name string
	// Cookie is what the cookies of sessions are like: the option cookie. Without a
	// MaxAge they last as long as the browser, and the rows for a day. Where the
	// application gives a function, call Session.SetCookie: no row holds a cookie.
	Cookie Cookie

	// User, TrustProxy, GenerateID, ErrorHandler and OnEvent are as in KoaOptions;
	// the scheme of keys is "koa-session-minimal".
	User         []string
	TrustProxy   bool
	GenerateID   func(*http.Request) (string, error)
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)
	OnEvent      func(context.Context, session.Event)
	// Logger is told of failures, and never sees an ID. If it is nil, warnings and
	// errors go to the default logger of log/slog; zap.NewNop() silences them.
	Logger *zap.Logger
}

// NewKoaMinimal is NewKoa for an application with koa-session-minimal. The package
// signs no cookies, so that anybody can try IDs: those of no session are looked up
// at a bounded rate. A value of the key "cookie" cannot be shared. Its
// regenerateId is Session.Renew, and what it does with an emptied session is
// Session.Unset. It is ErrInvalid of package session if an option is wrong.
func NewKoaMinimal(store *Store, opts KoaMinimalOptions) (*Koa, error) {
	if store == nil {
		return nil, fmt.Errorf("nodestore: %w: the store is nil", session.ErrInvalid)
	}
	k, err := newKoaMinimal(store, opts)
	if err == nil && store.layout.IDPrefix != k.opts.Name+":" {
		return nil, fmt.Errorf("nodestore: %w: Options.Name is %q, so that Layout.IDPrefix must be %q; it is %q",
			session.ErrInvalid, k.opts.Name, k.opts.Name+":", store.layout.IDPrefix)
	}
	return k, err
}

func newKoaMinimal(store entries, opts KoaMinimalOptions) (*Koa, error) {
	if opts.Name == "" {
		opts.Name = "koa:sess"
	}
	if err := checkKoaName(opts.Name); err != nil {
		return nil, err
	}
	k := &Koa{opts: KoaOptions{Name: opts.Name, Unsigned: true}, cookies: koaCookie{name: opts.Name, unsigned: true}}
	rules := koaMinimalRules{koaRules{k}}
	cookie, err := rules.complete(opts.Cookie, false)
	if err != nil {
		return nil, fmt.Errorf("nodestore: %w: Options.%w", session.ErrInvalid, err)
	}
	rows := bareRows{store, object(koaFields(cookie, true))}
	k.site, err = newSite(rows, rules, common{
		opts.Name, cookie, opts.User, always(opts.TrustProxy), opts.GenerateID, opts.ErrorHandler, opts.OnEvent, opts.Logger,
	})
	return k, err
}

type koaMinimalRules struct{ koaRules }

func (x koaMinimalRules) traits() traits {
	return traits{scheme: "koa-session-minimal", whole: true, clearEnded: true, endUnset: true, forgeable: true}
}

func (x koaMinimalRules) complete(c Cookie, https bool) (Cookie, error) {
	return x.koaRules.complete(c.withDefaults(none), https)
}

// clear has all attributes of the cookie, as the package does.
func (x koaMinimalRules) clear(c Cookie, https bool) []cookieLine {
	secure := c.Secure == SecureAlways || https && c.Secure != SecureNever
	return x.k.cookies.lines("", false, attributes{Cookie: c, secure: secure, expires: httpTime(time.Unix(0, 0).UTC())})
}

// bareRows are rows without a cookie object, which a session has only while a
// request uses it: what the options say.
type bareRows struct {
	entries
	cookie []byte
}

// errOwnCookie is about a session with a value that looks like a cookie object.
var errOwnCookie = fmt.Errorf("nodestore: %w: it has a value of the key %q", session.ErrUndecodable, cookieKey)

// dress puts the cookie object into what was read.
func (b bareRows) dress(e Entry, err error) (Entry, error) {
	if err != nil {
		return Entry{}, err
	}
	d, err := split(e.Data)
	switch {
	case err != nil:
		return Entry{}, err
	case d.find(cookieKey) >= 0:
		return Entry{}, errOwnCookie
	}
	member := `"` + cookieKey + `":` + string(b.cookie)
	if len(d.members) > 0 {
		member += ","
	}
	open := bytes.IndexByte(e.Data, '{') + 1
	e.Data = slices.Concat(e.Data[:open], []byte(member), e.Data[open:])
	return e, nil
}

// bare is a document without its cookie object, and otherwise byte for byte the
// same.
func bare(data []byte) ([]byte, error) {
	d, err := split(data)
	if err != nil || len(d.members) == 0 || d.members[0].key != cookieKey {
		return data, err
	}
	open := bytes.IndexByte(data, '{') + 1
	rest := data[len(d.members[0].lead)+len(d.members[0].value):]
	return slices.Concat(data[:open], bytes.TrimPrefix(rest, []byte{','})), nil
}

func (b bareRows) Get(ctx context.Context, id string) (Entry, error) {
	return b.dress(b.entries.Get(ctx, id))
}

func (b bareRows) Create(ctx context.Context, id string, data []byte, expires time.Time) (Entry, error) {
	data, err := bare(data)
	if err != nil {
		return Entry{}, err
	}
	return b.dress(b.entries.Create(ctx, id, data, expires))
}

func (b bareRows) Save(ctx context.Context, read Entry, data []byte, expires time.Time) (Entry, error) {
	was, err := bare(read.Data)
	data, alsoErr := bare(data)
	if err := errors.Join(err, alsoErr); err != nil {
		return Entry{}, err
	}
	read.Data = was
	return b.dress(b.entries.Save(ctx, read, data, expires))
}

func (b bareRows) Renew(ctx context.Context, read Entry, id string, data []byte, expires time.Time) (Entry, error) {
	was, err := bare(read.Data)
	data, alsoErr := bare(data)
	if err := errors.Join(err, alsoErr); err != nil {
		return Entry{}, err
	}
	read.Data = was
	return b.dress(b.entries.Renew(ctx, read, id, data, expires))
}
