package pgstore

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/logging"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// TouchLater implements session.LateToucher. If this node can prove that the
// session is live, TouchLater answers at once and writes within a second, once
// for all touches of that time. Otherwise it is Touch. It is Touch in the last
// seconds of the idle timeout, which would not outlast the write, and while
// 100,000 touches wait.
func (s *Store) TouchLater(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	if err := s.begun(ctx); err != nil {
		return time.Time{}, wrap("touch", err)
	}
	at := key
	if key.Bucket == 0 {
		at.Bucket, _ = s.hints.GetIfPresent(key.Hash)
	}
	expires = storekit.Expiry(expires)
	if row, ok := s.cache.Get(at); ok && row.Next.IsZero() {
		if want := storekit.Earlier(expires, row.Record.Deadline); !row.Record.Expires.Before(want) {
			return row.Record.Expires, nil
		}
		// The expiry in the database must outlast the write.
		if s.Now().Add(lateWait + min(s.opts.WriteTimeout, lateWrite)).Before(row.Record.Expires) {
			if promised, ok := s.cache.Extend(at, expires); ok && s.promised.add(at, promised, s.log) {
				return promised, nil
			}
		}
	}
	return s.Touch(ctx, key, expires)
}

// promisedTouches are the touches that were promised and not written yet.
type promisedTouches struct {
	mu      sync.Mutex
	pending map[session.Key]time.Time
	writing int // that were taken
	damper  logging.Damper
	closed  bool
	wake    chan struct{}
	closing chan struct{}
}

const (
	lateWait  = 500 * time.Millisecond
	lateWrite = 10 * time.Second // for which a write may last
	maxLate   = 100_000          // about 10 MB
)

func newPromisedTouches() *promisedTouches {
	return &promisedTouches{pending: map[session.Key]time.Time{}, wake: make(chan struct{}, 1), closing: make(chan struct{})}
}

// add reports whether there was room for one more.
func (l *promisedTouches) add(key session.Key, expires time.Time, log *zap.Logger) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was, there := l.pending[key]
	if l.closed {
		return false
	}
	if n := len(l.pending) + l.writing; !there && n >= maxLate {
		if held, ok := l.damper.Allow("full"); ok {
			log.Warn("too many expiries wait to be written: until they are, requests wait for those that they move",
				zap.Int("waiting", n), zap.Int("said", held+1))
		}
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

func (l *promisedTouches) take() map[session.Key]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	some := l.pending
	l.pending = map[session.Key]time.Time{}
	l.writing = len(some)
	return some
}

// len is how many were promised and are not written yet.
func (l *promisedTouches) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending) + l.writing
}

func (l *promisedTouches) written() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing--
}

// close has writePromised write what is left and end.
func (l *promisedTouches) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.closing)
}

func (s *Store) writePromised() {
	for {
		select {
		case <-s.promised.wake:
			select {
			case <-time.After(lateWait):
			case <-s.promised.closing:
			}
			s.writeTouches(s.promised.take())
		case <-s.promised.closing:
			s.writeTouches(s.promised.take())
			return
		}
	}
}

// writeTouches writes expiries through the lane of touches, which has room for
// some at a time.
func (s *Store) writeTouches(some map[session.Key]time.Time) {
	var (
		open     sync.WaitGroup
		mu       sync.Mutex
		failed   int
		firstErr error
		full     error // why the lane takes no more
	)
	for key, expires := range some {
		o := s.newTouch(key, expires)
		forget := o.After
		open.Add(1)
		o.After = func(err error) {
			defer open.Done()
			forget(err)
			s.promised.written()
			switch {
			case err == nil:
				s.stats.touches.Add(1)
			case isNotFound(err) && !o.Expired:
				// The session was ended meanwhile: nobody needs its expiry.
			default:
				mu.Lock()
				defer mu.Unlock()
				failed++
				firstErr = cmp.Or(firstErr, err)
			}
		}
		if full != nil {
			o.After(full)
			continue
		}
		full = s.writes.Touches.Start(context.Background(), o)
	}
	open.Wait()
	if failed > 0 {
		s.stats.lateFailures.Add(uint64(failed))
		s.backgroundError("touch later", fmt.Errorf("%d of %d expiries were not written: %w", failed, len(some), firstErr))
	}
}
