package pgstore

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// TouchLater implements session.LateToucher. Where this node can prove that the
// session is live it answers at once and writes within a second, once for all
// touches of that time; else it is Touch, and so it is in the last seconds of the
// idle timeout, which would not outlast the write.
func (s *Store) TouchLater(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	if err := s.begun(ctx); err != nil {
		return time.Time{}, wrap("touch", err)
	}
	at := key
	if key.Bucket == 0 {
		at.Bucket, _ = s.hints.GetIfPresent(key.Hash)
	}
	expires = storable(expires)
	if row, ok := s.cache.Get(at); ok && row.Next.IsZero() {
		if want := earlier(expires, row.Record.Deadline); !row.Record.Expires.Before(want) {
			return row.Record.Expires, nil
		}
		// What the database has until then must outlast the write.
		if s.Now().Add(lateWait + min(s.opts.WriteTimeout, lateWrite)).Before(row.Record.Expires) {
			if promised, ok := s.cache.Extend(at, expires); ok && s.late.add(at, promised) {
				return promised, nil
			}
		}
	}
	return s.Touch(ctx, key, expires)
}

// late is the touches that were promised and not written yet.
type late struct {
	mu      sync.Mutex
	pending map[session.Key]time.Time
	closed  bool
	wake    chan struct{}
	closing chan struct{}
}

const (
	lateWait  = 500 * time.Millisecond
	lateWrite = 10 * time.Second // for which a write may last
	maxLate   = 100_000          // about 10 MB
)

func newLate() *late {
	return &late{pending: map[session.Key]time.Time{}, wake: make(chan struct{}, 1), closing: make(chan struct{})}
}

// add reports whether there was room for one more.
func (l *late) add(key session.Key, expires time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was, there := l.pending[key]
	if l.closed || !there && len(l.pending) == maxLate {
		return false
	}
	if expires.After(was) {
		l.pending[key] = expires
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

func (l *late) take() map[session.Key]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	some := l.pending
	l.pending = map[session.Key]time.Time{}
	return some
}

// close has lateLoop write what is left and end.
func (l *late) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.closing)
}

func (s *Store) lateLoop() {
	for {
		select {
		case <-s.late.wake:
			select {
			case <-time.After(lateWait):
			case <-s.late.closing:
			}
			s.writeLate(s.late.take())
		case <-s.late.closing:
			s.writeLate(s.late.take())
			return
		}
	}
}

// writeLate writes through the lane, whose batches are bounded in time.
func (s *Store) writeLate(some map[session.Key]time.Time) {
	ops := make([]*op, 0, len(some))
	for key, expires := range some {
		ops = append(ops, s.newTouch(key, expires))
	}
	if len(ops) == 0 {
		return
	}
	failed, firstErr := 0, s.touches.Start(ops...)
	if firstErr != nil {
		failed = len(ops)
		ops = nil
	}
	for _, o := range ops {
		err := s.touches.Await(context.Background(), o)
		if err == nil {
			s.stats.touches.Add(1)
			continue
		}
		if isNotFound(err) && !o.expired {
			continue // it was ended meanwhile, for which nobody needs an expiry
		}
		failed++
		firstErr = cmp.Or(firstErr, err)
	}
	if failed > 0 {
		s.stats.lateFailures.Add(uint64(failed))
		s.backgroundError("touch later", fmt.Errorf("%d of %d expiries were not written: %w", failed, len(some), firstErr))
	}
}
