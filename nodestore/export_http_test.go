package nodestore

import (
	"context"
	"database/sql"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Entries is what a middleware needs of a store.
type Entries = entries

// NewExpressAt is NewExpress on any store, with a clock.
func NewExpressAt(store Entries, opts ExpressOptions, now func() time.Time) (*Express, error) {
	e, err := newExpress(store, opts)
	if e != nil && e.site != nil {
		e.site.now = now
	}
	return e, err
}

// NewKoaAt is NewKoa on any store, with a clock.
func NewKoaAt(store Entries, opts KoaOptions, now func() time.Time) (*Koa, error) {
	k, err := newKoa(store, opts)
	if k != nil && k.site != nil {
		k.site.now = now
	}
	return k, err
}

// NewKoaMinimalAt is NewKoaMinimal on any store, with a clock.
func NewKoaMinimalAt(store Entries, opts KoaMinimalOptions, now func() time.Time) (*Koa, error) {
	k, err := newKoaMinimal(store, opts)
	if k != nil && k.site != nil {
		k.site.now = now
	}
	return k, err
}

// NewStoreAt is New with a clock.
func NewStoreAt(ctx context.Context, db *sql.DB, layout Layout, opts Options, now func() time.Time) (*Store, error) {
	return newStore(ctx, db, layout, opts, now)
}

// ReadExpress finds the sid in a Cookie header.
func ReadExpress(header, name string, secrets ...string) (sid string, given bool) {
	return expressCookie{name, session.Secrets(secrets...)}.read(header)
}

// ReadKoa finds the sid in a Cookie header.
func ReadKoa(header, name string, keys ...string) (sid string, given, wrong, old bool) {
	f := koaCookie{name: name, keys: session.Secrets(keys...)}.read(header)
	return f.sid, f.given, f.wrong, f.old
}

// ExpressValue is what the browser is given.
func ExpressValue(secret, sid string) string {
	return expressCookie{secrets: session.Secrets(secret)}.value(sid)
}

// SignKoa is the signature of a cookie.
func SignKoa(key, name, sid string) string { return signKoa(key, name, sid) }
