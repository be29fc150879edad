package fiberstore

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/adapters/internal/places"
	"github.com/sojourn-go/sojourn/adapters/internal/unversioned"
	"github.com/sojourn-go/sojourn/adapters/moving"
)

// Old is a storage of Fiber: each fiber.Storage of version 2 or 3 is one. Those of
// version 3 are called with the request's context.
type Old interface {
	Get(key string) ([]byte, error)
	Set(key string, val []byte, exp time.Duration) error
	Delete(key string) error
	Reset() error
}

// Progress tells how many sessions this node has moved, from Options.Old or back there.
func (s *Storage) Progress() moving.Progress {
	if s.both == nil {
		return moving.Progress{}
	}
	return s.both.Progress()
}

// form is how the storage keeps what Fiber has made.
func (s *Storage) form() places.Form {
	return places.Form{
		Wrap:   func(_ string, data []byte) []byte { return append([]byte(s.mark), data...) },
		Unwrap: func(data []byte) ([]byte, bool) { return bytes.CutPrefix(data, []byte(s.mark)) },
		About:  func(key string, _ []byte) (unversioned.About, error) { return s.about(s.keyOf(key)), nil },
	}
}

// oldStorage calls an Old by what it can do. Keys and values are copied, since Fiber
// gives the storage what it will use again.
type oldStorage struct{ Old }

func (o oldStorage) Find(ctx context.Context, key string) (data []byte, found bool, err error) {
	key = strings.Clone(key)
	if s, ok := o.Old.(interface {
		GetWithContext(ctx context.Context, key string) ([]byte, error)
	}); ok {
		data, err = s.GetWithContext(ctx, key)
	} else {
		data, err = o.Get(key)
	}
	return data, len(data) > 0, err
}

func (o oldStorage) Commit(ctx context.Context, key string, data []byte, lasts time.Duration) error {
	key, data = strings.Clone(key), bytes.Clone(data)
	if lasts > 0 { // many count in whole seconds
		lasts = max(lasts, time.Second)
	}
	if s, ok := o.Old.(interface {
		SetWithContext(ctx context.Context, key string, val []byte, exp time.Duration) error
	}); ok {
		return s.SetWithContext(ctx, key, data, lasts)
	}
	return o.Set(key, data, lasts)
}

func (o oldStorage) Delete(ctx context.Context, key string) error {
	key = strings.Clone(key)
	if s, ok := o.Old.(interface {
		DeleteWithContext(ctx context.Context, key string) error
	}); ok {
		return s.DeleteWithContext(ctx, key)
	}
	return o.Old.Delete(key)
}

func (o oldStorage) reset(ctx context.Context) error {
	if s, ok := o.Old.(interface {
		ResetWithContext(ctx context.Context) error
	}); ok {
		return s.ResetWithContext(ctx)
	}
	return o.Reset()
}
