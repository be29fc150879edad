package invalidation

import (
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// writeOutcome is how a write ends for the node that sends it.
type writeOutcome int

const (
	answered writeOutcome = iota
	stalled               // as answered, but its answer takes its time
	failed                // it never reached the database
	unknown               // it may have, and be committed now, later or never
)

func (n *simNode) outcome() writeOutcome {
	switch {
	case n.now >= modelActive:
		return answered
	case n.chance(n.profile.stalling):
		return stalled
	case !n.chance(n.profile.failing):
		return answered
	case n.chance(0.7):
		return unknown
	}
	return failed
}

// transaction is a write of a node.
type transaction struct {
	what string
	row  *simRow // or one of its rows, or nil
	w    *Write
	// commit is done by the database. It returns whether it has succeeded and the
	// rows of which it has made a state that the node is told of once it is
	// durable.
	commit func() (changed []*simRow, ok bool)
	// answer is done when the node learns of success, and failure, if set, when
	// it learns of none. w comes to its End, and then the caller is told.
	answer, failure func()
}

func (n *simNode) write(x transaction) {
	n.logf(n, "sends %s of %v", x.what, x.row)
	n.onlookers(x.row)
	result := n.outcome()
	end := func(ok bool) {
		if ok {
			x.answer()
		} else if x.failure != nil {
			x.failure()
		}
		x.w.End()
	}
	lost := func() {
		n.after(n.delay(), n, func() {
			n.logf(n, "its %s of %v: outcome %d", x.what, x.row, result)
			if result != failed {
				n.c.Disown()
			}
			end(false)
		})
	}
	tell := func(ok bool, changes []change) {
		if result == unknown {
			return
		}
		answering := n.delay()
		if result == stalled {
			answering = n.between(0, max(0, min(6*modelLease, modelActive+time.Second-n.now)))
		}
		n.after(answering, n, func() {
			end(ok)
			if ok {
				n.acknowledge(changes)
				n.logf(n, "acknowledges %s of %v", x.what, x.row)
			}
		})
	}
	if result != failed {
		sending := n.delay()
		if result == unknown && n.chance(0.5) {
			sending = n.between(0, modelLease)
		}
		n.after(sending, nil, func() {
			rows, ok := x.commit()
			n.logf(n, "its %s of %v succeeds: %v, and changes %v", x.what, x.row, ok, rows)
			var changes []change
			for _, r := range rows {
				changes = append(changes, change{r, len(r.states) - 1})
			}
			crashes := n.db.crashes
			n.after(n.delay(), nil, func() {
				switch {
				case n.db.crashes == crashes:
					if len(changes) > 0 {
						n.db.unflushed = nil
					}
					tell(ok, changes)
				case result != unknown:
					lost()
				}
			})
			if n.now < modelActive && n.chance(n.profile.crashing) {
				n.after(n.between(0, 3*time.Millisecond), nil, n.db.crash)
			}
			n.onlookers(x.row)
		})
	}
	if result == failed || result == unknown {
		lost()
	}
}

// onlookers read a session while it is written.
func (n *simNode) onlookers(r *simRow) {
	for _, other := range n.nodes {
		if r != nil && n.now < modelActive && n.chance(0.15) {
			n.after(n.between(0, 2*time.Millisecond), other, func() { other.read(r, 0) })
		}
	}
}

// later is a version after v. A crash may undo one that others have read, so the
// next one must not be the same.
func (n *simNode) later(v int64) int64 { return v + 1 + n.rng.Int64N(1<<40) }

// create makes a session, whose key nobody else knows before that.
func (n *simNode) create() {
	var after Row
	user, idle, lifetime := n.someUser(), n.profile.idle(n.sim), n.profile.lifetime(n.sim)
	key := n.db.newKey()
	t := n.c.Reserve(key)
	n.write(transaction{what: "creation", w: n.c.Begin(), commit: func() ([]*simRow, bool) {
		r := n.db.create(key, user, idle, lifetime)
		n.db.unflushed = nil // nobody sees it before it is durable
		after, _ = n.db.read(r, t.Server())
		return []*simRow{r}, true
	}, answer: func() { n.c.Fill(t, after) }})
}

// save writes a session as a request does that has read it, or whatever it is
// (put).
func (n *simNode) save(r *simRow, put bool) {
	basis := n.basis(r)
	idle := time.Duration(0)
	if n.chance(0.3) {
		idle = n.between(0, modelLease) // maybe sooner than it was
	}
	var after Row
	sender := n.c.Sender()
	begin := n.c.BeginSave
	if put {
		begin = func(key session.Key) *Write { return n.c.Begin(key) }
	}
	w := begin(r.key)
	server := w.Server()
	n.write(transaction{what: "save", row: r, w: w, commit: func() ([]*simRow, bool) {
		if put {
			basis = simBasis{r.last().version, r.last().data}
		}
		if !n.replace(r, basis, idle) {
			return nil, false
		}
		n.db.notify(sender.Keys(r.key)...)
		after, _ = n.db.read(r, server)
		return []*simRow{r}, true
	}, answer: func() {
		if !put {
			n.know(r, after)
			w.Wrote(after)
		}
	}})
}

// replace gives r another content, if it has the version of basis.
func (n *simNode) replace(r *simRow, basis simBasis, idle time.Duration) bool {
	if !n.db.live(r) || r.last().version != basis.version {
		return false
	}
	n.checkBasis(r, basis)
	n.db.change(r, func(st *rowState) {
		st.version, st.data = n.later(st.version), n.db.content()
		if idle > 0 {
			st.expires = min(n.now+idle, st.deadline)
		}
	})
	return true
}

// destroy ends the session that r stands for, one renewal after the other. It
// sends a message even if that has ended: the node that did it may not know yet.
func (n *simNode) destroy(r *simRow) {
	var next *simRow
	sender := n.c.Sender()
	n.write(transaction{what: "destroy", row: r, w: n.c.Begin(r.key), commit: func() ([]*simRow, bool) {
		n.db.notify(sender.Keys(r.key)...)
		if next = n.db.byKey[r.last().next]; next != nil {
			return nil, true
		}
		n.db.change(r, func(st *rowState) { st.ended = true })
		return []*simRow{r}, true
	}, answer: func() {
		if next != nil {
			n.destroy(next)
		}
	}})
}

// renew gives a session a new key; the old one leads there for a while.
func (n *simNode) renew(r *simRow) {
	basis := n.basis(r)
	grace := max(0, n.between(-modelLease, 2*modelLease))
	idle, lifetime := n.profile.idle(n.sim), n.profile.lifetime(n.sim)
	sender := n.c.Sender()
	key := n.db.newKey()
	var after Row
	t, w := n.c.Reserve(key), n.c.Begin(r.key)
	n.write(transaction{what: "renewal", row: r, w: w, commit: func() ([]*simRow, bool) {
		if !n.db.live(r) || r.last().version != basis.version {
			return nil, false
		}
		n.checkBasis(r, basis)
		next := n.db.create(key, r.user, idle, lifetime)
		n.db.change(r, func(st *rowState) {
			st.ended, st.next, st.grace = true, next.key, min(n.now+grace, st.deadline)
		})
		n.db.notify(sender.Keys(r.key)...)
		after, _ = n.db.read(next, t.Server())
		return []*simRow{r, next}, true
	}, answer: func() { n.c.Fill(t, after) }})
}

// limit ends all sessions of a user but one, which the transaction finds out
// about before it is committed.
func (n *simNode) limit(user string) {
	sender := n.c.Sender()
	w := n.c.Begin()
	n.after(n.delay(), nil, func() {
		var victims []*simRow
		for _, r := range n.db.rows {
			if n.db.live(r) && r.user == user {
				victims = append(victims, r)
			}
		}
		if len(victims) < 2 {
			n.after(n.delay(), n, w.End)
			return
		}
		victims = slices.Clone(victims[1:])
		n.after(n.delay(), n, func() {
			for _, r := range victims {
				w.Add(r.key)
			}
			n.write(transaction{what: "limit of " + user, row: victims[0], w: w, answer: func() {}, commit: func() ([]*simRow, bool) {
				var keys []session.Key
				for _, r := range victims {
					keys = append(keys, r.key)
				}
				n.db.notify(sender.Keys(keys...)...)
				return n.endAll(func(r *simRow) bool { return slices.Contains(victims, r) }), true
			}})
		})
	})
}

// endUser ends the sessions of a user, except one perhaps.
func (n *simNode) endUser(user string) {
	var except *simRow
	if n.chance(0.3) {
		except = n.someRow()
	}
	sender := n.c.Sender()
	n.write(transaction{what: "end of all sessions of " + user, row: n.someRow(), w: n.c.BeginUser(user), answer: func() {}, commit: func() ([]*simRow, bool) {
		n.db.notify(sender.User(user))
		return n.endAll(func(r *simRow) bool { return r.user == user && r != except }), true
	}})
}

// clear ends all sessions.
func (n *simNode) clear() {
	sender := n.c.Sender()
	n.write(transaction{what: "end of all sessions", row: n.someRow(), w: n.c.BeginAll(), answer: func() {}, commit: func() ([]*simRow, bool) {
		n.db.notify(sender.All())
		return n.endAll(func(*simRow) bool { return true }), true
	}})
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

// touch moves the expiry forward. It sends no message, and nobody waits until it
// is durable.
func (n *simNode) touch(r *simRow) {
	wanted := n.now + n.between(0, 20*time.Second)
	n.write(transaction{what: "touch", row: r, w: n.c.Begin(), commit: func() ([]*simRow, bool) {
		if !n.db.live(r) {
			return nil, false
		}
		n.db.change(r, func(st *rowState) { st.expires = max(st.expires, min(wanted, st.deadline)) })
		return nil, true
	}, answer: func() {
		// The database has cut it to the deadline; the cache does it too.
		w := simRead{row: r, since: n.now, floor: n.seen[r]}
		if expires, ok := n.c.Extend(r.key, n.db.clock(wanted)); ok {
			n.checkExtended(w, expires)
		}
	}, failure: func() { n.invalidate(r) }})
}

// writtenByStranger is a write of a node of a later version, whose messages
// nobody here knows.
func (db *simDB) writtenByStranger(r *simRow) {
	if !db.live(r) {
		return
	}
	db.change(r, func(st *rowState) { st.ended = true })
	db.unflushed = nil
	db.notify([]string{"2k" + encoding.EncodeToString(make([]byte, 24)), "1x", "", "1k AAAA"}[db.rng.IntN(4)])
}
