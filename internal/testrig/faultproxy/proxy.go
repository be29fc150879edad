// Package faultproxy is a TCP proxy that breaks connections on purpose, for
// tests of what a Postgres client does then.
//
// A [Mode] says what happens to the bytes of one direction, for all connections
// and until another mode is set. A fault that must hit one certain moment, such
// as a commit whose answer is lost, is set up with [Proxy.Trigger].
package faultproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
)

// Direction is the way that bytes take.
type Direction int

const (
	ToServer Direction = iota // requests
	ToClient                  // answers
)

// Proxy accepts connections on 127.0.0.1 and forwards them to a server. Its
// methods are safe for concurrent use.
type Proxy struct {
	target string
	addr   string
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	lost   atomic.Int64 // bytes

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	links    map[*link]struct{}
	modes    [2]Mode
	setting  int           // counts changes of modes
	changed  chan struct{} // closed and replaced at each change
	triggers []*trigger
}

// New starts a proxy to a host:port. Close ends it.
func New(target string) (*Proxy, error) {
	listener, err := loopback.Listen()
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	p := &Proxy{target: target, addr: listener.Addr().String(), listener: listener,
		links: map[*link]struct{}{}, changed: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.tasks.Go(func() { p.accept(listener) })
	return p, nil
}

// Addr is the host:port that clients connect to.
func (p *Proxy) Addr() string { return p.addr }

// Connections is the number of open connections.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Lost is the number of bytes that were lost so far.
func (p *Proxy) Lost() int64 { return p.lost.Load() }

// SetMode sets what happens to the bytes of a direction from now on, those
// that are held back by the mode in force included.
func (p *Proxy) SetMode(d Direction, m Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.modes[d] = m
	p.setting++
	close(p.changed)
	p.changed = make(chan struct{})
}

// Heal returns both directions to Pass and accepts connections again.
// Connections that lost bytes stay silent.
func (p *Proxy) Heal() error {
	p.SetMode(ToServer, Pass())
	p.SetMode(ToClient, Pass())
	return p.Accept()
}

// Refuse refuses new connections. Open ones go on.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		// A process that is being started has a copy of the socket for a moment,
		// in which it would go on listening.
		deafen(p.listener)
		p.listener.Close()
		p.listener = nil
	}
}

// Accept ends a Refuse.
func (p *Proxy) Accept() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.ctx.Err() != nil {
		return nil
	}
	listener, err := net.Listen("tcp", p.addr)
	if err != nil {
		return fmt.Errorf("faultproxy: %w", err)
	}
	p.listener = listener
	p.tasks.Go(func() { p.accept(listener) })
	return nil
}

// CutAll closes all open connections in good order, as a server that ends
// does. Later ones are not affected.
func (p *Proxy) CutAll() { p.forAll((*link).cut) }

// ResetAll resets all open connections (RST). Later ones are not affected.
func (p *Proxy) ResetAll() { p.forAll((*link).reset) }

// ForgetAll loses all later bytes of the open connections, in both directions,
// as a firewall does that has forgotten them. Later ones are not affected.
func (p *Proxy) ForgetAll() {
	p.forAll(func(l *link) {
		l.lose(ToServer, &loss{})
		l.lose(ToClient, &loss{})
	})
}

func (p *Proxy) forAll(do func(*link)) {
	p.mu.Lock()
	var open []*link
	for l := range p.links {
		open = append(open, l)
	}
	p.mu.Unlock()
	for _, l := range open {
		do(l)
	}
}

// Close ends the proxy with all its connections and waits for its goroutines.
// It may be called repeatedly.
func (p *Proxy) Close() {
	p.cancel()
	p.Refuse()
	p.CutAll()
	p.tasks.Wait()
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the client gave up before
		}
		p.tasks.Go(func() { p.serve(conn.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	var dialer net.Dialer
	server, err := dialer.DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		_ = client.SetLinger(0)
		client.Close()
		return
	}
	l := &link{proxy: p, conns: [2]*net.TCPConn{ToServer: server.(*net.TCPConn), ToClient: client}, ended: make(chan struct{})}
	p.mu.Lock()
	p.links[l] = struct{}{}
	closed := p.ctx.Err() != nil // Close may have looked for open links already
	p.mu.Unlock()
	if closed {
		l.cut()
	}
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// mode returns the mode of a direction, its number, and a channel that is
// closed when it changes.
func (p *Proxy) mode(d Direction) (Mode, int, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.modes[d], p.setting, p.changed
}
