package handover

import (
	"container/list"
	"context"
	"fmt"
	"time"
)

// answerTime is how long the end of a batch may take to reach its callers.
const answerTime = time.Second

// least is how much time a write has that was taken at the last moment.
func (q *Queue[K, W]) least() time.Duration { return q.rules.Patience / 8 }

// watch has w's caller told at the time until. One timer serves all writes, as
// each has the same patience.
func (q *Queue[K, W]) watch(w W, until time.Time) {
	o := w.handed()
	o.until, o.due = until, q.due.PushBack(w)
	q.arm(until)
}

// arm has the alarm ring at a time, or before that.
func (q *Queue[K, W]) arm(at time.Time) {
	switch {
	case q.alarm == nil:
		q.alarm = time.AfterFunc(time.Until(at), q.ring)
	case !q.armed || at.Before(q.rings):
		q.alarm.Reset(time.Until(at))
	default:
		return
	}
	q.armed, q.rings = true, at
}

// unwatch takes a write that is finished out of the lists of the alarm.
func (q *Queue[K, W]) unwatch(o *Op) {
	if o.due != nil {
		q.due.Remove(o.due) // from whichever list it is in
		q.late.Remove(o.due)
		o.due = nil
	}
}

// ring tells the callers whose time is over.
func (q *Queue[K, W]) ring() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now, extra := time.Now(), q.least()+answerTime
	over := map[W]error{} // made before any of them gives its place to another
	for w := range first[W](&q.due, now) {
		o := w.handed()
		q.due.Remove(o.due)
		o.due = nil
		if o.state == taken {
			o.due = q.late.PushBack(w)
			continue
		}
		over[w] = q.known(o, q.overdue())
	}
	for w := range first[W](&q.late, now.Add(-extra)) {
		o := w.handed()
		q.late.Remove(o.due)
		o.due = nil
		over[w] = q.known(o, q.overdue())
	}
	for w, err := range over {
		q.end(w, err)
	}
	q.armed = false
	if e := q.due.Front(); e != nil {
		q.arm(e.Value.(W).handed().until)
	}
	if e := q.late.Front(); e != nil {
		q.arm(e.Value.(W).handed().until.Add(extra))
	}
}

// first yields the writes at the front of a list that were to be told by then.
// The caller takes each write out before it asks for the next.
func first[W Write](l *list.List, then time.Time) func(yield func(W) bool) {
	return func(yield func(W) bool) {
		for e := l.Front(); e != nil; e = l.Front() {
			w := e.Value.(W)
			if w.handed().until.After(then) || !yield(w) {
				return
			}
		}
	}
}

func (q *Queue[K, W]) overdue() error {
	err := fmt.Errorf("%s took longer than Options.WriteTimeout, %v: %w", q.rules.What, q.rules.Patience, context.DeadlineExceeded)
	if q.heldUp != nil {
		err = fmt.Errorf("%w: %w", err, q.heldUp)
	}
	return err
}
