package handover

import "time"

// Take returns the next batch, in the order of arrival; it is empty if nothing
// may be written now.
func (q *Queue[K, W]) Take() (batch []W) {
	q.mu.Lock()
	defer q.mu.Unlock()
	bytes := int64(0)
	for i := range q.lines {
		l := &q.lines[i]
		for first := l.waiting.Front(); first != nil; first = l.waiting.Front() {
			w := first.Value.(W)
			o := w.handed()
			if len(batch) == q.rules.Items || len(batch) > 0 && bytes+o.size > int64(q.rules.Bytes) {
				return batch
			}
			l.waiting.Remove(first)
			o.state = taken
			if q.rules.Key != nil {
				q.busy++
			}
			batch = append(batch, w)
			bytes += o.size
		}
	}
	return batch
}

// Release lets the next writes with the keys of the given ones be taken. The
// given ones were taken.
func (q *Queue[K, W]) Release(writes ...W) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range writes {
		q.busy--
		q.passTurn(w)
	}
	q.signal()
}

// Wait waits until there may be something to take. It reports false once
// nothing will come anymore: the queue is closed and empty, and no key is busy.
func (q *Queue[K, W]) Wait() bool {
	q.mu.Lock()
	more := !q.closed || q.entering > 0 || len(q.keys) > 0
	for i := range q.lines {
		more = more || q.lines[i].waiting.Len() > 0 || q.lines[i].outside.Len() > 0
	}
	if !more && q.alarm != nil {
		q.alarm.Stop()
	}
	q.mu.Unlock()
	if more {
		<-q.wake
	}
	return more
}

func (q *Queue[K, W]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Left returns the writes of a batch for which nobody waits any more: their
// callers were told that the outcome is unknown.
func (q *Queue[K, W]) Left(batch []W) (left []W) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range batch {
		if w.handed().hasLeft() {
			left = append(left, w)
		}
	}
	return left
}

// OnLeave has f called when the caller of w, which was taken, does not wait any
// more; at once if that is so. f must not use the queue.
func (q *Queue[K, W]) OnLeave(w W, f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	o := w.handed()
	if o.hasLeft() {
		f()
	}
	o.leave = f
}

// Until is when the last caller of a batch is told in any case, but leaves at
// least some time to write the batch. The batch need not last for longer.
func (q *Queue[K, W]) Until(batch []W) time.Time {
	until := time.Now().Add(q.least())
	for _, w := range batch {
		if t := w.handed().until; t.After(until) {
			until = t
		}
	}
	return until
}

// Soonest is when the first of those callers of a batch gives up that still
// wait; it is the zero time if none does.
func (q *Queue[K, W]) Soonest(batch []W) (at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range batch {
		if o := w.handed(); !o.hasLeft() && (at.IsZero() || o.ends.Before(at)) {
			at = o.ends
		}
	}
	return at
}

// HeldUp notes why the writer takes nothing, for the errors of callers that
// wait in vain; nil means that it goes on.
func (q *Queue[K, W]) HeldUp(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.heldUp = err
}
