package nodestore

import (
	"context"
	"errors"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Touch writes the expiry of a session and nothing else, rounded as the package
// does; zero means the default lifetime from now. found is whether there is such
// a live session: Touch never revives one that has expired. An expiry that has
// passed ends the session. With Options.DisableTouch or where
// Options.TouchEvery says that it is too early, Touch only reads.
//
// The document's cookie.expires stays as it is, in all packages: the column is
// the truth.
func (s *Store) Touch(ctx context.Context, id string, expires time.Time) (found bool, err error) {
	start := time.Now()
	found, err = s.touch(ctx, id, expires)
	return found, s.done("touch", start, written(ctx, err), id)
}

func (s *Store) touch(ctx context.Context, id string, expires time.Time) (bool, error) {
	if err := s.begun(ctx); err != nil {
		return false, err
	}
	key, err := s.key(id)
	if err != nil {
		return false, nil
	}
	now := s.clock()
	if expires.IsZero() {
		expires = s.byDefault(now)
	} else if expires, err = s.storable(expires, now); err != nil {
		return false, err
	}
	if s.opts.DisableTouch || s.opts.TouchEvery > 0 {
		if row, err := s.find(ctx, id); err != nil || !s.due(row, expires) {
			return found(err)
		}
	}
	var n int64
	err = s.retry(ctx, func() (err error) {
		n, err = s.exec(ctx, nil, s.q.touch, values{
			"id": key, "now": s.bindNow(now), "expires": s.bindExpiry(expires), "stamp": s.bindStamp(now),
		})
		return err
	})
	if isForeign(err) {
		return false, nil
	}
	if err == nil && n == 0 && s.dialect.countsChanges {
		_, err = s.find(ctx, id)
		return found(err)
	}
	return n > 0, err
}

// found makes a bool of an error.
func found(err error) (bool, error) {
	if errors.Is(err, session.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// TouchDue reports whether Touch would write that expiry to the row that was
// read. A caller who has just read it need not ask the database again. Zero
// means the default lifetime from now.
func (s *Store) TouchDue(read Entry, expires time.Time) bool {
	now := s.clock()
	if expires.IsZero() {
		return s.due(read, s.byDefault(now))
	}
	return s.due(read, s.capped(expires, now))
}

// due takes a rounded expiry.
func (s *Store) due(read Entry, expires time.Time) bool {
	if s.opts.DisableTouch {
		return false
	}
	moved := expires.Sub(read.Expires)
	return read.Expires.IsZero() || moved < 0 || moved > 0 && moved >= s.opts.TouchEvery
}
