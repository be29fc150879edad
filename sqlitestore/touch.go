package sqlitestore

import (
	"context"
	"errors"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	out, err := s.touch(ctx, key, expires)
	return out, wrap("touch", err)
}

func (s *Store) touch(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	if err := s.begun(ctx); err != nil {
		return time.Time{}, err
	}
	if err := storekit.Key("the key", key); err != nil {
		return time.Time{}, err
	}
	expires = storekit.Expiry(expires)
	out, err := write(ctx, s, func(t *tx) (time.Time, error) {
		r, err := t.writable(key, t.now())
		if errors.Is(err, session.ErrConflict) {
			err = session.ErrNotFound // a renewed key is not touched
		}
		if err != nil {
			return time.Time{}, err
		}
		later := storekit.Earlier(expires, r.rec.Deadline)
		if !later.After(r.rec.Expires) {
			return r.rec.Expires, nil
		}
		_, err = t.exec(touch, r.id, storekit.Micros(later))
		return later, err
	})
	if err == nil {
		s.stats.touches.Add(1)
	}
	return out, err
}
