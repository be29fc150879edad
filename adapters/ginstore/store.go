// Package ginstore keeps the sessions of github.com/gin-contrib/sessions in a
// session.Store. It is package gorillastore with the one method more that gin-contrib
// asks for.
package ginstore

import (
	"github.com/gin-contrib/sessions"

	"github.com/sojourn-go/sojourn/adapters/gorillastore"
	"github.com/sojourn-go/sojourn/session"
)

// Store is a sessions.Store of gin-contrib. All methods but Options may be called
// concurrently.
type Store struct{ *gorillastore.Store }

var _ sessions.Store = Store{}

// New makes a Store, as gorillastore.New does.
func New(store session.Store, cfg gorillastore.Config) (Store, error) {
	s, err := gorillastore.New(store, cfg)
	return Store{s}, err
}

// Options implements sessions.Store: it replaces the Options of gorillastore.Store, and
// is called before the first request. A cookie that is to be Secure and for all paths
// has to be told so here.
func (s Store) Options(options sessions.Options) { s.Store.Options = options.ToGorillaOptions() }
