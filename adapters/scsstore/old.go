package scsstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/adapters/internal/places"
	"github.com/sojourn-go/sojourn/adapters/internal/unversioned"
	"github.com/sojourn-go/sojourn/adapters/moving"
)

// Old is a store of scs: each scs.Store is one, such as those of pgxstore and redisstore.
// Where it is an scs.CtxStore too, it is called with the request's context.
type Old interface {
	Find(token string) (b []byte, found bool, err error)
	Commit(token string, b []byte, expiry time.Time) error
	Delete(token string) error
}

// Progress tells how many sessions this node has moved, from Options.Old or back there.
func (s *Store) Progress() moving.Progress {
	if s.both == nil {
		return moving.Progress{}
	}
	return s.both.Progress()
}

// form is how the store keeps what scs has made.
func (s *Store) form() places.Form {
	return places.Form{
		Wrap: func(token string, b []byte) []byte {
			_, own := s.keyOf(token)
			return append(own[:], b...)
		},
		Unwrap: func(data []byte) ([]byte, bool) {
			_, b, ok := split(data)
			return b, ok
		},
		About: func(_ string, b []byte) (unversioned.About, error) { return s.about(b) },
		Lasts: func(b []byte) time.Duration { // scs tells the idle timeout with its next Commit
			deadline, _, err := s.opts.Codec.Decode(b)
			if err != nil || deadline.IsZero() {
				return 0
			}
			return until(deadline)
		},
	}
}

// oldStore calls an Old by what it can do.
type oldStore struct{ Old }

func (o oldStore) Find(ctx context.Context, token string) ([]byte, bool, error) {
	if s, ok := o.Old.(interface {
		FindCtx(ctx context.Context, token string) ([]byte, bool, error)
	}); ok {
		return s.FindCtx(ctx, token)
	}
	return o.Old.Find(token)
}

func (o oldStore) Commit(ctx context.Context, token string, b []byte, lasts time.Duration) error {
	expiry := time.Now().UTC().Add(lasts)
	if s, ok := o.Old.(interface {
		CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error
	}); ok {
		return s.CommitCtx(ctx, token, b, expiry)
	}
	return o.Old.Commit(token, b, expiry)
}

func (o oldStore) Delete(ctx context.Context, token string) error {
	if s, ok := o.Old.(interface {
		DeleteCtx(ctx context.Context, token string) error
	}); ok {
		return s.DeleteCtx(ctx, token)
	}
	return o.Old.Delete(token)
}

func (o oldStore) all(ctx context.Context) (map[string][]byte, error) {
	switch s := o.Old.(type) {
	case interface {
		AllCtx(ctx context.Context) (map[string][]byte, error)
	}:
		return s.AllCtx(ctx)
	case interface {
		All() (map[string][]byte, error)
	}:
		return s.All()
	}
	return nil, fmt.Errorf("Options.Old cannot list its sessions: %w", errors.ErrUnsupported)
}
