package faultproxy

import (
	"net"
	"sync"
	"time"
)

// link is one client's connection and its counterpart to the server.
type link struct {
	proxy *Proxy
	conns [2]*net.TCPConn // by the direction that is written to it
	once  sync.Once
	ended chan struct{}

	mu     sync.Mutex
	losses [2]*loss // set: the bytes of this direction are lost
}

// chunk is what one read returned; no data means the end of the stream.
type chunk struct {
	data    []byte
	arrived time.Time
}

// run forwards until the link has ended, and with it both goroutines of each
// direction.
func (l *link) run() {
	var tasks sync.WaitGroup
	for _, d := range []Direction{ToServer, ToClient} {
		queue := make(chan chunk, 1024) // what is under way: a delay must not slow the sender down
		tasks.Go(func() { l.read(l.conns[1-d], queue) })
		tasks.Go(func() { l.forward(d, queue) })
	}
	tasks.Wait()
	for _, lost := range l.losses {
		if lost != nil && lost.answered != nil {
			lost.answered() // nothing will come any more
		}
	}
}

func (l *link) read(from *net.TCPConn, queue chan<- chunk) {
	defer close(queue)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !l.send(queue, chunk{append([]byte(nil), buf[:n]...), time.Now()}) {
			return
		}
		if err != nil {
			l.send(queue, chunk{nil, time.Now()})
			return
		}
	}
}

func (l *link) send(queue chan<- chunk, c chunk) bool {
	select {
	case queue <- c:
		return true
	case <-l.ended:
		return false
	}
}

// forward writes the chunks of a direction as the mode in force allows.
func (l *link) forward(d Direction, queue <-chan chunk) {
	quota := quota{setting: -1}
	for c := range queue {
		if !l.forwardOne(d, c, &quota) {
			return
		}
	}
}

// quota counts the bytes that the present mode has let through.
type quota struct{ setting, used int }

// forwardOne reports whether the direction goes on.
func (l *link) forwardOne(d Direction, c chunk, q *quota) bool {
	for {
		if lost := l.lost(d); lost != nil {
			return lost.swallow(l, c)
		}
		mode, setting, changed := l.proxy.mode(d)
		if q.setting != setting {
			*q = quota{setting: setting}
		}
		wait := time.Duration(0)
		switch mode.kind {
		case dropped:
			l.lose(d, &loss{})
			continue
		case stalled:
			wait = -1
		case delayed:
			wait = max(0, time.Until(c.arrived.Add(mode.delay)))
		case cutAfter, resetAfter:
			if left := mode.bytes - q.used; len(c.data) >= left {
				_, _ = l.conns[d].Write(c.data[:left])
				if mode.kind == cutAfter {
					l.cut()
				} else {
					l.reset()
				}
				return false
			}
		}
		if wait == 0 {
			q.used += len(c.data)
			return l.deliver(d, c)
		}
		if !l.pause(wait, changed) {
			return false
		}
	}
}

// pause waits for a time (negative: for ever), a change of mode or the end,
// and reports whether the link goes on.
func (l *link) pause(wait time.Duration, changed <-chan struct{}) bool {
	var after <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-after:
	case <-changed:
	case <-l.ended:
		return false
	}
	return true
}

func (l *link) deliver(d Direction, c chunk) bool {
	if len(c.data) == 0 {
		l.cut() // Postgres has no use for half-closed connections
		return false
	}
	if hit := l.proxy.match(l, d, c.data); hit != nil {
		return hit.fire(l, d, c)
	}
	return l.write(d, c)
}

func (l *link) write(d Direction, c chunk) bool {
	if _, err := l.conns[d].Write(c.data); err != nil {
		l.cut()
		return false
	}
	return true
}

func (l *link) cut() { l.end(false) }

func (l *link) reset() { l.end(true) }

func (l *link) end(reset bool) {
	l.once.Do(func() {
		close(l.ended)
		for _, conn := range l.conns {
			if reset {
				_ = conn.SetLinger(0)
			}
			_ = conn.Close()
		}
	})
}

func (l *link) lost(d Direction) *loss {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.losses[d]
}

// lose lets the bytes of a direction get lost from now on.
func (l *link) lose(d Direction, how *loss) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.losses[d] = how
}
