package invalidation

import (
	"slices"
	"time"
)

// writeOutcome is how a write ends for the node that sends it.
type writeOutcome int

const (
	answered writeOutcome = iota
	failed                // it never reached the database
	unknown               // it may have, and be committed now, later or never
)

// write sends a transaction. commit is done by the database: it returns
// whether it has succeeded and the rows of which it has made a state that the
// node now knows. answer is done when the node learns of success, and failure
// when it does not. The caller is told right after.
func (n *simNode) write(what string, r *simRow, commit func() ([]*simRow, bool), answer, failure func()) {
	n.logf(n, "sends %s of %v", what, r)
	result := answered
	if n.now < modelActive && n.chance(n.profile.failing) {
		result = failed
		if n.chance(0.7) {
			result = unknown
		}
	}
	var changes []change
	ended := false
	transaction := func() {
		rows, ok := commit()
		n.logf(n, "its %s of %v succeeds: %v, and changes %v", what, r, ok, rows)
		for _, r := range rows {
			i := len(r.states) - 1
			changes = append(changes, change{r, i})
			if !ended {
				r.states[i].open = n
			}
		}
		if result == answered {
			n.after(n.delay(), n, func() {
				n.close(changes)
				if !ok {
					failure()
					return
				}
				answer()
				n.acknowledge(changes)
				n.logf(n, "acknowledges %s of %v", what, r)
			})
		}
	}
	if result != failed {
		n.after(n.delay(), nil, transaction)
	}
	if result != answered {
		n.after(n.delay(), n, func() {
			n.logf(n, "its %s of %v: outcome %d", what, r, result)
			if result == unknown {
				n.c.Disown()
			}
			failure()
			n.close(changes)
			ended = true
		})
	}
}

// save writes a session of which the node has seen the version, or whatever it
// is (put).
func (n *simNode) save(r *simRow, put bool) {
	seen := r.last().version
	if n.chance(0.2) {
		seen-- // somebody else was faster
	}
	idle := time.Duration(0)
	if n.chance(0.3) {
		idle = n.between(0, modelLease) // maybe sooner than it was
	}
	var after Row
	sender := n.c.Sender()
	t := n.c.Begin(r.key)
	server := t.Server()
	n.write("save", r, func() ([]*simRow, bool) {
		if !n.db.live(r) || !put && r.last().version != seen {
			return nil, false
		}
		n.db.change(r, func(st *rowState) {
			st.version++
			if idle > 0 {
				st.expires = min(n.now+idle, st.deadline)
			}
		})
		n.db.notify(sender.Keys(r.key)...)
		after, _ = n.db.read(r, server)
		return []*simRow{r}, true
	}, func() { n.c.Wrote(t, after) }, func() { n.invalidate(r) })
}

// destroy ends the session that r stands for. It sends a message even if that
// has ended: the node that did it may not know yet.
func (n *simNode) destroy(r *simRow) {
	var ended []*simRow
	sender := n.c.Sender()
	n.c.Begin(r.key)
	n.write("destroy", r, func() ([]*simRow, bool) {
		head := n.db.head(r)
		n.db.change(head, func(st *rowState) { st.ended = true })
		ended = []*simRow{r, head}
		n.db.notify(sender.Keys(r.key, head.key)...)
		return []*simRow{head}, true
	}, func() { n.invalidate(ended...) }, func() { n.invalidate(r) })
}

// renew gives a session a new key; the old one leads there for a while.
func (n *simNode) renew(r *simRow) {
	grace := max(0, n.between(-modelLease, 2*modelLease))
	idle, lifetime := n.profile.idle(n.sim), n.profile.lifetime(n.sim)
	sender := n.c.Sender()
	n.c.Begin(r.key)
	n.write("renewal", r, func() ([]*simRow, bool) {
		if !n.db.live(r) {
			return nil, false
		}
		next := n.db.create(r.user, idle, lifetime)
		n.db.change(r, func(st *rowState) {
			st.ended, st.next, st.grace = true, next.key, min(n.now+grace, st.deadline)
		})
		n.db.notify(sender.Keys(r.key)...)
		return []*simRow{r}, true
	}, func() { n.invalidate(r) }, func() { n.invalidate(r) })
}

// endUser ends the sessions of a user, except one perhaps.
func (n *simNode) endUser(user string) {
	var except *simRow
	if n.chance(0.3) {
		except = n.someRow()
	}
	sender := n.c.Sender()
	n.c.InvalidateUser(user)
	done := func() { n.c.InvalidateUser(user) }
	n.write("end of all sessions of "+user, nil, func() ([]*simRow, bool) {
		n.db.notify(sender.User(user))
		return n.endAll(func(r *simRow) bool { return r.user == user && r != except }), true
	}, done, done)
}

// clear ends all sessions.
func (n *simNode) clear() {
	sender := n.c.Sender()
	n.c.InvalidateAll()
	n.write("end of all sessions", nil, func() ([]*simRow, bool) {
		n.db.notify(sender.All())
		return n.endAll(func(*simRow) bool { return true }), true
	}, n.c.InvalidateAll, n.c.InvalidateAll)
}

func (n *simNode) endAll(which func(*simRow) bool) []*simRow {
	var ended []*simRow
	for _, r := range n.db.rows {
		if n.db.live(r) && which(r) {
			n.db.change(r, func(st *rowState) { st.ended = true })
			ended = append(ended, r)
		}
	}
	return slices.Clip(ended)
}

// touch moves the expiry forward. It sends no message.
func (n *simNode) touch(r *simRow) {
	wanted := n.now + n.between(0, 20*time.Second)
	n.write("touch", r, func() ([]*simRow, bool) {
		if !n.db.live(r) {
			return nil, false
		}
		n.db.change(r, func(st *rowState) { st.expires = max(st.expires, min(wanted, st.deadline)) })
		return nil, true
	}, func() {
		// The database has cut it to the deadline; the cache does it too.
		w := simRead{row: r, since: n.now, floor: n.seen[r]}
		if expires, ok := n.c.Extend(r.key, n.db.clock(wanted)); ok {
			n.checkExtended(w, expires)
		}
	}, func() { n.invalidate(r) })
}

// strangers are nodes of a later version, whose messages nobody here knows.
func (db *simDB) writtenByStranger(r *simRow) {
	if !db.live(r) {
		return
	}
	db.change(r, func(st *rowState) { st.ended = true })
	db.notify([]string{"2k" + encoding.EncodeToString(make([]byte, 24)), "1x", "", "1k AAAA"}[db.rng.IntN(4)])
}
