package pgstore

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// wires are the connections of a node, of which single requests and answers can
// be held up on their way.
type wires struct {
	t testing.TB

	mu    sync.Mutex
	traps []*trap
	conns []net.Conn
}

// wired makes wires and the change of the pool that uses them.
func wired(t testing.TB) (*wires, func(*pgxpool.Config)) {
	ws := &wires{t: t}
	t.Cleanup(func() { // after the pool
		for _, conn := range ws.conns {
			conn.Close()
		}
	})
	return ws, func(c *pgxpool.Config) {
		dial := c.ConnConfig.DialFunc
		c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			ws.mu.Lock()
			defer ws.mu.Unlock()
			ws.conns = append(ws.conns, conn)
			return &wire{Conn: conn, of: ws, gone: make(chan struct{})}, nil
		}
	}
}

type trapKind int

const (
	slowAnswer  trapKind = iota // is held back when it has arrived
	lostRequest                 // the connection seems lost
	slowRequest                 // nothing is heard of it
	heldRequest                 // is held back before it is sent
)

// trap waits for the first request that mentions something.
type trap struct {
	kind   trapKind
	when   func([]byte) bool
	sprung chan struct{} // closed when the answer is there, or the request was taken or is held
	open   chan struct{} // closed when it may go on
	wire   *wire
}

// answer holds the answer to the first request for which when holds. sprung is
// closed when the server has answered.
func (ws *wires) answer(when func([]byte) bool) (sprung <-chan struct{}, release func()) {
	tr := ws.set(slowAnswer, when)
	release = sync.OnceFunc(func() { close(tr.open) })
	ws.t.Cleanup(release)
	return tr.sprung, release
}

// hold holds the first request for which when holds, until release.
func (ws *wires) hold(when func([]byte) bool) (sprung <-chan struct{}, release func()) {
	tr := ws.set(heldRequest, when)
	release = sync.OnceFunc(func() { close(tr.open) })
	ws.t.Cleanup(release)
	return tr.sprung, release
}

// request holds the first request for which when holds. deliver, which may be
// called long after the node has given up, has the server run it.
func (ws *wires) request(kind trapKind, when func([]byte) bool) (sprung <-chan struct{}, deliver func()) {
	tr := ws.set(kind, when)
	return tr.sprung, func() {
		<-tr.sprung
		tr.wire.deliver(ws.t)
	}
}

func (ws *wires) set(kind trapKind, when func([]byte) bool) *trap {
	tr := &trap{kind: kind, when: when, sprung: make(chan struct{}), open: make(chan struct{})}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.traps = append(ws.traps, tr)
	return tr
}

// reset forgets the traps that were not sprung.
func (ws *wires) reset() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.traps = nil
}

func (ws *wires) match(w *wire, b []byte) *trap {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for i, tr := range ws.traps {
		if tr.when(b) {
			ws.traps = append(ws.traps[:i:i], ws.traps[i+1:]...)
			tr.wire = w
			return tr
		}
	}
	return nil
}

type wire struct {
	net.Conn
	of   *wires
	gone chan struct{} // closed when the node is done with it

	mu    sync.Mutex
	trap  *trap
	taken []byte // the request that has not been delivered
	ended bool   // the node hears nothing any more
}

func (w *wire) trapped() (tr *trap, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trap, w.ended
}

func (w *wire) Write(b []byte) (int, error) {
	if w.takes(b) {
		return len(b), nil
	}
	if tr, _ := w.trapped(); tr != nil && tr.kind == heldRequest {
		<-tr.open
		w.mu.Lock()
		w.trap = nil
		w.mu.Unlock()
	}
	return w.Conn.Write(b)
}

// takes reports whether b goes no further.
func (w *wire) takes(b []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.taken != nil: // the goodbye
		w.ended = true
	case w.trap != nil:
		return false
	default:
		if w.trap = w.of.match(w, b); w.trap == nil || w.trap.kind == slowAnswer {
			return false
		}
		if w.trap.kind == heldRequest {
			close(w.trap.sprung)
			return false
		}
		w.taken = bytes.Clone(b)
		w.ended = w.trap.kind == lostRequest
		close(w.trap.sprung)
	}
	if w.ended {
		_ = w.Conn.SetReadDeadline(time.Now()) // whoever reads shall know
	}
	return true
}

func (w *wire) Read(b []byte) (int, error) {
	if _, ended := w.trapped(); ended {
		return 0, io.EOF
	}
	n, err := w.Conn.Read(b)
	tr, ended := w.trapped()
	switch {
	case ended:
		return 0, io.EOF
	case tr != nil && tr.kind == slowAnswer:
		close(tr.sprung)
		<-tr.open
		w.mu.Lock()
		defer w.mu.Unlock()
		w.trap = nil
	}
	return n, err
}

// Close keeps the connection to the server open if a request was taken.
func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.gone:
		return net.ErrClosed
	default:
	}
	w.ended = true
	close(w.gone)
	if w.taken != nil {
		return nil
	}
	return w.Conn.Close()
}

// deliver has the server run the request that was taken, in full.
func (w *wire) deliver(t testing.TB) {
	t.Helper()
	<-w.gone
	err := w.Conn.SetDeadline(time.Now().Add(time.Minute))
	if err == nil {
		_, err = w.Conn.Write(w.taken)
	}
	buf, tail := make([]byte, 4096), []byte(nil)
	for err == nil && !bytes.HasSuffix(tail, []byte{'Z', 0, 0, 0, 5, 'I'}) {
		var n int
		n, err = w.Conn.Read(buf)
		tail = append(tail, buf[:n]...)
		tail = tail[max(0, len(tail)-6):]
	}
	if err != nil {
		t.Fatal("a late request:", err)
	}
}
