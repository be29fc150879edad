package webtest

import (
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

// Of what requests cost that only read a session.

func touchedCases() []webCase {
	return []webCase{
		{name: "requests that only read touch a session once in an interval", protocols: onlyHTTP, run: touchesRarely},
		{name: "requests that only read touch a session each if they shall", protocols: onlyHTTP, run: touchesAlways},
		{name: "sessions without an idle timeout are never touched", protocols: onlyHTTP, run: touchesNever},
	}
}

const reads = 20

// touches is how often a touch was asked for.
func (n *managed) touches() int { return n.spy.Count(spystore.Touch, spystore.TouchLater) }

// starts is how often a session or an ID was to begin.
func (n *managed) starts() int {
	return n.spy.Count(spystore.Create, spystore.CreateLimited, spystore.Renew, spystore.RenewLimited)
}

// written is how often anything was written.
func (n *managed) written() int {
	return n.starts() + n.touches() + n.spy.Count(spystore.Save, spystore.Destroy, spystore.DestroyOnAllNodes, spystore.DestroyUser)
}

// read has a browser send requests that only read, and returns how many times
// they wrote.
func (b *browser) read(n *node) int {
	before := n.written()
	for range reads {
		b.silent(n, func(v *visit) { want(v, "before", true) })
	}
	return n.written() - before
}

func touchesRarely(w *web) {
	n := w.serve(0, session.Options{})
	b, key := n.loggedIn(w.unique("user"))
	b.silent(n, func(v *visit) { v.set("before", true) })
	if got := b.read(n); got != 0 {
		w.Errorf("%d requests right after a save wrote %d times; want never", reads, got)
	}
	n.spy.GoAhead(10 * time.Minute) // of the thirty
	if got := b.read(n); got != 1 {
		w.Errorf("%d requests wrote %d times; want once", reads, got)
	}
	w.eventually("the idle timeout is postponed", func() bool {
		rec, err := fresh(w.ctx, w.s, key)
		return err == nil && rec.Expires.After(w.now().Add(35*time.Minute))
	})
}

func touchesAlways(w *web) {
	n := w.serve(0, session.Options{TouchInterval: -1})
	b, _ := n.loggedIn(w.unique("user"))
	b.silent(n, func(v *visit) { v.set("before", true) })
	before := n.touches()
	if got := b.read(n); got != reads || n.touches()-before != reads {
		w.Errorf("%d requests wrote %d times and touched %d times; want a touch each", reads, got, n.touches()-before)
	}
	n.happened(0, session.EventTouchFailed)
}

func touchesNever(w *web) {
	n := w.serve(0, session.Options{Policy: session.Policy{IdleTimeout: -1}, TouchInterval: -1})
	b, _ := n.loggedIn(w.unique("user"))
	b.silent(n, func(v *visit) { v.set("before", true) })
	if got := b.read(n); got != 0 {
		w.Errorf("%d requests wrote %d times; want never", reads, got)
	}
}
