package handover

import (
	"container/list"
	"context"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// line is the writes of one urgency.
type line struct {
	outside, waiting list.List
	items            int // that have room, until they are finished
	bytes            int64
}

func (q *Queue[K, W]) line(o *Op) *line {
	if o.urgent {
		return &q.lines[0]
	}
	return &q.lines[1]
}

// turn is the one write of a key that may ask for room, and the writes with the
// same key behind it.
type turn[W Write] struct {
	holder W
	behind list.List
}

func (q *Queue[K, W]) mostItems() int   { return Batches * q.rules.Items }
func (q *Queue[K, W]) mostBytes() int64 { return Batches * int64(q.rules.Bytes) }

// ask asks for room for writes, in order, and stops at the first that has to
// wait for room. It returns how many have room.
func (q *Queue[K, W]) ask(ctx context.Context, writes []W) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	until := time.Now().Add(q.rules.Patience)
	ends := until
	if t, ok := ctx.Deadline(); ok && t.Before(until) {
		ends = t
	}
	for _, w := range writes {
		o := w.handed()
		o.told, o.ends = make(chan struct{}), ends
		o.size = int64(q.rules.Size(w))
		o.urgent = q.rules.Urgent != nil && q.rules.Urgent(w)
		if q.closed {
			q.finish(w, session.ErrClosed)
			return n
		}
		q.watch(w, until)
		if q.takeTurn(w) {
			q.seekRoom(w)
		}
		if o.state != admitted {
			o.ready = make(chan struct{})
			return n
		}
		n++
	}
	return n
}

// awaitRoom returns nil when there is room for w, and else why not.
func (q *Queue[K, W]) awaitRoom(ctx context.Context, w W) error {
	o := w.handed()
	select {
	case <-o.ready:
	case <-o.told:
	case <-ctx.Done():
		q.mu.Lock()
		defer q.mu.Unlock()
		q.giveUp(w, wait.Ended(ctx))
	}
	select {
	case <-o.told: // before there was room
		return o.err
	default:
		return nil
	}
}

// handOver gives the writer those writes, all of which have room, whose callers
// were not told meanwhile.
func (q *Queue[K, W]) handOver(writes []W) {
	if q.rules.Own != nil {
		for _, w := range writes {
			q.rules.Own(w)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range writes {
		o := w.handed()
		if o.state != admitted {
			continue
		}
		o.state, o.place = waiting, q.line(o).waiting.PushBack(w)
		q.entering--
	}
	if len(writes) > 0 {
		q.signal()
	}
}

// takeTurn reports whether no other write has the key of w. If one has, w waits
// behind it.
func (q *Queue[K, W]) takeTurn(w W) bool {
	if q.rules.Key == nil {
		return true
	}
	key := q.rules.Key(w)
	t := q.keys[key]
	if t == nil {
		q.keys[key] = &turn[W]{holder: w}
		return true
	}
	o := w.handed()
	o.state, o.place = behind, t.behind.PushBack(w)
	q.behind++
	return false
}

// passTurn lets the next write with the key of w ask for room.
func (q *Queue[K, W]) passTurn(w W) {
	if q.rules.Key == nil {
		return
	}
	key := q.rules.Key(w)
	t := q.keys[key]
	next := t.behind.Front()
	if next == nil {
		delete(q.keys, key)
		return
	}
	t.holder = t.behind.Remove(next).(W)
	q.behind--
	q.seekRoom(t.holder)
}

// seekRoom admits w, or has it wait behind the writes that came before.
func (q *Queue[K, W]) seekRoom(w W) {
	o := w.handed()
	l := q.line(o)
	if l.outside.Len() == 0 && q.fits(l, o) {
		q.admit(l, o)
		return
	}
	o.state, o.place = outside, l.outside.PushBack(w)
}

// fits reports whether there is room for o. A write that is larger than the
// queue goes in alone.
func (q *Queue[K, W]) fits(l *line, o *Op) bool {
	return l.items == 0 || l.items < q.mostItems() && l.bytes+o.size <= q.mostBytes()
}

func (q *Queue[K, W]) admit(l *line, o *Op) {
	l.items++
	l.bytes += o.size
	q.entering++
	o.state = admitted
	if o.ready != nil {
		close(o.ready)
	}
}

// admitMore admits the writes for which there is room, in order: none is
// overtaken for being large.
func (q *Queue[K, W]) admitMore(l *line) {
	for first := l.outside.Front(); first != nil; first = l.outside.Front() {
		o := first.Value.(W).handed()
		if !q.fits(l, o) {
			return
		}
		l.outside.Remove(first)
		q.admit(l, o)
	}
}

func (l *line) free(o *Op) {
	l.items--
	l.bytes -= o.size
}

// finish takes w out of wherever it waits, gives its room to others, and tells
// its caller the outcome.
func (q *Queue[K, W]) finish(w W, err error) {
	o := w.handed()
	l := q.line(o)
	was := o.state
	if was == finished {
		return
	}
	o.state = finished
	q.unwatch(o)
	switch was {
	case behind:
		q.keys[q.rules.Key(w)].behind.Remove(o.place)
		q.behind--
	case outside:
		l.outside.Remove(o.place)
		q.passTurn(w)
	case admitted:
		q.entering--
		l.free(o)
		q.passTurn(w)
	case waiting:
		l.waiting.Remove(o.place)
		l.free(o)
		q.passTurn(w)
	case taken: // its key stays busy until its Release
		l.free(o)
	}
	q.admitMore(l)
	if o.After != nil {
		o.After(err)
	}
	o.tell(err)
	if q.closed {
		q.signal() // that may have been the last one
	}
}
