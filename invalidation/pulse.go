package invalidation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	beatsPerLease = 4
	beatLimit     = 100 * time.Millisecond // at least, for sending one
	shortestPulse = 10 * time.Millisecond
	firstPulse    = 500 * time.Millisecond // as long as the lease is not known
)

// pulse sends heartbeats and watches over the connection through which they
// have to come back.
func (l *listener) pulse(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.every = firstPulse
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.kick:
		case <-timer.C:
		}
		began := time.Now()
		k, listening := l.current()
		if listening {
			l.beat(ctx, k)
		}
		l.watch(k)
		next := l.every - l.every/10 + rand.N(l.every/5) // ±10 %: nodes shall not keep in step
		timer.Reset(max(0, next-time.Since(began)))
	}
}

func (l *listener) current() (k *connection, listening bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.link, l.link != nil && l.link.listening
}

func (l *listener) beat(ctx context.Context, k *connection) {
	err := l.send(ctx, k)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		l.silence.failed(err)
	default:
		l.silence.over()
	}
}

func (l *listener) send(ctx context.Context, k *connection) error {
	lease, err := l.opts.Lease()
	if err == nil && lease <= 0 {
		err = fmt.Errorf("it is %v; it must be positive", lease)
	}
	if err != nil {
		return fmt.Errorf("invalidation: the lease is not known: %w", err)
	}
	l.every = max(lease/beatsPerLease, shortestPulse)
	ctx, cancel := context.WithTimeout(ctx, max(lease/2, beatLimit))
	defer cancel()
	hb := l.cache.Beat(lease)
	wrote, err := l.opts.Beat(ctx, hb.Payload())
	if err != nil {
		return fmt.Errorf("invalidation: send a heartbeat: %w", err)
	}
	l.cache.Committed(hb)
	l.mu.Lock()
	defer l.mu.Unlock()
	k.wrote = wrote
	return nil
}

// watch breaks k if it is not to be trusted.
func (l *listener) watch(k *connection) {
	l.cache.Check()
	if l.doubt(k) {
		k.conn.Cut()
	}
}

func (l *listener) doubt(k *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case k == nil || k != l.link || k.why != nil:
	case !k.listening && time.Since(k.opened) > listenLimit:
		k.why = errors.New("invalidation: LISTEN was not answered")
	case k.listening && l.cache.Silent():
		k.why = k.diagnose()
		l.cache.Gap(CauseSilence, k.why)
	}
	return k != nil && k.why != nil
}

// diagnose tells why heartbeats do not come back, as far as that can be told.
func (k *connection) diagnose() error {
	switch wrote := k.wrote; {
	case !wrote.Started.IsZero() && !wrote.Started.Equal(k.server.started):
		return fmt.Errorf("%w: one was started at %v, the other at %v", ErrOtherServer, wrote.Started.UTC(), k.server.started.UTC())
	case wrote.Database != "" && wrote.Database != k.server.database:
		return fmt.Errorf("%w: %q and %q", ErrOtherDatabase, wrote.Database, k.server.database)
	case k.proven.Load():
		return ErrLapsed
	}
	return ErrNoEcho
}
