package faultproxy

import (
	"bytes"
	"slices"
	"sync"
)

// Fault is what a trigger does to the connection that set it off.
type Fault int

const (
	// CutBefore loses the matching bytes and closes the connection.
	CutBefore Fault = iota
	// CutAfterwards delivers the matching bytes, loses the answer, and closes the
	// connection once the server has given it in full.
	CutAfterwards
	// HangBefore loses the matching bytes and all later ones of both
	// directions. The connection stays open.
	HangBefore
	// HangAfterwards delivers the matching bytes and loses all later ones of
	// both directions, the answer first. The connection stays open.
	HangAfterwards
)

const window = 64 << 10

type trigger struct {
	direction Direction
	when      func([]byte) bool
	fault     Fault
	done      chan struct{}
	seen      map[*link][]byte
}

// Trigger arms a fault for the first connection for which when returns true,
// and for that one only. It is given what the connection has sent in this
// direction since now, at most the last 64 KiB; calls do not overlap, and must
// not call the proxy.
//
// The channel is closed when it is done: the bytes are lost, or, with
// CutAfterwards and HangAfterwards of a request, the server has answered in
// full, which takes ReadyForQuery outside of a transaction for the end, or the
// connection has ended.
func (p *Proxy) Trigger(d Direction, when func(stream []byte) bool, then Fault) <-chan struct{} {
	t := &trigger{direction: d, when: when, fault: then, done: make(chan struct{}), seen: map[*link][]byte{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.triggers = append(p.triggers, t)
	return t.done
}

// Contains is a condition for Trigger: the text was sent, in any case of letters.
func Contains(text string) func([]byte) bool {
	lower := bytes.ToLower([]byte(text))
	return func(stream []byte) bool { return bytes.Contains(bytes.ToLower(stream), lower) }
}

// match returns the trigger that the data sets off, which is then disarmed.
func (p *Proxy) match(l *link, d Direction, data []byte) *trigger {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, t := range p.triggers {
		if t.direction != d {
			continue
		}
		stream := append(t.seen[l], data...)
		stream = stream[max(0, len(stream)-window):]
		t.seen[l] = stream
		if t.when(stream) {
			p.triggers = slices.Delete(p.triggers, i, i+1)
			return t
		}
	}
	return nil
}

// fire does what the trigger says with the bytes that set it off, and reports
// whether the direction goes on.
func (t *trigger) fire(l *link, d Direction, c chunk) bool {
	finish := sync.OnceFunc(func() { close(t.done) })
	switch {
	case t.fault == CutBefore:
		l.cut()
		finish()
		return false
	case t.fault == HangBefore:
		l.lose(ToServer, &loss{})
		l.lose(ToClient, &loss{})
		finish()
		return true
	case d == ToServer:
		l.lose(ToClient, &loss{closes: t.fault == CutAfterwards, answered: finish})
		ok := l.write(d, c)
		if t.fault == HangAfterwards {
			l.lose(ToServer, &loss{})
		}
		return ok
	default:
		ok := l.write(d, c)
		if t.fault == CutAfterwards {
			l.cut()
			ok = false
		} else {
			l.lose(ToServer, &loss{})
			l.lose(ToClient, &loss{})
		}
		finish()
		return ok
	}
}

// loss is how the bytes of one direction of a link get lost.
type loss struct {
	closes   bool   // the link, at the end of the answer
	answered func() // called at the end of the answer; nil: nobody waits
	tail     []byte
}

// readyForQuery is the message at the end of an answer, for a session that is
// not in a transaction.
var readyForQuery = []byte{'Z', 0, 0, 0, 5, 'I'}

// swallow forgets the chunk and reports whether the direction goes on. It is
// called by one goroutine.
func (o *loss) swallow(l *link, c chunk) bool {
	l.proxy.lost.Add(int64(len(c.data)))
	o.tail = append(o.tail, c.data...)
	o.tail = o.tail[max(0, len(o.tail)-len(readyForQuery)):]
	if o.answered == nil || len(c.data) > 0 && !bytes.Equal(o.tail, readyForQuery) {
		return len(c.data) > 0
	}
	if o.closes {
		l.cut()
	}
	o.answered()
	return !o.closes && len(c.data) > 0
}
