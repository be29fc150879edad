package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// notedStore notes for each request what the store has answered it. Versions
// and conflicts are the Manager's business, and here they are what there is to
// see.
type notedStore struct{ store }

// notedMemory is one that answers from its memory.
type notedMemory struct {
	notedStore
	memory
}

func noted(s store) session.Store {
	if m, ok := s.(memory); ok {
		return notedMemory{notedStore{s}, m}
	}
	return notedStore{s}
}

// notes are about one request.
type notes struct {
	mu        sync.Mutex
	version   int64 // of the session as last read or written
	conflicts int   // saves that met another one
}

type notesKey struct{}

// noting gives each request its notes. It belongs around the Manager, whose
// writes outlive the handler's context, but not the values of its own.
func noting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), notesKey{}, &notes{})))
	})
}

func notesOf(ctx context.Context) (version int64, conflicts int) {
	n, ok := ctx.Value(notesKey{}).(*notes)
	if !ok {
		return 0, 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version, n.conflicts
}

func note(ctx context.Context, rec session.Record, err error) (session.Record, error) {
	if n, ok := ctx.Value(notesKey{}).(*notes); ok {
		n.mu.Lock()
		defer n.mu.Unlock()
		switch {
		case err == nil:
			n.version = rec.Version
		case errors.Is(err, session.ErrConflict):
			n.conflicts++
		}
	}
	return rec, err
}

func (s notedStore) Get(ctx context.Context, key session.Key) (session.Record, error) {
	rec, err := s.store.Get(ctx, key)
	return note(ctx, rec, err)
}

func (s notedMemory) GetFresh(ctx context.Context, key session.Key) (session.Record, error) {
	rec, err := s.memory.GetFresh(ctx, key)
	return note(ctx, rec, err)
}

func (s notedStore) Create(ctx context.Context, rec session.Record) (session.Record, error) {
	rec, err := s.store.Create(ctx, rec)
	return note(ctx, rec, err)
}

func (s notedStore) Save(ctx context.Context, rec session.Record) (session.Record, error) {
	rec, err := s.store.Save(ctx, rec)
	return note(ctx, rec, err)
}

func (s notedStore) Renew(ctx context.Context, old session.Key, rec session.Record, grace time.Duration) (session.Record, error) {
	rec, err := s.store.Renew(ctx, old, rec, grace)
	return note(ctx, rec, err)
}
