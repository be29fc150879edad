package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/alexedwards/scs/pgxstore"
	"github.com/alexedwards/scs/v2"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/adapters/scsstore"
	"github.com/sojourn-go/sojourn/pgstore"
)

// The lifetimes of all candidates that have them.
const (
	absoluteTimeout = 12 * time.Hour
	idleTimeout     = 30 * time.Minute
)

type scsBackend struct{ manager *scs.SessionManager }

func openSCS(ctx context.Context, pool *pgxpool.Pool) (backend, error) { return newSCS(ctx, pool, 0) }

func openSCSIdle(ctx context.Context, pool *pgxpool.Pool) (backend, error) {
	return newSCS(ctx, pool, idleTimeout)
}

// newSCS makes the table and index that pgxstore's documentation asks for.
func newSCS(ctx context.Context, pool *pgxpool.Pool, idle time.Duration) (backend, error) {
	for _, stmt := range []string{
		`CREATE TABLE public.sessions (token text PRIMARY KEY, data bytea NOT NULL, expiry timestamptz NOT NULL)`,
		`CREATE INDEX sessions_expiry_idx ON public.sessions (expiry)`,
	} {
		if _, err := pool.Exec(ctx, stmt); err != nil {
			return nil, err
		}
	}
	return scsOn(pgxstore.NewWithCleanupInterval(pool, 0), idle), nil // nothing expires in time
}

func scsOn(store scs.Store, idle time.Duration) scsBackend {
	m := scs.New()
	m.Store = store
	m.Lifetime = absoluteTimeout
	m.IdleTimeout = idle
	m.ErrorFunc = fail
	return scsBackend{m}
}

// adaptedSCS is scs on this module's store.
type adaptedSCS struct {
	scsBackend
	store *pgstore.Store
}

func openAdaptedSCS(ctx context.Context, pool *pgxpool.Pool) (backend, error) {
	store, err := openStore(ctx, pool)
	if err != nil {
		return nil, err
	}
	adapted, err := scsstore.New(store, scsstore.Options{})
	if err != nil {
		return nil, errors.Join(err, closeStore(ctx, store))
	}
	return adaptedSCS{scsOn(adapted, idleTimeout), store}, nil
}

func (b adaptedSCS) close(ctx context.Context) error { return b.store.Close(ctx) }

func (b scsBackend) wrap(h http.Handler) http.Handler { return b.manager.LoadAndSave(h) }

const userKey = "user"

func (b scsBackend) read(r *http.Request) (user, theme string, err error) {
	ctx := r.Context()
	return b.manager.GetString(ctx, userKey), b.manager.GetString(ctx, themeKey), nil
}

func (b scsBackend) write(r *http.Request, theme string) (user string, err error) {
	ctx := r.Context()
	b.manager.Put(ctx, themeKey, theme)
	return b.manager.GetString(ctx, userKey), nil
}

func (b scsBackend) login(_ http.ResponseWriter, r *http.Request, user string, values map[string]string) error {
	ctx := r.Context()
	if err := b.manager.RenewToken(ctx); err != nil {
		return err
	}
	b.manager.Put(ctx, userKey, user)
	for key, value := range values {
		b.manager.Put(ctx, key, value)
	}
	return nil
}

func (b scsBackend) close(context.Context) error { return nil }
