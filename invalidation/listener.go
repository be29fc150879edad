package invalidation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgxlisten"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/internal/wait"
)

const (
	connectLimit = 10 * time.Second // for all hosts together
	listenLimit  = 5 * time.Second  // for LISTEN, after that
	// A connection that lasted for less than this is not replaced at once, even
	// if heartbeats came back through it.
	shortLife = time.Second

	// Pauses are drawn from [p/2, p); p doubles up to a limit.
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	longestRest  = 30 * time.Second // after what connects but is of no use
)

// Run listens to what other nodes say, tells the cache, and keeps the proof up
// that the cache rests on, until ctx ends. It blocks; when it returns, no
// goroutine and no connection is left.
//
// Run connects on its own. Run replaces a connection that is lost, or on which
// heartbeats do not come back within their lease. It does so at once, and then
// with growing pauses until a heartbeat has come back. The cache answers
// nothing in between.
//
// Run returns nil when ctx has ended, and an error if opts are not valid. All
// else is logged and tried again for ever, since it may heal: no connection, a
// pooler or a standby at its other end, a write path that fails.
func Run(ctx context.Context, opts ListenOptions) error {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return err
	}
	l := &listener{
		opts:    opts,
		cache:   opts.Cache,
		kick:    make(chan struct{}, 1),
		warned:  map[identity]time.Time{},
		trouble: newTrouble(opts, "invalidation: nothing is received, so nothing is answered from memory", "invalidation: receiving again"),
		silence: newTrouble(opts, "invalidation: no heartbeat can be sent, so soon nothing is answered from memory", "invalidation: heartbeats are sent again"),
		garbage: newTrouble(opts, "invalidation: a message was not understood, so the memory was emptied; a later version or a stranger has sent it", ""),
	}
	switch {
	case opts.Config != nil:
		l.source = direct.New(opts.Config)
	default:
		source, err := direct.Around(opts.Pool, opts.DSN)
		if err != nil {
			return fmt.Errorf("invalidation: ListenOptions.DSN: %w", err)
		}
		l.source = source
	}

	ctx, cancel := context.WithCancel(ctx)
	var pulse sync.WaitGroup
	defer pulse.Wait()
	defer cancel()
	pulse.Go(func() { l.pulse(ctx) })

	inner := &pgxlisten.Listener{
		Connect:        l.connect,
		LogError:       l.failed,
		ReconnectDelay: -1, // connect waits by itself
	}
	inner.Handle(opts.Channel, l)
	if err := inner.Listen(ctx); ctx.Err() == nil {
		return fmt.Errorf("invalidation: %w", err)
	}
	return nil
}

// listener is what the goroutine that receives and the one that sends
// heartbeats have in common.
type listener struct {
	opts   ListenOptions
	cache  *Cache
	source *direct.Source
	kick   chan struct{} // a heartbeat is due at once

	// Of the goroutine that receives.
	failures int           // in a row
	longest  time.Duration // pause
	last     identity
	warned   map[identity]time.Time // of a change to that server
	trouble  *trouble
	garbage  *trouble

	// Of the goroutine that sends heartbeats.
	silence *trouble
	every   time.Duration

	mu   sync.Mutex
	link *connection // nil while there is none
}

// connection is one that listens.
type connection struct {
	conn   *direct.Conn
	server identity
	opened time.Time
	proven atomic.Bool // a heartbeat came back in time

	// With the listener's mutex.
	listening bool
	wrote     Server // what the last heartbeat was sent through
	why       error  // it was cut
}

// connect is called by pgxlisten, in a loop.
func (l *listener) connect(ctx context.Context) (*pgx.Conn, error) {
	if !wait.Sleep(ctx, l.pause()) {
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	conn, err := l.source.Connect(ctx, direct.Options{
		Name:     l.opts.NodeName,
		Fallback: "sojourn",
		NoCancel: true, // it runs nothing that would have to be stopped
	})
	if err != nil {
		return nil, err
	}
	server, err := identify(ctx, conn)
	if err == nil {
		err = conn.Rename(ctx, " (listener)")
	}
	if err != nil {
		end(conn)
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.link = &connection{conn: conn, server: server, opened: time.Now()}
	return conn.Conn, nil
}

// pause is how long to wait before connecting: not at all after the first
// failure, which is most often an old connection.
func (l *listener) pause() time.Duration {
	if l.failures < 2 {
		return 0
	}
	return wait.Backoff{First: firstPause, Most: l.longest}.Before(l.failures - 1)
}

// end closes a connection that is of no use. It has nothing to lose.
func end(conn *direct.Conn) {
	conn.Cut()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// HandleBacklog is called when LISTEN has been committed, before anything is
// received.
func (l *listener) HandleBacklog(ctx context.Context, _ string, conn *pgx.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.cache.Listening(l.link.server.started); err != nil {
		// Were it returned, pgxlisten would log it and go on.
		l.link.why = err
		_ = conn.Close(ctx)
		return nil
	}
	l.link.listening = true
	select {
	case l.kick <- struct{}{}:
	default:
	}
	return nil
}

// HandleNotification only works in memory: what comes in must not pile up.
func (l *listener) HandleNotification(_ context.Context, n *pgconn.Notification, _ *pgx.Conn) error {
	partitions, err := l.cache.Receive(n.Payload)
	if partitions {
		l.opts.OnPartitions()
	}
	if err != nil {
		l.garbage.failed(err)
	}
	if !l.link.proven.Load() && l.cache.proof.Load() != nil {
		l.prove()
	}
	return nil
}

// prove notes that the connection works.
func (l *listener) prove() {
	l.link.proven.Store(true)
	l.failures = 0
	server := l.link.server
	if l.last.another(server) && time.Since(l.warned[server]) > remindIn { // it may go back and forth
		maps.DeleteFunc(l.warned, func(_ identity, at time.Time) bool { return time.Since(at) > remindIn })
		l.warned[server] = time.Now()
		l.opts.Logger.Warn("invalidation: the server has changed; if commits may have been lost, clear the sessions",
			zap.Object("before", l.last), zap.Object("now", server))
	}
	if l.last == (identity{}) {
		l.opts.Logger.Info("invalidation: receiving", zap.Object("server", server))
	}
	l.last = server
	l.trouble.over()
}

// failed is called by pgxlisten when connecting failed or a connection was lost.
func (l *listener) failed(ctx context.Context, err error) {
	k := l.link
	if k != nil && !k.conn.IsClosed() {
		return // a message of a channel that a hook of the pool listens to
	}
	l.failures++
	l.longest = longestPause
	if k != nil {
		l.mu.Lock()
		l.link = nil
		listened, why := k.listening, k.why
		l.mu.Unlock()
		if why != nil {
			err = why
		}
		l.cache.Gap(CauseDisconnect, err)
		end(k.conn)
		switch proven := k.proven.Load(); {
		case proven && time.Since(k.opened) < shortLife:
			l.failures++
		case listened && !proven:
			l.longest = longestRest
		}
	}
	if errors.Is(err, ErrPooled) {
		l.longest = longestRest
	}
	if ctx.Err() == nil {
		l.trouble.failed(err)
	}
}
