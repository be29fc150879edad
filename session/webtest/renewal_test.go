package webtest

import (
	"errors"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

// Of IDs that are replaced from time to time.

func renewalCases() []webCase {
	return []webCase{
		{name: "an ID that is due is replaced, by one of the requests that are under way", protocols: both, run: dueOnce},
		{name: "an ID that is due is replaced together with what the request changes", protocols: onlyHTTP, run: dueWithChanges},
		{name: "an ID that is due stays when the renewal fails", protocols: onlyHTTP, run: dueFails},
	}
}

// due has a node where the ID of a session is due, and its browser.
func (w *web) due(i int, user string) (*node, *browser, session.Key) {
	w.Helper()
	n := w.serve(i, session.Options{Policy: session.Policy{RenewAfter: 30 * time.Minute}})
	b, key := n.loggedIn(user)
	b.silent(n, func(v *visit) { v.set("before", true) })
	n.spy.GoAhead(time.Hour)
	return n, b, key
}

func dueOnce(w *web) {
	user := w.unique("user")
	n, b, key := w.due(0, user)
	const others = 6
	twins, requests := make([]*browser, others), make([]*pending, others)
	for i := range requests {
		twins[i] = b.twin(n)
		requests[i] = twins[i].begin(n, func(v *visit) {
			if i%2 == 0 {
				v.set([]string{"a", "b", "c"}[i/2], true)
			}
		}, nothing)
	}
	replies := make([]reply, others)
	all(others, func(i int) { replies[i] = requests[i].finish() })
	set := 0
	for i, twin := range twins {
		set += len(replies[i].set())
		found := twin.look(n)
		if found.user != user || found.key == key || !found.has("before") || !found.has("a") || !found.has("b") || !found.has("c") {
			w.Errorf("browser %d has %+v", i, found)
		}
	}
	renewals := n.events(session.EventRenewed)
	if len(renewals) != 1 || renewals[0].Old != key || renewals[0].User != user || set != 1 {
		w.Errorf("%d cookies were set, renewals: %+v; want one of %v", set, renewals, key)
	}
	n.happened(0, session.EventSaveDropped)
	n.happened(0, session.EventRenewFailed)
}

func dueWithChanges(w *web) {
	user := w.unique("user")
	n, b, key := w.due(0, user)
	deadline := w.live(key).Deadline
	renews, written := n.spy.Count(spystore.Renew), n.written()
	old := b.cookie(n)
	b.visit(n, func(v *visit) { v.set("after", true) })
	if b.cookie(n) == old {
		w.Error("the browser has no new cookie")
	}
	if n.spy.Count(spystore.Renew)-renews != 1 || n.written()-written != 1 {
		w.Errorf("%d writes; want a renewal", n.written()-written)
	}
	found := b.look(n)
	if found.user != user || found.key == key || !found.has("before") || !found.has("after") {
		w.Errorf("the browser has %+v", found)
	}
	w.sameTime("the deadline", w.live(found.key).Deadline, deadline)
}

func dueFails(w *web) {
	user := w.unique("user")
	n, b, key := w.due(0, user)
	n.spy.Between(breaking(spystore.Renew))
	b.silent(n, func(v *visit) {
		v.set("after", true)
		v.say("done")
	})
	if told := n.events(session.EventRenewFailed); len(told) != 1 || told[0].Key != key || !errors.Is(told[0].Err, errBroken) {
		w.Errorf("failed renewals: %+v", told)
	}
	n.spy.Between(nil)
	b.visit(n, nothing)
	found := b.look(n)
	if found.user != user || found.key == key || !found.has("before") || !found.has("after") {
		w.Errorf("the browser has %+v; want the session, renewed", found)
	}
}
