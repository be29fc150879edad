package sqlitestore

import (
	"context"
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
		r, err := t.find(key)
		if err != nil {
			return time.Time{}, err
		}
		inForce, write, err := r.Touch(expires)
		if write {
			_, err = t.exec(touch, r.ID, storekit.Micros(inForce))
		}
		return inForce, err
	})
	if err == nil {
		s.stats.touches.Add(1)
	}
	return out, err
}
