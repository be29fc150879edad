package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore"
	"github.com/sojourn-go/sojourn/session"
)

// managed is our own candidate: a Manager on a pgstore that may answer reads from
// its memory.
type managed struct {
	manager *session.Manager
	store   *pgstore.Store
}

func openManager(ctx context.Context, pool *pgxpool.Pool) (backend, error) {
	store, err := openStore(ctx, pool)
	if err != nil {
		return nil, err
	}
	m, err := session.NewManager(store, session.Options{
		Policy:       session.Policy{IdleTimeout: idleTimeout, AbsoluteTimeout: absoluteTimeout},
		Cookie:       session.Cookie{Insecure: true}, // plain HTTP
		ErrorHandler: fail,
	})
	if err != nil {
		return nil, errors.Join(err, closeStore(ctx, store))
	}
	return managed{m, store}, nil
}

// openStore opens a store whose cache answers.
func openStore(ctx context.Context, pool *pgxpool.Pool) (*pgstore.Store, error) {
	if err := migrations.UpFromPool(ctx, pool, migrations.Config{}); err != nil {
		return nil, err
	}
	leased := make(chan struct{})
	tell := sync.OnceFunc(func() { close(leased) })
	store, err := pgstore.New(ctx, pool, pgstore.Options{
		OnLease: func(c invalidation.LeaseChange) {
			if c.Held {
				tell()
			}
		},
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-leased: // to start without the cache would measure something else
		return store, nil
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("the cache may not answer yet: %w", context.Cause(ctx)), closeStore(ctx, store))
	}
}

// closeStore closes a store that is of no use, also when ctx has ended.
func closeStore(ctx context.Context, store *pgstore.Store) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	return store.Close(last)
}

func (b managed) wrap(h http.Handler) http.Handler { return b.manager.Handler(h) }

func (b managed) read(r *http.Request) (user, theme string, err error) {
	s, err := session.FromContext(r.Context())
	if err != nil {
		return "", "", err
	}
	theme, err = session.Get[string](s, themeKey)
	return s.User(), theme, err
}

func (b managed) write(r *http.Request, theme string) (user string, err error) {
	s, err := session.FromContext(r.Context())
	if err != nil {
		return "", err
	}
	return s.User(), s.Set(themeKey, theme)
}

func (b managed) login(_ http.ResponseWriter, r *http.Request, user string, values map[string]string) error {
	s, err := session.FromContext(r.Context())
	if err != nil {
		return err
	}
	for key, value := range values {
		if err := s.Set(key, value); err != nil {
			return err
		}
	}
	return s.Login(r.Context(), user, session.Login{})
}

func (b managed) close(ctx context.Context) error { return b.store.Close(ctx) }
